//! A shard: owns its connections, sockets included, for their whole life, and has a thread.
//!
//! That waits for sockets and for the inbox, fans out what has come, and then writes every touched
//! connection once. So at low rates an event leaves at once, and under load many leave in one
//! system call. Nothing here waits for anything else: what would is done on the runtime, which
//! comes back through the inbox. While the thread sleeps, a publisher may hand out a few events in
//! its place (`round.rs`).

mod attendance;
mod catch_up;
mod confirmations;
mod crossing;
mod cx;
mod deferred;
mod fan_out;
mod hand;
mod io;
mod join;
mod leave;
mod life;
mod look_up;
#[cfg(test)]
mod model;
mod names;
#[cfg(feature = "parts")]
pub mod parts;
mod query;
mod replays;
mod rights;
mod round;
mod run;
mod several_ways;
mod timers;
mod together;
mod users;
mod witness;

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use super::connection::Connection;
use super::delivery::Delivery;
use super::filter_table::FilterTable;
use super::hub::{Hub, Settings};
use super::inbox::{Inbound, Inbox};
use super::meter::Slice;
use super::outbox::Spares;
use super::route::Route;
use super::slots::Slots;
use crate::event::{ChannelName, ChannelPattern, ConnectionId, Position, Timestamp};
use crate::telemetry::ShardMetrics;

pub use confirmations::Arrived;
pub use crossing::Crossing;
pub use cx::Cx;
pub use join::{Join, JoinRequest};
pub use life::Opening;
pub use query::{ConnectionFilter, ConnectionPage};
pub(super) use round::FEW;

/// The inbox's place among the sockets.
const WAKE: Token = Token(usize::MAX);
/// The longest wait for something to happen.
const IDLE: Duration = Duration::from_secs(10);
/// The same after something has happened: what it took is given back once nothing more comes.
const RESTLESS: Duration = Duration::from_millis(250);
/// Events and tasks taken before the touched connections are written.
const BATCH: usize = 256;
/// What is read from one socket at a time, for all sockets of the shard.
const SCRATCH: usize = 64 * 1024;

/// The state of one shard. Its own thread works with it, or for a small round a publisher that
/// finds it asleep; never both at once (see `bus/home.rs`).
pub struct Shard {
    index: u16,
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
    /// Where its sockets are watched; the poll itself is its thread's.
    registry: Registry,
    /// What a publisher took out of the inbox and left to the thread: it comes first.
    put_off: Option<Inbound>,
    /// The first timer that the thread knew of when it went to sleep.
    sleeps_until: u64,
    started: Instant,
    /// Milliseconds since the start, read once in each round.
    now: u64,
    settings: Arc<Settings>,
    /// What is left of this round for filters and replays.
    slice: Slice,
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
    spares: Spares,
    scratch: Vec<u8>,
    touched: Vec<u32>,
    together: together::Together,
    /// Connections with something to read that was put off for the sake of others.
    unread: Vec<u32>,
    /// Connections whose catching up goes on after this batch.
    hungry: Vec<u32>,
    /// Connections that broke or must end, once nothing is being walked.
    doomed: Vec<(u32, life::Doom)>,
    /// Events that go out together.
    gathered: run::Gathered,
    /// Counts runs of events, so that a connection can tell what it has already.
    runs: u64,
    /// Counts subscriptions and topics.
    serials: u32,
    replays: replays::Replays,
    batch: Vec<(Arc<Delivery>, u32)>,
    /// Deliveries that are looked at, until they are written.
    sightings: Vec<witness::Sighting>,
    confirmations: confirmations::Confirmations,
    /// The drain window, once everyone has been sent away.
    draining: Option<u64>,
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
        let together = together::Together::new(settings.io_uring);
        Shard {
            index,
            hub,
            inbox,
            registry,
            put_off: None,
            sleeps_until: 0,
            started: Instant::now(),
            now: 0,
            settings,
            slice: Slice::new(),
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
            spares: Spares::default(),
            scratch: vec![0; SCRATCH],
            touched: Vec::new(),
            together,
            unread: Vec::new(),
            hungry: Vec::new(),
            doomed: Vec::new(),
            gathered: run::Gathered::default(),
            runs: 0,
            serials: 0,
            replays: replays::Replays::default(),
            batch: Vec::with_capacity(BATCH),
            sightings: Vec::new(),
            confirmations: confirmations::Confirmations::default(),
            draining: None,
            stopping: false,
        }
    }

    /// The inbox's place among what the poll watches.
    #[must_use]
    pub(super) const fn wake_token() -> Token {
        WAKE
    }

    fn clock(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn wall_clock(&self, at: u64) -> Timestamp {
        let ago = self.clock().saturating_sub(at).saturating_mul(1000);
        Timestamp::from_micros(Timestamp::now().as_micros().saturating_sub_unsigned(ago))
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
