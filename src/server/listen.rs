//! Accepting connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream as Unwatched};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::arrival::Arrival;
use super::room::{Full, Room};
use super::subject;
use super::tls::Tls;
use crate::clock::{Elapsed, timeout};
use crate::error::Error;
use crate::session::Services;

/// Connections that may be between their TCP handshake and their upgrade, or speak plain HTTP,
/// beyond those that the limits allow on the bus.
pub(super) const HANDSHAKES: usize = 1024;
/// How many of them one address may have, beyond those that the limits allow it on the bus.
pub(super) const HANDSHAKES_EACH: usize = 128;
/// How long a TLS handshake or the head of a request may take.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many connections are accepted one behind the other. Then all that is ready to run has its
/// turn, so that nobody who is connected waits for a flood of those who want to be; those wait in
/// the system's queue.
const BURST: u32 = 8;
/// How long nothing is accepted after the system gave no socket.
const PAUSE: Duration = Duration::from_millis(50);
/// How often it is told that connections can't be accepted.
const TELL: Duration = Duration::from_secs(1);

/// Who is at the other end.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Whom its certificate names, where it showed one.
    pub(super) name: Option<Arc<str>>,
}

/// What a listener's connections are served by, whatever carries them.
pub(super) trait Serve: Send + Sync + 'static {
    /// What all transports share.
    fn services(&self) -> &Arc<Services>;

    /// The most sockets of this address.
    fn most_of(&self, address: IpAddr) -> Option<usize>;

    /// Serves one connection without TLS to its end.
    fn meet(
        self: &Arc<Self>,
        socket: Unwatched,
        address: SocketAddr,
        closing: &CancellationToken,
    ) -> impl Future<Output = ()> + Send {
        async move {
            if let Some(socket) = watched(Arrival::Unwatched(socket), address) {
                let peer = Peer {
                    address,
                    name: None,
                };
                self.serve(socket, peer, closing).await;
            }
        }
    }

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
    listener: AsyncFd<TcpListener>,
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
                None => server.meet(socket, address, &closing).await,
                Some(tls) => Box::pin(over_tls(&server, tls, socket, address, &closing)).await,
            }
            drop(place);
        });
    }
}

/// Serves a connection behind its TLS handshake.
async fn over_tls<T: Serve>(
    server: &Arc<T>,
    tls: TlsAcceptor,
    socket: Unwatched,
    address: SocketAddr,
    closing: &CancellationToken,
) {
    let Some(socket) = watched(Arrival::Unwatched(socket), address) else {
        return;
    };
    match timeout(HANDSHAKE, tls.accept(socket)).await {
        Ok(Ok(socket)) => {
            let shown = socket.get_ref().1.peer_certificates();
            let name = shown.and_then(|chain| subject::of(chain.first()?));
            let peer = Peer { address, name };
            server.serve(socket, peer, closing).await;
        }
        Ok(Err(error)) => no_tls(server.services(), address, &error.to_string()),
        Err(Elapsed) => no_tls(server.services(), address, "it took too long"),
    }
}

/// The socket, watched by the runtime.
pub(super) fn watched(arrival: Arrival, address: SocketAddr) -> Option<TcpStream> {
    let broke = |error: &io::Error| tracing::debug!(%address, %error, "a connection broke");
    arrival.watched().inspect_err(broke).ok()
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
    listener: &AsyncFd<TcpListener>,
    closing: &CancellationToken,
    services: &Services,
    trouble: &mut Trouble,
) -> Option<(Unwatched, SocketAddr)> {
    loop {
        let accepted = listener.async_io(Interest::READABLE, TcpListener::accept);
        match closing.run_until_cancelled(accepted).await? {
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
