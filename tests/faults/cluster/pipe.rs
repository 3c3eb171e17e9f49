//! A TCP proxy between a node and its engine, which can stall, lose and break connections.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const PART: usize = 16 * 1024;

/// What happens to the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Pass,
    /// They wait.
    Hold,
    /// They are lost, although the sender's system has confirmed them. The connection passes
    /// nothing in this direction from then on, as TCP never loses bytes in the middle.
    Swallow,
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToEngine,
    ToNode,
}

struct Shared {
    target: Mutex<SocketAddr>,
    to_engine: watch::Sender<Flow>,
    to_node: watch::Sender<Flow>,
    cut: Mutex<CancellationToken>,
}

/// A fixed address that forwards to an engine.
#[derive(Clone)]
pub struct Pipe {
    pub address: SocketAddr,
    /// Held by a fault that lasts, so that the next one waits.
    pub busy: Arc<tokio::sync::Mutex<()>>,
    shared: Arc<Shared>,
}

impl Pipe {
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            to_engine: watch::Sender::new(Flow::Pass),
            to_node: watch::Sender::new(Flow::Pass),
            cut: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            loop {
                let Ok((node, _)) = listener.accept().await else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let shared = Arc::clone(&accepting);
                tokio::spawn(async move { shared.carry(node).await });
            }
        });
        Pipe {
            address,
            busy: Arc::default(),
            shared,
        }
    }

    /// Breaks the connections and leads new ones to another engine.
    pub fn lead_to(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap() = target;
        self.cut();
    }

    /// Sets what happens to the bytes of one direction.
    pub fn set(&self, direction: Direction, flow: Flow) {
        let sender = match direction {
            Direction::ToEngine => &self.shared.to_engine,
            Direction::ToNode => &self.shared.to_node,
        };
        sender.send_replace(flow);
    }

    /// Breaks all connections.
    pub fn cut(&self) {
        let mut cut = self.shared.cut.lock().unwrap();
        std::mem::take(&mut *cut).cancel();
    }
}

impl Shared {
    async fn carry(&self, node: TcpStream) {
        let (target, cut) = (
            *self.target.lock().unwrap(),
            self.cut.lock().unwrap().clone(),
        );
        let Ok(engine) = TcpStream::connect(target).await else {
            return;
        };
        let _ = node.set_nodelay(true);
        let _ = engine.set_nodelay(true);
        let (from_node, to_node) = node.into_split();
        let (from_engine, to_engine) = engine.into_split();
        // The end of either direction ends both: neither engine closes half of a connection.
        tokio::select! {
            () = copy(from_node, to_engine, self.to_engine.subscribe()) => {}
            () = copy(from_engine, to_node, self.to_node.subscribe()) => {}
            () = cut.cancelled() => {}
        }
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut flow: watch::Receiver<Flow>) {
    let mut part = vec![0; PART];
    let mut lost = false;
    loop {
        let Ok(read @ 1..) = from.read(&mut part).await else {
            return;
        };
        let Ok(flow) = flow.wait_for(|flow| *flow != Flow::Hold).await.map(|f| *f) else {
            return;
        };
        lost |= flow == Flow::Swallow;
        if !lost && to.write_all(&part[..read]).await.is_err() {
            return;
        }
    }
}
