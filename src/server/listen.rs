//! Accepting connections.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, server};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::internal::Internal;
use super::public::Public;
use super::room::{Full, Room};
use super::subject;
use super::tls::Tls;
use crate::error::Error;
use crate::grpc::PeerIdentity;
use crate::impatient::Impatient;
use crate::session::Services;

/// Connections that may be between their TCP handshake and their upgrade, or speak plain HTTP,
/// beyond those that the limits allow on the bus.
pub(super) const HANDSHAKES: usize = 1024;
/// How many of them one address may have, beyond those that the limits allow it on the bus.
const HANDSHAKES_EACH: usize = 128;
/// How long a TLS handshake or the head of a request may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The most headers of a request.
const MAX_HEADERS: usize = 64;
/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// The most streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 1024;
/// What may wait in one HTTP/2 stream for its reader, in bytes, however large its window.
const STREAM_BUFFER: usize = 256 * 1024;
/// How many connections are accepted one behind the other. Then all that is ready to run has its
/// turn, so that nobody who is connected waits for a flood of those who want to be; those wait in
/// the system's queue.
const BURST: u32 = 8;
/// How long nothing is accepted after the system gave no socket.
const PAUSE: Duration = Duration::from_millis(50);
/// How often it is told that connections can't be accepted.
const TELL: Duration = Duration::from_secs(1);
/// How often a silent HTTP/2 peer is pinged, and how long it may take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Who is at the other end.
pub(super) struct Peer {
    address: SocketAddr,
    /// Whom its certificate names, where it showed one.
    name: Option<Arc<str>>,
}

/// What a listener's connections are served by, whatever carries them.
pub(super) trait Serve: Send + Sync + 'static {
    /// What all transports share.
    fn services(&self) -> &Arc<Services>;

    /// The most sockets of this address.
    fn most_of(&self, address: IpAddr) -> Option<usize>;

    /// Serves one connection to its end.
    fn serve<S>(
        self: &Arc<Self>,
        socket: S,
        peer: Peer,
        closing: &CancellationToken,
    ) -> impl Future<Output = ()> + Send
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static;
}

/// Accepts connections, at most `limit` at once, until the server closes.
pub(super) async fn listen<T: Serve>(
    listener: TcpListener,
    tls: Option<Tls>,
    server: T,
    limit: usize,
    closing: CancellationToken,
    tasks: TaskTracker,
) {
    let server = Arc::new(server);
    let room = Room::new(limit);
    let mut trouble = Trouble::default();
    let mut burst = 0_u32;
    while let Some((socket, address)) =
        accept(&listener, &closing, server.services(), &mut trouble).await
    {
        burst = (burst + 1) % BURST;
        if burst == 0 {
            tokio::task::yield_now().await;
        }
        // Beyond the limit a socket is closed at once: nothing is read from it.
        let place = match room.take(address.ip(), server.most_of(address.ip())) {
            Ok(place) => place,
            Err(full) => {
                no_room(server.services(), address, &full);
                continue;
            }
        };
        let acceptor = tls.as_ref().map(Tls::acceptor);
        let (server, closing) = (Arc::clone(&server), closing.clone());
        tasks.spawn(async move {
            match acceptor {
                None => {
                    let peer = Peer {
                        address,
                        name: None,
                    };
                    server.serve(socket, peer, &closing).await;
                }
                Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(socket)).await {
                    Ok(Ok(socket)) => {
                        let shown = socket.get_ref().1.peer_certificates();
                        let name = shown.and_then(|chain| subject::of(chain.first()?));
                        let peer = Peer { address, name };
                        server.serve(socket, peer, &closing).await;
                    }
                    Ok(Err(error)) => no_tls(server.services(), address, &error.to_string()),
                    Err(_) => no_tls(server.services(), address, "it took too long"),
                },
            }
            drop(place);
        });
    }
}

/// Notes that a socket was closed at once.
fn no_room(services: &Services, address: SocketAddr, full: &Full) {
    let (limit, text) = match full {
        Full::All => ("sockets", "too many sockets (limits.connections)"),
        Full::Address => (
            "sockets_per_ip",
            "too many sockets of this address (limits.connections_per_ip)",
        ),
    };
    services.metrics.limit_reached(limit);
    services.not_let_in(address, None, &Error::exhausted(text));
}

/// Notes that a TLS handshake came to nothing.
fn no_tls(services: &Services, address: SocketAddr, reason: &str) {
    tracing::debug!(%address, reason, "no TLS");
    let error = Error::denied(format!("the TLS handshake failed: {reason}"));
    services.not_let_in(address, None, &error);
}

/// HTTP/1.1, with upgrades.
impl Serve for Public {
    fn services(&self) -> &Arc<Services> {
        self.services()
    }

    fn most_of(&self, address: IpAddr) -> Option<usize> {
        // Behind a proxy are many clients; each has its own limits once its request is read.
        let each = self.services().hub.settings().connections_per_ip;
        (!self.is_proxy(address)).then(|| each.saturating_add(HANDSHAKES_EACH))
    }

    async fn serve<S>(self: &Arc<Self>, socket: S, peer: Peer, closing: &CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let address = peer.address;
        let answer = service_fn(|request: Request<Incoming>| {
            let front = Arc::clone(self);
            async move { Ok::<_, std::convert::Infallible>(front.answer(request, address).await) }
        });
        let socket = Impatient::new(socket, &self.services().metrics);
        let connection = server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HANDSHAKE)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(socket), answer)
            .with_upgrades();
        tokio::pin!(connection);
        let outcome = tokio::select! {
            outcome = &mut connection => outcome,
            () = closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%address, %error, "a connection broke");
        }
    }
}

/// HTTP/2 and HTTP/1.1.
impl Serve for Internal {
    fn services(&self) -> &Arc<Services> {
        self.services()
    }

    fn most_of(&self, _: IpAddr) -> Option<usize> {
        // Services of one host are expected here.
        None
    }

    async fn serve<S>(self: &Arc<Self>, socket: S, peer: Peer, closing: &CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let address = peer.address;
        let certified = peer.name.map(PeerIdentity::certified);
        let answer = service_fn(|request: Request<Incoming>| {
            let (back, certified) = (Arc::clone(self), certified.clone());
            async move {
                let answer = back.answer(request, address, certified).await;
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        let mut builder = hyper_util::server::conn::auto::Builder::new(self.streams().clone());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HANDSHAKE)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buf_size(STREAM_BUFFER)
            .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        let socket = Impatient::new(socket, &self.services().metrics).speaks_within(HANDSHAKE);
        let connection = builder.serve_connection(TokioIo::new(socket), answer);
        tokio::pin!(connection);
        let outcome = tokio::select! {
            outcome = &mut connection => outcome,
            () = closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%address, %error, "a connection broke");
        }
    }
}

/// What went wrong with accepting, so that a storm of failures makes few lines.
#[derive(Default)]
struct Trouble {
    /// When it was last told.
    told: Option<Instant>,
    /// Failures since.
    untold: u64,
}

impl Trouble {
    /// Tells of a failure, at most once a second.
    fn tell(&mut self, error: &std::io::Error) {
        self.untold += 1;
        if self.told.is_none_or(|told| told.elapsed() >= TELL) {
            let count = self.untold;
            tracing::warn!(%error, count, "connections could not be accepted");
            (self.told, self.untold) = (Some(Instant::now()), 0);
        }
    }
}

/// The next connection; `None` when the server closes.
async fn accept(
    listener: &TcpListener,
    closing: &CancellationToken,
    services: &Services,
    trouble: &mut Trouble,
) -> Option<(TcpStream, SocketAddr)> {
    loop {
        match closing.run_until_cancelled(listener.accept()).await? {
            Ok(accepted) => return Some(accepted),
            Err(error) => {
                // Out of descriptors, most likely: others must close first.
                trouble.tell(&error);
                services.metrics.accept_error();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
