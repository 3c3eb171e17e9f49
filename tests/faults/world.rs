//! State that everything in a run shares.

use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use crate::book::Finding;
use crate::ledger::Ledger;
use crate::options::Options;
use crate::proxy::Proxy;
use crate::subscriber::Subscriber;
use crate::totals::{Count, Totals};

/// A run.
pub struct World {
    pub options: Options,
    pub totals: Totals,
    pub ledger: Ledger,
    pub subscribers: Mutex<Vec<Arc<Subscriber>>>,
    /// How often an earlier copy of the store was restored, after which every channel gets a new
    /// epoch.
    pub time_lines: Count,
    /// Forwards to the public listener.
    pub public: Proxy,
    /// Forwards to the internal listener.
    pub internal: Proxy,
    /// Cancelled when publishing should stop.
    pub enough: CancellationToken,
}

impl World {
    pub async fn new(options: Options) -> Arc<Self> {
        Arc::new(World {
            ledger: Ledger::new(options.channels()),
            options,
            totals: Totals::default(),
            subscribers: Mutex::default(),
            time_lines: Count::default(),
            public: Proxy::start().await,
            internal: Proxy::start().await,
            enough: CancellationToken::new(),
        })
    }

    /// Reports an impossible condition.
    pub fn wrong(&self, who: &str, why: String) {
        self.totals.found(who, Finding::Wrong(why));
    }
}
