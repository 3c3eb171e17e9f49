//! The server process: builds the parts, binds the listeners, reloads and drains.

mod assemble;
mod described;
mod facts;
mod internal;
mod observer;
mod public;
mod rehearsal;
mod serve;
mod stores;
mod tls;
mod webhooks;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::{Record, What};
use crate::clock::uptime;
use crate::config::Config;
use crate::lifecycle::{Departure, Lifecycle};
use crate::net::descriptors::{self, Descriptors};
use crate::net::listen;
use crate::net::socket_limiter::SocketLimiter;
use crate::session::Services;
use crate::telemetry::Stalled;
use crate::transport::http::DevGuide;

pub use assemble::Assembled;
pub use described::{asyncapi_settings, catalog};
pub use rehearsal::rehearse;

/// The accept backlog. The kernel may use less. Beyond it, a client's SYN is dropped and retried
/// after a second or more; many clients arrive at once when another server has failed.
pub const BACKLOG: u32 = 4096;
/// The interval of the sweep of expired data.
const SWEEP: Duration = Duration::from_secs(1);
/// How late a sweep must be to count as a stall.
const STALL: Duration = Duration::from_secs(1);
/// The timeout for exporting the remaining spans at shutdown.
const FLUSH: Duration = Duration::from_secs(2);

/// The options of `serve`.
pub struct ServeOptions {
    /// The configuration.
    pub config: Config,
    /// Whether undeclared namespaces are open, anonymous clients are admitted, and the demo page is
    /// served.
    pub dev: bool,
    /// With `dev`: what the page for newcomers says. The address of the internal listener is added.
    pub guide: Option<DevGuide>,
    /// Where to write the bound addresses, once both listeners accept.
    pub ready_file: Option<PathBuf>,
    /// Loads the configuration again on SIGHUP. The error describes the problem.
    pub reload: Box<dyn Fn() -> Result<Config, String> + Send + Sync>,
    /// Called once both listeners accept.
    pub on_ready: Box<dyn FnOnce(Bound) + Send>,
}

/// The addresses that were bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Bound {
    /// For browsers and the HTTP API.
    pub public: SocketAddr,
    /// For gRPC and metrics.
    pub internal: SocketAddr,
}

/// Why the server did not start.
#[derive(Debug)]
pub struct StartError(String);

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

impl StartError {
    fn new(what: impl std::fmt::Display) -> Self {
        StartError(what.to_string())
    }

    fn at(context: &str) -> impl Fn(io::Error) -> Self {
        let context = context.to_owned();
        move |error| StartError(format!("{context}: {error}"))
    }
}

/// The most sockets of both listeners.
fn sockets(config: &Config) -> usize {
    let public = config.limits.connections.saturating_add(listen::HANDSHAKES);
    public.saturating_add(config.internal.connections)
}

/// The number of file descriptors that the configured limits may use.
#[must_use]
pub fn needed_descriptors(config: &Config) -> u64 {
    descriptors::needed(sockets(config))
}

/// A running server.
pub struct Server {
    bound: Bound,
    assembled: Arc<Assembled>,
    tls: tls::Listeners,
    lifecycle: Arc<Lifecycle>,
    /// Cancelled when connections must close.
    closing: CancellationToken,
    tasks: TaskTracker,
    drain: Duration,
    drain_delay: Duration,
}

impl Server {
    /// Builds all parts and binds both listeners. From then on, connections are accepted.
    ///
    /// # Errors
    /// Names the key or address that is unusable.
    pub async fn start(
        config: &Config,
        dev: bool,
        guide: Option<DevGuide>,
    ) -> Result<Server, StartError> {
        tls::install_crypto();
        let lifecycle = Arc::new(Lifecycle::default());
        let public = bind("public.listen", config.public.listen)?;
        let internal = bind("internal.listen", config.internal.listen)?;
        let bound = Bound {
            public: public
                .get_ref()
                .local_addr()
                .map_err(StartError::at("public.listen"))?,
            internal: internal
                .get_ref()
                .local_addr()
                .map_err(StartError::at("internal.listen"))?,
        };
        let tls = tls::Listeners::load(config)?;
        let assembled = Arc::new(assemble::assemble(config, dev, Arc::clone(&lifecycle)).await?);
        // Before anything is accepted: a revoked token must never be taken for a good one.
        let revocations = assembled.services.verifier.load_revocations();
        revocations.await.map_err(StartError::new)?;
        let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
        let facts = facts::facts(config, dev, bound);
        assembled.services.facts.store(Arc::new(facts));
        let server = Server {
            bound,
            assembled: Arc::clone(&assembled),
            tls: tls::Listeners {
                public: tls.public.clone(),
                internal: tls.internal.clone(),
            },
            lifecycle: Arc::clone(&lifecycle),
            closing: closing.clone(),
            tasks: tasks.clone(),
            drain: config.server.drain,
            drain_delay: config.server.drain_delay,
        };
        let guide = guide.map(|guide| {
            Arc::new(DevGuide {
                internal: bound.internal.to_string(),
                ..guide
            })
        });
        let front = public::Public::new(&assembled, config, guide, Arc::clone(&lifecycle));
        let back = internal::Internal::new(&assembled, config, lifecycle);
        let limit = config.limits.connections.saturating_add(listen::HANDSHAKES);
        let descriptors = Descriptors::raise(sockets(config));
        let metrics = &assembled.services.metrics;
        let public = listen::Listener {
            socket: public,
            tls: tls.public,
            limiter: SocketLimiter::new(limit, false, metrics),
            descriptors,
        };
        let internal = listen::Listener {
            socket: internal,
            tls: tls.internal,
            limiter: SocketLimiter::new(config.internal.connections, true, metrics),
            descriptors,
        };
        let (until, with) = (closing.clone(), tasks.clone());
        tasks.spawn(listen::listen(public, front, until, with));
        let (until, with) = (closing.clone(), tasks.clone());
        tasks.spawn(listen::listen(internal, back, until, with));
        let verifier = Arc::clone(&assembled.services.verifier);
        let until = closing.clone();
        tasks.spawn(async move {
            until.run_until_cancelled(verifier.keep_fresh()).await;
        });
        assembled.serve().await;
        assembled.run_sources(config);
        tasks.spawn(sweep(Arc::clone(&assembled), closing));
        let audit = &server.services().audit;
        audit.note(What::Start, &Record::default());
        Ok(server)
    }

    /// The addresses that were bound.
    #[must_use]
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// State shared by the transports.
    #[must_use]
    pub fn services(&self) -> &Arc<Services> {
        &self.assembled.services
    }

    /// Applies another configuration: namespaces, event types, keys, limits, certificates.
    ///
    /// # Errors
    /// Describes the problem. The old configuration stays in effect.
    pub fn reload(&self, config: &Config) -> Result<(), StartError> {
        let renewed = tls::Renewed::load(config)?;
        self.assembled.reload(config)?;
        self.assembled.run_sources(config);
        let facts = facts::facts(config, self.assembled.is_dev(), self.bound);
        self.services().facts.store(Arc::new(facts));
        self.tls.renew(renewed);
        Ok(())
    }

    /// Drains the server. First, load balancers are told to send no more clients, while everything
    /// is still served. Then no new connections are admitted, open connections are closed one after
    /// the other, and published events are flushed. Ends when all connections are closed, or when
    /// the drain time is over. Until then, the listeners respond.
    pub async fn shutdown(self) {
        let ends = Instant::now() + self.drain;
        self.lifecycle.not_ready();
        self.assembled.not_ready().await;
        self.assembled.leave().await;
        tokio::time::sleep(self.drain_delay).await;
        // While clients are still connected: what was read is delivered and acknowledged. Nothing is
        // lost if it takes longer: the next start or another node reads it again.
        // They get half of the time that is left.
        let most = ends.saturating_duration_since(Instant::now()) / 2;
        let stopping = self.assembled.stop_sources();
        if tokio::time::timeout(most, stopping).await.is_err() {
            tracing::warn!("the sources could not finish what they had read");
        }
        let hub = &self.services().hub;
        let window = ends.saturating_duration_since(Instant::now());
        let elsewhere = !self.drain_delay.is_zero();
        let departure = Departure::begin(hub.permits().connections(), window, elsewhere);
        self.lifecycle.leave(departure);
        self.assembled.drain().await;
        hub.drain(departure, window).await;
        let fetched = tokio::time::timeout_at(ends.into(), self.assembled.socketio.deserted());
        if fetched.await.is_err() {
            tracing::info!("some polling clients did not fetch the end of their connections");
        }
        self.closing.cancel();
        self.tasks.close();
        if tokio::time::timeout(Duration::from_secs(1), self.tasks.wait())
            .await
            .is_err()
        {
            tracing::info!("some requests were still in progress");
        }
        let services = Arc::clone(self.services());
        let stopped = tokio::task::spawn_blocking(move || {
            // Stop the store first: events that it has accepted must still be delivered.
            services.broker.close();
            services.hub.stop();
        });
        if stopped.await.is_err() {
            tracing::error!("the shards could not be stopped");
        }
        if let Some(webhooks) = &self.services().webhooks {
            webhooks.close(FLUSH).await;
        }
        let audit = &self.services().audit;
        audit.note(What::Stop, &Record::default());
        audit.flush(FLUSH).await;
        self.services().tracing.shutdown(FLUSH).await;
    }
}

/// Binds a listener. Its accepted sockets are not registered with the runtime.
fn bind(key: &str, address: SocketAddr) -> Result<AsyncFd<TcpListener>, StartError> {
    let named = format!("{key} = {address}");
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?.into_std()?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types that change their descriptor; this one doesn't"
        )]
        AsyncFd::with_interest(TcpListener::from_std(listener), Interest::READABLE)
    };
    let listener = listen().map_err(StartError::at(&named))?;
    // Each frame is a complete message, so Nagle's algorithm would only delay it. Accepted sockets
    // inherit TCP_NODELAY, which saves a system call per connection.
    SockRef::from(listener.get_ref())
        .set_tcp_nodelay(true)
        .map_err(StartError::at(&named))?;
    Ok(listener)
}

/// Sweeps expired data incrementally once per second, and updates gRPC's health service when the
/// store becomes available or unavailable.
async fn sweep(assembled: Arc<Assembled>, closing: CancellationToken) {
    let services = &assembled.services;
    let mut available = true;
    let mut second = tokio::time::interval(SWEEP);
    // Missed ticks need no catching up: one sweep is enough.
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = uptime();
    while closing.run_until_cancelled(second.tick()).await.is_some() {
        let now = uptime();
        let late = now.saturating_sub(last).saturating_sub(SWEEP);
        last = now;
        if late >= STALL {
            services.metrics.stalled(Stalled::Runtime);
            let ms = late.as_millis();
            tracing::warn!(
                ms,
                "the server did not run for a while; its clients' deadlines are extended"
            );
        }
        services.broker.sweep();
        services.cursors.sweep();
        services.sweep();
        assembled.socketio.sweep();
        if services.broker.is_available() != available {
            available = !available;
            assembled.publishes(available).await;
        }
    }
}

/// Runs a server until it is told to stop. The first SIGTERM or SIGINT drains, a second one stops
/// immediately. SIGHUP reloads.
///
/// # Errors
/// Describes why it could not start.
pub async fn run(options: ServeOptions) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::at("SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::at("SIGINT"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(StartError::at("SIGHUP"))?;
    let server = Server::start(&options.config, options.dev, options.guide).await?;
    let bound = server.bound();
    tracing::info!(public = %bound.public, internal = %bound.internal, "ready");
    if let Some(path) = &options.ready_file {
        write_ready_file(path, bound)?;
    }
    (options.on_ready)(bound);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(&server, &*options.reload),
        }
    }
    tracing::info!("draining");
    tokio::select! {
        () = server.shutdown() => tracing::info!("stopped"),
        _ = terminate.recv() => tracing::warn!("stopped at once"),
        _ = interrupt.recv() => tracing::warn!("stopped at once"),
    }
    Ok(())
}

fn reload(server: &Server, load: &(dyn Fn() -> Result<Config, String> + Send + Sync)) {
    let outcome = load().and_then(|config| {
        for warning in config.warnings() {
            tracing::warn!(warning, "a warning about the new configuration");
        }
        server.reload(&config).map_err(|error| error.to_string())
    });
    let services = server.services();
    // Log rotation tools send the same signal.
    services.audit.reopen();
    services.metrics.reloaded(outcome.is_ok());
    let reason = match &outcome {
        Ok(()) => "taken over",
        Err(error) => error,
    };
    let record = Record {
        reason: Some(reason),
        by: Some("SIGHUP"),
        ..Record::default()
    };
    services.audit.note(What::Reload, &record);
    match outcome {
        Ok(()) => tracing::info!("the configuration was reloaded"),
        Err(error) => tracing::error!(
            error,
            "the configuration was not reloaded: the old one stays"
        ),
    }
}

/// Written to a temporary file and renamed, so that a reader never sees a partial file.
fn write_ready_file(path: &std::path::Path, bound: Bound) -> Result<(), StartError> {
    let failed = StartError::at("--ready-file");
    let text = serde_json::to_string(&bound).map_err(StartError::new)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    // Created exclusively, so that an existing symlink is not followed.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = std::fs::File::create_new(&beside).map_err(&failed)?;
    file.write_all(text.as_bytes()).map_err(&failed)?;
    std::fs::rename(&beside, path).map_err(&failed)
}
