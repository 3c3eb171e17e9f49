//! A shard: owns its connections, sockets included, for their whole life, and has a thread.
//!
//! That waits for sockets and for the inbox, fans out what has come, and then writes every touched
//! connection once. So at low rates an event leaves at once, and under load many leave in one
//! system call. Nothing here waits for anything else: what would is done on the runtime, which
//! comes back through the inbox. While the thread sleeps, a publisher may hand out a few events in
//! its place (`round.rs`).

mod attendance;
mod batch;
mod clock;
mod confirmations;
mod conn_ctx;
mod deferred;
mod deliver_one;
mod departures;
mod execute;
mod fanout;
mod held_back;
mod io;
mod lifecycle;
#[cfg(test)]
mod model;
mod names;
mod overlap_merger;
#[cfg(feature = "parts")]
pub mod parts;
mod position_lookup;
mod query;
mod recovery;
mod replays;
mod rights;
mod sampling;
mod send_batch;
mod subscribe;
mod timers;
mod transport_upgrade;
mod unsubscribe;
mod users;
mod worker;

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use mio::{Registry, Token};

use super::connection::Connection;
use super::delivery::Delivery;
use super::filter_table::FilterTable;
use super::inbox::{Inbound, Inbox};
use super::meter::Slice;
use super::outbox::QueuePool;
use super::route::Route;
use super::slots::Slots;
use super::{Hub, Settings};
use crate::event::{ChannelName, ChannelPattern, ConnectionId, Position};
use crate::telemetry::{ShardMetrics, Stalled};

pub use confirmations::Arrived;
pub use conn_ctx::ConnCtx;
pub(super) use deferred::FilterBatch;
pub(super) use execute::SubscriptionRef;
pub use lifecycle::Opening;
pub(super) use position_lookup::Lookup;
pub use query::{ConnectionFilter, ConnectionPage, ConnectionQuery};
pub use replays::REPLAY_BYTES;
pub(super) use subscribe::PendingJoin;
pub use subscribe::{Join, JoinRequest};
pub use transport_upgrade::TransportUpgrade;
pub(super) use worker::FEW;

/// The inbox's place among the sockets.
const WAKE: Token = Token(usize::MAX);
/// The longest wait for something to happen.
const IDLE: Duration = Duration::from_secs(10);
/// The same after something has happened: what it took is given back once nothing more comes.
const RESTLESS: Duration = Duration::from_millis(250);
/// Events and commands taken before the touched connections are written.
const BATCH: usize = 256;
/// What is read from one socket at a time, for all sockets of the shard.
const SCRATCH: usize = 64 * 1024;

/// The state of one shard. Its own thread works with it, or for a small round a publisher that
/// finds it asleep; never both at once (see `bus/shard_cell.rs`).
pub(super) struct Shard {
    index: u16,
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
    /// Where its sockets are watched; the poll itself is its thread's.
    registry: Registry,
    /// What a publisher took out of the inbox and left to the thread: it comes first.
    put_off: Option<Inbound>,
    /// The first timer that the thread knew of when it went to sleep.
    sleeps_until: u64,
    clock: clock::Clock,
    /// Milliseconds in which the shard was there, read once in each round.
    now: u64,
    settings: Arc<Settings>,
    /// What is left of this round for filters and replays.
    slice: Slice,
    /// What is left of it for filters that can't wait.
    overlaps: Slice,
    /// Microseconds on the clock of the hub, read once in each round.
    now_us: u64,
    metrics: Arc<ShardMetrics>,
    connections: Slots<Connection>,
    topics: Slots<Topic>,
    by_channel: names::Names,
    by_namespace: HashMap<Arc<str>, u32>,
    of_all: Option<u32>,
    by_user: users::Users,
    filters: FilterTable,
    timers: BinaryHeap<timers::Timer>,
    pool: QueuePool,
    scratch: Vec<u8>,
    touched: Vec<u32>,
    send_batch: send_batch::SendBatch,
    /// Connections with something to read that was put off for the sake of others.
    unread: Vec<u32>,
    /// Connections whose catching up goes on after this batch.
    awaiting_recovery: Vec<u32>,
    /// Connections that broke or must end, once nothing is being walked.
    pending_close: Vec<(u32, lifecycle::PendingClose)>,
    /// Events that go out together.
    gathered: batch::Gathered,
    /// Counts runs of events, so that a connection can tell what it has already.
    runs: u64,
    /// Counts subscriptions and topics.
    serials: u32,
    replays: replays::Replays,
    batch: Vec<(Arc<Delivery>, u32)>,
    /// Deliveries that are looked at, until they are written.
    samples: Vec<sampling::Sample>,
    confirmations: confirmations::Confirmations,
    departures: departures::Departures,
    stopping: bool,
}

/// A channel, or a pattern of channels, with those who follow it here.
struct Topic {
    /// Tells this numbering from every other one that the shard has seen.
    serial: u32,
    pattern: ChannelPattern,
    route: Arc<Route>,
    /// The newest event that this shard has seen; `None` where no history is kept.
    position: Option<Position>,
    subscribers: Vec<Subscriber>,
    /// Subscribers that are not live yet.
    catching_up: u32,
    /// Subscribers that want to hear who comes and goes.
    watchers: u32,
}

/// One follower of a topic.
#[derive(Debug, Clone, Copy)]
struct Subscriber {
    connection: u32,
    /// Its filter's place in the table; `u32::MAX` where it has none.
    filter: u32,
    live: bool,
    watches: bool,
    /// The offset behind which this subscription answers for the channel's events; what is not
    /// behind it is left to a pattern that the connection follows as well.
    from: u64,
}

impl Shard {
    /// A shard without connections, whose sockets will be watched at `registry`.
    pub(super) fn new(index: u16, hub: Arc<Hub>, inbox: Arc<Inbox>, registry: Registry) -> Self {
        let settings = hub.settings();
        let metrics = hub.metrics().shard(usize::from(index));
        let filters = FilterTable::new(hub.filter_numbers());
        let send_batch = send_batch::SendBatch::new(settings.io_uring);
        Shard {
            index,
            hub,
            inbox,
            registry,
            put_off: None,
            sleeps_until: 0,
            clock: clock::Clock::new(),
            now: 0,
            settings,
            slice: Slice::new(),
            overlaps: Slice::for_overlaps(),
            now_us: 0,
            metrics,
            connections: Slots::new(),
            topics: Slots::new(),
            by_channel: names::Names::default(),
            by_namespace: HashMap::new(),
            of_all: None,
            by_user: users::Users::default(),
            filters,
            timers: BinaryHeap::new(),
            pool: QueuePool::default(),
            scratch: vec![0; SCRATCH],
            touched: Vec::new(),
            send_batch,
            unread: Vec::new(),
            awaiting_recovery: Vec::new(),
            pending_close: Vec::new(),
            gathered: batch::Gathered::default(),
            runs: 0,
            serials: 0,
            replays: replays::Replays::default(),
            batch: Vec::with_capacity(BATCH),
            samples: Vec::new(),
            confirmations: confirmations::Confirmations::default(),
            departures: departures::Departures::default(),
            stopping: false,
        }
    }

    /// The inbox's place among what the poll watches.
    #[must_use]
    pub(super) const fn wake_token() -> Token {
        WAKE
    }

    /// Notes that the shard was not there, where it was not.
    fn note_stall(&self, stall: Option<Duration>) {
        if let Some(stall) = stall {
            self.hub.metrics().stalled(Stalled::Shard);
            let (shard, ms) = (self.index, stall.as_millis());
            tracing::warn!(
                shard,
                ms,
                "a shard stood still; its clients get that time back"
            );
        }
    }

    fn id(&self, slot: u32) -> Option<ConnectionId> {
        let connection = self.connections.get(slot)?;
        Some(ConnectionId::new(self.index, slot, connection.nonce))
    }

    /// The place of a connection, if it is still the same one.
    pub(super) fn find(&self, id: ConnectionId) -> Option<u32> {
        let connection = self.connections.get(id.slot())?;
        (id.shard() == self.index && connection.nonce == id.nonce()).then_some(id.slot())
    }

    /// The place of a channel's topic, where anyone here follows it.
    fn topic_named(&self, channel: &ChannelName) -> Option<u32> {
        self.by_channel.find(channel, &self.topics)
    }

    /// The places of a user's connections.
    fn slots_of(&self, user: &str) -> &[u32] {
        self.by_user
            .of(user, |slot| self.connections.get(slot)?.user())
    }

    /// Makes sure that a connection is written at the end of this batch.
    fn touch(touched: &mut Vec<u32>, slot: u32, connection: &mut Connection) {
        if !connection.flags.touched {
            connection.flags.touched = true;
            touched.push(slot);
        }
    }

    /// Stops the thread after this round.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }
}
