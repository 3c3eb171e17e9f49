//! State that everything in a run shares.

use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use crate::book::Finding;
use crate::ledger::Ledger;
use crate::options::Options;
use crate::proxy::Proxy;
use crate::server::Addresses;
use crate::subscriber::Subscriber;
use crate::totals::{Count, Totals};

/// The proxies in front of a node.
pub struct Node {
    /// Forwards to the public listener.
    pub public: Proxy,
    /// Forwards to the internal listener.
    pub internal: Proxy,
}

impl Node {
    /// Sets where new connections lead. `None` while the node is down.
    pub fn lead_to(&self, addresses: Option<Addresses>) {
        self.public.lead_to(addresses.map(|to| to.public));
        self.internal.lead_to(addresses.map(|to| to.internal));
    }
}

/// A run.
pub struct World {
    pub options: Options,
    pub totals: Totals,
    pub ledger: Ledger,
    pub subscribers: Mutex<Vec<Arc<Subscriber>>>,
    /// How often something happened after which every channel gets a new epoch. Counted before it
    /// happens.
    pub time_lines: Count,
    /// How often acknowledged events were removed on purpose. Counted after it has happened.
    pub wipes: Count,
    /// One, or several on an engine.
    pub nodes: Vec<Node>,
    /// Cancelled when publishing should stop.
    pub enough: CancellationToken,
}

impl World {
    pub async fn new(options: Options) -> Arc<Self> {
        let mut nodes = Vec::new();
        for _ in 0..options.store.nodes() {
            nodes.push(Node {
                public: Proxy::start().await,
                internal: Proxy::start().await,
            });
        }
        Arc::new(World {
            ledger: Ledger::new(options.channels()),
            options,
            totals: Totals::default(),
            subscribers: Mutex::default(),
            time_lines: Count::default(),
            wipes: Count::default(),
            nodes,
            enough: CancellationToken::new(),
        })
    }

    /// Reports an impossible condition.
    pub fn wrong(&self, who: &str, why: String) {
        self.totals.found(who, Finding::Wrong(why));
    }
}
