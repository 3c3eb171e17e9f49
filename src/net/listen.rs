//! The accept loop of a listener.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream as Unwatched};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::accepted::Accepted;
use super::descriptors::Descriptors;
use super::socket_limiter::{Full, SlotHolder, SocketLimiter};
use super::subject;
use super::tls::Tls;
use crate::clock::{Elapsed, timeout};
use crate::error::Error;
use crate::telemetry::Metrics;

/// The most sockets that are handshaking, not upgraded yet, or speaking plain HTTP, in addition to
/// the hub's connection limit.
pub(crate) const HANDSHAKES: usize = 1024;
/// The same per address, in addition to the hub's limit per address.
pub(crate) const HANDSHAKES_EACH: usize = 128;
/// The timeout of a TLS handshake and of a request's head.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many connections are accepted before yielding to the runtime. This keeps a flood of new
/// connections from starving established ones. The flood waits in the kernel's backlog.
const ACCEPT_BURST: u32 = 8;
/// The pause after `accept` failed for lack of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The minimum interval between two log lines about failed accepts.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How many sockets with one of the last descriptors are served at once, per listener.
const MAX_SHORT: usize = 16;
/// The time limit for serving one of them.
const SHORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an evicted connection may finish its current write.
pub(crate) const EVICTION_GRACE: Duration = Duration::from_secs(1);

/// An accepted socket, before its request is known.
#[derive(Clone)]
pub(crate) struct SocketInfo {
    pub(crate) address: SocketAddr,
    /// Its entry in the socket limiter.
    pub(crate) holder: Arc<SlotHolder>,
    /// It has one of the last file descriptors, so it gets only a short response.
    pub(crate) short: bool,
}

/// The peer of a connection.
pub(crate) struct Peer {
    pub(crate) info: SocketInfo,
    /// The subject of its client certificate, if it presented one.
    pub(crate) name: Option<Arc<str>>,
}

/// Serves a listener's connections, with or without TLS.
pub(crate) trait Serve: Send + Sync + 'static {
    /// The counters.
    fn metrics(&self) -> &Metrics;

    /// Records that a connection from this address was refused.
    fn note_rejection(&self, address: SocketAddr, error: &Error);

    /// The most sockets of this address.
    fn most_of(&self, address: IpAddr) -> Option<usize>;

    /// The configuration keys of the socket limits: in total, and per address.
    fn limits(&self) -> [&'static str; 2];

    /// Serves one connection without TLS until it closes.
    fn serve_tcp(
        self: &Arc<Self>,
        socket: Unwatched,
        info: SocketInfo,
    ) -> impl Future<Output = ()> + Send {
        async move {
            if let Some(socket) = watched(Accepted::Unwatched(socket), info.address) {
                let peer = Peer { info, name: None };
                self.serve(socket, peer).await;
            }
        }
    }

    /// Serves one connection until it closes.
    fn serve<S>(self: &Arc<Self>, socket: S, peer: Peer) -> impl Future<Output = ()> + Send
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static;
}

/// A listening socket and its settings.
pub(crate) struct Listener {
    pub(crate) socket: AsyncFd<TcpListener>,
    pub(crate) tls: Option<Tls>,
    pub(crate) limiter: Arc<SocketLimiter>,
    pub(crate) descriptors: Descriptors,
}

/// Accepts connections until the server closes.
pub(crate) async fn listen<T: Serve>(
    listener: Listener,
    server: T,
    closing: CancellationToken,
    tasks: TaskTracker,
) {
    let server = Arc::new(server);
    let last = Arc::new(Semaphore::new(MAX_SHORT));
    let mut errors = AcceptErrors::default();
    let mut burst = 0_u32;
    while let Some((socket, address)) =
        accept(&listener, &closing, server.metrics(), &mut errors).await
    {
        burst = (burst + 1) % ACCEPT_BURST;
        if burst == 0 {
            tokio::task::yield_now().await;
        }
        let short = listener.descriptors.is_last(&socket);
        if short {
            server.metrics().limit_reached("descriptors");
            listener.limiter.evict_longest_idle();
        }
        // Above the limit, the socket is closed at once, and nothing is read from it.
        let most = server.most_of(address.ip());
        let slot = match listener.limiter.take(address.ip(), most, &closing) {
            Ok(slot) => slot,
            Err(full) => {
                refuse_socket(&*server, address, full);
                continue;
            }
        };
        let permit = short.then(|| Arc::clone(&last).try_acquire_owned());
        let Ok(permit) = permit.transpose() else {
            continue;
        };
        let acceptor = listener.tls.as_ref().map(Tls::acceptor);
        let server = Arc::clone(&server);
        tasks.spawn(async move {
            let info = SocketInfo {
                address,
                holder: Arc::clone(slot.holder()),
                short,
            };
            let serve = async {
                match acceptor {
                    None => server.serve_tcp(socket, info.clone()).await,
                    Some(tls) => Box::pin(over_tls(&server, tls, socket, info.clone())).await,
                }
            };
            tokio::select! {
                () = serve => {}
                () = until_must_close(&info) => {}
            }
            drop((slot, permit));
        });
    }
}

/// Waits until a connection must be closed, whatever its state.
async fn until_must_close(info: &SocketInfo) {
    if info.short {
        tokio::time::sleep(SHORT_TIMEOUT).await;
    } else {
        info.holder.wait_until_evicted().await;
        tokio::time::sleep(EVICTION_GRACE).await;
    }
}

/// Serves a connection after its TLS handshake.
async fn over_tls<T: Serve>(
    server: &Arc<T>,
    tls: TlsAcceptor,
    socket: Unwatched,
    info: SocketInfo,
) {
    let address = info.address;
    let Some(socket) = watched(Accepted::Unwatched(socket), address) else {
        return;
    };
    match timeout(HANDSHAKE, tls.accept(socket)).await {
        Ok(Ok(socket)) => {
            let shown = socket.get_ref().1.peer_certificates();
            let name = shown.and_then(|chain| subject::of(chain.first()?));
            let peer = Peer { info, name };
            server.serve(socket, peer).await;
        }
        Ok(Err(error)) => tls_failed(&**server, address, &error.to_string()),
        Err(Elapsed) => tls_failed(&**server, address, "it took too long"),
    }
}

/// Registers the socket with the runtime.
pub(crate) fn watched(accepted: Accepted, address: SocketAddr) -> Option<TcpStream> {
    let broke = |error: &io::Error| tracing::debug!(%address, %error, "a connection broke");
    accepted.watched().inspect_err(broke).ok()
}

/// Records that a socket was refused.
fn refuse_socket<T: Serve>(server: &T, address: SocketAddr, full: Full) {
    let [all, of_address] = server.limits();
    let (limit, text) = match full {
        Full::All => ("sockets", format!("too many sockets ({all})")),
        Full::Address => (
            "sockets_per_ip",
            format!("too many sockets of this address ({of_address})"),
        ),
    };
    server.metrics().limit_reached(limit);
    server.note_rejection(address, &Error::exhausted(text));
}

/// Records that a TLS handshake failed.
fn tls_failed<T: Serve>(server: &T, address: SocketAddr, reason: &str) {
    tracing::debug!(%address, reason, "no TLS");
    let error = Error::denied(format!("the TLS handshake failed: {reason}"));
    server.note_rejection(address, &error);
}

/// Rate-limits the log lines about failed accepts.
#[derive(Default)]
struct AcceptErrors {
    /// When the last line was logged.
    last_logged: Option<Instant>,
    /// Failures since then.
    unlogged: u64,
}

impl AcceptErrors {
    /// Logs a failure, at most once per second.
    fn log(&mut self, error: &std::io::Error) {
        self.unlogged += 1;
        if self
            .last_logged
            .is_none_or(|last_logged| last_logged.elapsed() >= LOG_INTERVAL)
        {
            let count = self.unlogged;
            tracing::warn!(%error, count, "connections could not be accepted");
            (self.last_logged, self.unlogged) = (Some(Instant::now()), 0);
        }
    }
}

/// The next connection, or `None` when the server closes.
async fn accept(
    listener: &Listener,
    closing: &CancellationToken,
    metrics: &Metrics,
    errors: &mut AcceptErrors,
) -> Option<(Unwatched, SocketAddr)> {
    loop {
        let accepted = listener
            .socket
            .async_io(Interest::READABLE, TcpListener::accept);
        match closing.run_until_cancelled(accepted).await? {
            // A dual-stack socket reports IPv4 addresses in their IPv6-mapped form.
            Ok((socket, address)) => {
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                return Some((socket, address));
            }
            Err(error) => {
                errors.log(&error);
                metrics.accept_error();
                if is_shortage(&error) {
                    // Other sockets must close first.
                    listener.limiter.evict_longest_idle();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                } else {
                    // Only this connection failed.
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

/// Whether the system lacks resources, as opposed to a failure of one connection.
fn is_shortage(error: &io::Error) -> bool {
    let number = error
        .raw_os_error()
        .map(rustix::io::Errno::from_raw_os_error);
    number.is_none_or(|number| {
        use rustix::io::Errno;
        !matches!(
            number,
            Errno::CONNABORTED | Errno::CONNRESET | Errno::INTR | Errno::PERM | Errno::PROTO
        )
    })
}
