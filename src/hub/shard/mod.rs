//! A shard: owns its connections, sockets included, for their whole life, and has a thread.
//!
//! Its thread polls the sockets and the queue, fans out the queued events, and then writes every
//! touched connection once. So at a low rate an event is written at once, and under load many are
//! written in one system call. A shard never blocks: slow work runs on the runtime, and its result
//! comes back as a command. While the thread sleeps, a publisher may run a small round in its place
//! (`worker.rs`).

mod batch;
mod budget;
mod channel_index;
mod chunk;
mod clock;
mod confirmations;
mod conn_ctx;
mod connection;
mod connection_io;
mod connection_recovery;
mod connections;
mod deferred;
mod deliver_one;
mod drain;
mod execute;
mod fanout;
mod filter_table;
#[cfg(test)]
mod fixture;
mod held_back;
mod io;
mod lifecycle;
#[cfg(test)]
mod model;
mod outbox;
mod overflow;
mod overlap_merger;
#[cfg(feature = "parts")]
pub mod parts;
mod position_check;
mod position_lookup;
mod presence;
mod query;
mod ranking;
mod recheck;
mod recovery;
mod replay_cache;
mod sampling;
mod send_batch;
mod slab;
mod subscribe;
mod timers;
mod topics;
mod transport_upgrade;
mod unsubscribe;
mod user_index;
mod worker;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use mio::Registry;

use self::batch::Batches;
use self::budget::Budget;
use self::connections::Connections;
use self::drain::Drain;
use self::filter_table::FilterTable;
use self::io::Reader;
use self::position_check::PositionChecks;
use self::recovery::Recovery;
use self::sampling::Sampling;
use self::timers::Time;
use self::topics::Topics;
use self::writer::Writer;
use super::queue::{Inbound, ShardQueue};
use super::{Hub, Settings};
use crate::telemetry::{ShardMetrics, Stalled};

pub use confirmations::Arrived;
pub use conn_ctx::ConnCtx;
pub use connection::{Client, ConnectionInfo, RequestFacts, SubscriptionInfo};
pub use connection_io::Link;
pub(super) use deferred::FilterBatch;
pub(super) use execute::SubscriptionRef;
pub use lifecycle::Opening;
pub(super) use position_check::Tops;
pub(super) use position_lookup::Lookup;
pub use query::{ConnectionFilter, ConnectionPage, ConnectionQuery};
pub use ranking::{ConnectionOrder, RankQuery, Ranked, Ranking};
pub use replay_cache::REPLAY_BYTES;
pub(super) use subscribe::PendingJoin;
pub use subscribe::{Join, JoinRequest};
pub use transport_upgrade::TransportUpgrade;

/// The longest poll when idle.
const IDLE_WAIT: Duration = Duration::from_secs(10);
/// The longest poll after some activity: unused memory is freed once nothing more arrives.
const ACTIVE_WAIT: Duration = Duration::from_millis(250);
/// The most events and commands taken before the touched connections are written.
const BATCH: usize = 256;
/// The state of one shard, in parts. It is used by its own thread, or for a small round by a
/// publisher that finds it asleep; never by both at once (see `hub/shard_cell.rs`).
///
/// A part owns its state and gets everything else as arguments. An operation on several parts, such
/// as a subscription, is a method of the shard.
pub(super) struct Shard {
    index: u16,
    hub: Arc<Hub>,
    inbox: Arc<ShardQueue>,
    /// The registry of its sockets; the poll itself belongs to its thread.
    registry: Registry,
    /// An entry that a publisher popped from the queue and left to the thread: it is handled first.
    left_item: Option<Inbound>,
    /// The first timer that the thread knew when it went to sleep.
    sleeps_until: u64,
    settings: Arc<Settings>,
    metrics: Arc<ShardMetrics>,
    time: Time,
    budget: Budget,
    connections: Connections,
    topics: Topics,
    filters: FilterTable,
    reader: Reader,
    batches: Batches,
    writer: Writer,
    recovery: Recovery,
    position_checks: PositionChecks,
    sampling: Sampling,
    drain: Drain,
    stopping: bool,
}

impl Shard {
    /// A shard without connections, whose sockets will be registered at `registry`.
    pub(super) fn new(
        index: u16,
        hub: Arc<Hub>,
        inbox: Arc<ShardQueue>,
        registry: Registry,
    ) -> Self {
        let settings = hub.settings();
        let metrics = hub.metrics().shard(usize::from(index));
        Shard {
            index,
            inbox,
            registry,
            left_item: None,
            sleeps_until: 0,
            time: Time::new(),
            budget: Budget::new(),
            connections: Connections::new(index),
            topics: Topics::default(),
            filters: FilterTable::new(hub.filter_numbers()),
            reader: Reader::new(),
            batches: Batches::default(),
            writer: Writer::new(settings.io_uring, Arc::clone(&metrics)),
            recovery: Recovery::default(),
            position_checks: PositionChecks::default(),
            sampling: Sampling::default(),
            drain: Drain::default(),
            stopping: false,
            hub,
            settings,
            metrics,
        }
    }

    /// Records that the shard's thread did not run, if that was the case.
    fn note_stall(&self, stall: Option<Duration>) {
        if let Some(stall) = stall {
            self.hub.metrics().stalled(Stalled::Shard);
            let (shard, ms) = (self.index, stall.as_millis());
            tracing::warn!(
                shard,
                ms,
                "a shard did not run for a while; its clients' deadlines are extended"
            );
        }
    }

    /// Stops the thread after this round.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }
}
