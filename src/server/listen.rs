//! Accepting connections.

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
use super::socket_limiter::{Full, Occupant, SocketLimiter};
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

/// Sockets with one of the last descriptors that are answered at once; of each listener.
const LAST: usize = 16;
/// How long the answer to one of them may take.
const SHORT: Duration = Duration::from_secs(5);
/// How long a connection that was told to leave may still write what it has begun, where somebody
/// waits for its place.
pub(super) const LEAVING: Duration = Duration::from_secs(1);

/// A socket that has come.
#[derive(Clone)]
pub(super) struct Visitor {
    pub(super) address: SocketAddr,
    /// Its place.
    pub(super) occupant: Arc<Occupant>,
    /// There are no descriptors for more than a short answer.
    pub(super) short: bool,
}

/// Who is at the other end.
pub(super) struct Peer {
    pub(super) visitor: Visitor,
    /// Whom its certificate names, where it showed one.
    pub(super) name: Option<Arc<str>>,
}

/// What a listener's connections are served by, whatever carries them.
pub(super) trait Serve: Send + Sync + 'static {
    /// What all transports share.
    fn services(&self) -> &Arc<Services>;

    /// The most sockets of this address.
    fn most_of(&self, address: IpAddr) -> Option<usize>;

    /// The keys of the limits on sockets: in all, and of one address.
    fn limits(&self) -> [&'static str; 2];

    /// Serves one connection without TLS to its end.
    fn serve_tcp(
        self: &Arc<Self>,
        socket: Unwatched,
        visitor: Visitor,
    ) -> impl Future<Output = ()> + Send {
        async move {
            if let Some(socket) = watched(Accepted::Unwatched(socket), visitor.address) {
                let peer = Peer {
                    visitor,
                    name: None,
                };
                self.serve(socket, peer).await;
            }
        }
    }

    /// Serves one connection to its end.
    fn serve<S>(self: &Arc<Self>, socket: S, peer: Peer) -> impl Future<Output = ()> + Send
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static;
}

/// The socket on which connections come, and what they find there.
pub(super) struct Listener {
    pub(super) socket: AsyncFd<TcpListener>,
    pub(super) tls: Option<Tls>,
    pub(super) room: Arc<SocketLimiter>,
    pub(super) descriptors: Descriptors,
}

/// Accepts connections until the server closes.
pub(super) async fn listen<T: Serve>(
    listener: Listener,
    server: T,
    closing: CancellationToken,
    tasks: TaskTracker,
) {
    let server = Arc::new(server);
    let last = Arc::new(Semaphore::new(LAST));
    let mut trouble = Trouble::default();
    let mut burst = 0_u32;
    while let Some((socket, address)) =
        accept(&listener, &closing, server.services(), &mut trouble).await
    {
        burst = (burst + 1) % BURST;
        if burst == 0 {
            tokio::task::yield_now().await;
        }
        let short = listener.descriptors.is_last(&socket);
        if short {
            server.services().metrics.limit_reached("descriptors");
            listener.room.make_some_room();
        }
        // Beyond the limit a socket is closed at once: nothing is read from it.
        let most = server.most_of(address.ip());
        let place = match listener.room.take(address.ip(), most, &closing) {
            Ok(place) => place,
            Err(full) => {
                no_room(&*server, address, full);
                continue;
            }
        };
        let turn = short.then(|| Arc::clone(&last).try_acquire_owned());
        let Ok(turn) = turn.transpose() else {
            continue;
        };
        let acceptor = listener.tls.as_ref().map(Tls::acceptor);
        let server = Arc::clone(&server);
        tasks.spawn(async move {
            let visitor = Visitor {
                address,
                occupant: Arc::clone(place.occupant()),
                short,
            };
            let serve = async {
                match acceptor {
                    None => server.serve_tcp(socket, visitor.clone()).await,
                    Some(tls) => Box::pin(over_tls(&server, tls, socket, visitor.clone())).await,
                }
            };
            tokio::select! {
                () = serve => {}
                () = must_go(&visitor) => {}
            }
            drop((place, turn));
        });
    }
}

/// Waits until a connection must go, whatever it is at.
async fn must_go(visitor: &Visitor) {
    if visitor.short {
        tokio::time::sleep(SHORT).await;
    } else {
        visitor.occupant.made_room().await;
        tokio::time::sleep(LEAVING).await;
    }
}

/// Serves a connection behind its TLS handshake.
async fn over_tls<T: Serve>(
    server: &Arc<T>,
    tls: TlsAcceptor,
    socket: Unwatched,
    visitor: Visitor,
) {
    let address = visitor.address;
    let Some(socket) = watched(Accepted::Unwatched(socket), address) else {
        return;
    };
    match timeout(HANDSHAKE, tls.accept(socket)).await {
        Ok(Ok(socket)) => {
            let shown = socket.get_ref().1.peer_certificates();
            let name = shown.and_then(|chain| subject::of(chain.first()?));
            let peer = Peer { visitor, name };
            server.serve(socket, peer).await;
        }
        Ok(Err(error)) => no_tls(server.services(), address, &error.to_string()),
        Err(Elapsed) => no_tls(server.services(), address, "it took too long"),
    }
}

/// The socket, watched by the runtime.
pub(super) fn watched(arrival: Accepted, address: SocketAddr) -> Option<TcpStream> {
    let broke = |error: &io::Error| tracing::debug!(%address, %error, "a connection broke");
    arrival.watched().inspect_err(broke).ok()
}

/// Notes that a socket was closed at once.
fn no_room<T: Serve>(server: &T, address: SocketAddr, full: Full) {
    let [all, of_address] = server.limits();
    let (limit, text) = match full {
        Full::All => ("sockets", format!("too many sockets ({all})")),
        Full::Address => (
            "sockets_per_ip",
            format!("too many sockets of this address ({of_address})"),
        ),
    };
    let services = server.services();
    services.metrics.limit_reached(limit);
    services.note_rejection(address, None, &Error::exhausted(text));
}

/// Notes that a TLS handshake came to nothing.
fn no_tls(services: &Services, address: SocketAddr, reason: &str) {
    tracing::debug!(%address, reason, "no TLS");
    let error = Error::denied(format!("the TLS handshake failed: {reason}"));
    services.note_rejection(address, None, &error);
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
    listener: &Listener,
    closing: &CancellationToken,
    services: &Services,
    trouble: &mut Trouble,
) -> Option<(Unwatched, SocketAddr)> {
    loop {
        let accepted = listener
            .socket
            .async_io(Interest::READABLE, TcpListener::accept);
        match closing.run_until_cancelled(accepted).await? {
            // A socket that takes both families shows addresses of IPv4 within IPv6.
            Ok((socket, address)) => {
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                return Some((socket, address));
            }
            Err(error) => {
                trouble.tell(&error);
                services.metrics.accept_error();
                if is_shortage(&error) {
                    // Others must close first.
                    listener.room.make_some_room();
                    tokio::time::sleep(PAUSE).await;
                } else {
                    // Of this one connection alone.
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

/// Whether the system has run out of something, rather than one connection having failed.
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
