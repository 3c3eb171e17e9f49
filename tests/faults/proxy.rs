//! A TCP proxy in front of the server, which can freeze and break connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Small, so that the server soon notices a client that stops reading.
const BUFFER: u32 = 8 * 1024;
const PART: usize = 4 * 1024;
/// The sum of a freeze and the server's silence timeout stays below this.
const LATELY: Duration = Duration::from_secs(20);

struct Link {
    /// The client's address.
    client: Option<SocketAddr>,
    /// When it was last frozen.
    froze: Option<Instant>,
    frozen: watch::Sender<bool>,
    cut: CancellationToken,
}

struct Shared {
    target: Mutex<Option<SocketAddr>>,
    links: Mutex<BTreeMap<u64, Link>>,
    next: AtomicU64,
    tasks: TaskTracker,
}

/// A fixed address that forwards to the server's current address.
#[derive(Clone)]
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::default(),
            links: Mutex::default(),
            next: AtomicU64::new(0),
            tasks: TaskTracker::new(),
        });
        let accepting = Arc::clone(&shared);
        shared.tasks.spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let link = Arc::clone(&accepting);
                accepting
                    .tasks
                    .spawn(async move { link.carry(client).await });
            }
        });
        Proxy { address, shared }
    }

    /// Sets the target of new connections. `None` while there is no server.
    pub fn lead_to(&self, target: Option<SocketAddr>) {
        *self.shared.target.lock().unwrap() = target;
    }

    /// Breaks about this fraction of the connections.
    pub fn cut(&self, share: f64, rng: &mut Rng) {
        for link in self.shared.links.lock().unwrap().values() {
            if rng.f64() < share {
                link.cut.cancel();
            }
        }
    }

    /// Stops forwarding from the server on about this fraction of the connections. Returns a guard
    /// that ends the freeze.
    pub fn freeze(&self, share: f64, rng: &mut Rng) -> Vec<watch::Sender<bool>> {
        let mut links = self.shared.links.lock().unwrap();
        let chosen = links.values_mut().filter(|_| rng.f64() < share);
        let frozen = chosen.map(|link| {
            link.froze = Some(Instant::now());
            link.frozen.clone()
        });
        let frozen: Vec<_> = frozen.collect();
        for link in &frozen {
            link.send_replace(true);
        }
        frozen
    }

    /// True if the connection from this address was frozen so recently that the server may consider
    /// it silent.
    pub fn froze(&self, client: SocketAddr) -> bool {
        let links = self.shared.links.lock().unwrap();
        let mut its = links.values().filter(|link| link.client == Some(client));
        its.any(|link| link.froze.is_some_and(|froze| froze.elapsed() < LATELY))
    }
}

impl Shared {
    async fn carry(&self, client: TcpStream) {
        let Some(target) = *self.target.lock().unwrap() else {
            return;
        };
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(BUFFER).unwrap();
        let Ok(server) = socket.connect(target).await else {
            return;
        };
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let (freeze, frozen) = watch::channel(false);
        let cut = CancellationToken::new();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let link = Link {
            client: client.peer_addr().ok(),
            froze: None,
            frozen: freeze,
            cut: cut.clone(),
        };
        self.links.lock().unwrap().insert(id, link);
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let never = watch::channel(false).1;
        // If one direction ends, the other continues, so that the close handshake completes.
        let both = async {
            tokio::join!(
                copy(from_client, to_server, never),
                copy(from_server, to_client, frozen)
            );
        };
        tokio::select! {
            () = both => {}
            () = cut.cancelled() => {}
        }
        self.links.lock().unwrap().remove(&id);
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, frozen: watch::Receiver<bool>) {
    let mut part = [0; PART];
    let mut frozen = frozen;
    loop {
        if frozen.wait_for(|frozen| !frozen).await.is_err() && *frozen.borrow() {
            return;
        }
        let Ok(read @ 1..) = from.read(&mut part).await else {
            return;
        };
        if to.write_all(&part[..read]).await.is_err() {
            return;
        }
    }
}
