//! Brokers assign offsets to events and store them.
//!
//! A [`Broker`] appends an event to its channel and delivers it to the [`Sink`] in one step, so
//! that the order of offsets is the order of delivery. Every broker delivers through that trait and
//! passes one contract suite. The rest of the program does not depend on which one is configured.

mod clock;
#[cfg(test)]
pub(crate) mod contract;
mod cursors;
mod disk;
mod keys;
mod memory;
mod nats;
mod record;
mod redis;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::event::{ChannelName, ChannelPattern, Conditions, Draft, Event, Position, Timestamp};
use crate::maybe_ready::MaybeReady;

pub(crate) use self::cursors::move_in_background;
pub use self::cursors::{Cursor, CursorBounds, CursorKey, CursorQuery, CursorStore, MemoryCursors};
pub use self::redis::QUEUE_BYTES as REDIS_QUEUE_BYTES;
pub use self::redis::{
    Redis, RedisBus, RedisCursors, RedisRevocations, RedisSettings, Trouble as RedisTrouble,
};
pub use crate::fair_queue::Share;
#[cfg(feature = "fuzzing")]
pub use disk::fuzzing;
pub use disk::{BackupError, Contents, check_path, restore, verify};
pub use disk::{
    COMMIT_QUEUE_BYTES, Disk, DiskSettings, Durability, OnDamage, OpenError, set_aside,
};
pub use memory::{Bounds, Memory};
pub use nats::{ConnectError, NATS_QUEUE_BYTES, Nats, NatsSettings};

#[cfg(test)]
pub(crate) use self::nats::fixture::NatsServer as TestNatsServer;
#[cfg(test)]
pub(crate) use self::redis::tests::TestServer as TestRedisServer;

/// How long an engine may be away before a node is not ready.
const ELECTION: Duration = Duration::from_secs(15);

/// True if something that began at this uptime, in milliseconds, has lasted longer than an election.
/// 0 stands for nothing.
fn outlasts_election(since: u64) -> bool {
    let lasted = crate::clock::uptime_ms().saturating_sub(since);
    since > 0 && u128::from(lasted) >= ELECTION.as_millis()
}

/// The receiver of published events: the hub.
pub trait Sink: Send + Sync {
    /// Delivers an event with its position. A broker calls this once per event, and sequentially in
    /// the order of offsets for the events of one channel. It never blocks. Returns the number of
    /// subscriptions of the channel on this node.
    fn deliver(&self, event: Arc<Event>) -> u64;

    /// Events of this channel, or of any channel if it is `None`, may have been lost on their way
    /// to this node, and no later offset may show it. For a channel with history, the sink looks
    /// its position up and brings its subscribers up to it, or tells them what is missing. For one
    /// without history it can only count the report. It never blocks. A broker in this process
    /// loses nothing, and never calls it.
    fn lagged(&self, channel: Option<&ChannelName>);

    /// True if the channel has subscribers, so that its epoch must be kept.
    fn is_followed(&self, channel: &ChannelName) -> bool;

    /// The number of subscriptions on this node to which an event would go. 0 if it counts none.
    fn subscribers(&self, _: &Draft) -> u64 {
        0
    }

    /// True if the shards have so much to do that a receiver should wait.
    fn is_full(&self) -> bool {
        false
    }
}

/// The result of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The event's id, or the first event's if this is a duplicate.
    pub id: Uuid,
    /// The assigned position. `None` if the channel keeps no history.
    pub position: Option<Position>,
    /// Subscriptions to the channel on this node.
    pub subscribers: u64,
    /// True if an earlier publish had the same idempotency key.
    pub duplicate: bool,
}

/// A range of a channel's history, by offsets of its current epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Only events after this offset.
    pub after: u64,
    /// Only events up to this offset.
    pub until: u64,
    /// The most events.
    pub limit: usize,
    /// Newest first.
    pub reverse: bool,
    /// The most bytes of events. The first event is always included.
    pub bytes: usize,
}

impl Range {
    /// Everything that is stored, up to `limit` events.
    #[must_use]
    pub const fn all(limit: usize) -> Self {
        Range {
            after: 0,
            until: u64::MAX,
            limit,
            reverse: false,
            bytes: usize::MAX,
        }
    }
}

/// A part of a channel's history.
#[derive(Debug, Clone)]
pub struct Page {
    /// The channel's newest position.
    pub top: Position,
    /// The offset of the oldest stored event. `top.offset + 1` if there is none.
    pub oldest: u64,
    /// The events in the range, in the requested order.
    pub events: Vec<Arc<Event>>,
    /// True if the range contains more.
    pub more: bool,
}

impl Page {
    /// The page truncated to this many bytes.
    pub(super) fn within(mut self, bytes: usize) -> Self {
        let mut held: usize = 0;
        let fits = self.events.iter().take_while(|event| {
            held = held.saturating_add(event.weight());
            held <= bytes
        });
        let fitting = fits.count().max(1);
        if fitting < self.events.len() {
            self.events.truncate(fitting);
            self.more = true;
        }
        self
    }

    /// True if every event after `since` is still stored, so that a subscriber at that position can
    /// recover completely.
    #[must_use]
    pub fn covers(&self, since: Position) -> bool {
        since.epoch == self.top.epoch
            && since.offset <= self.top.offset
            && since.offset.saturating_add(1) >= self.oldest
    }
}

/// Which events of a channel to purge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purge {
    /// Only events up to this offset.
    pub until: Option<u64>,
    /// Only events that this user published, or that were addressed to this user alone.
    pub user: Option<Arc<str>>,
}

impl Purge {
    /// True if the purge takes this stored event.
    #[must_use]
    pub fn takes(&self, event: &Event) -> bool {
        let offset = event.position.map_or(0, |position| position.offset);
        let Some(user) = &self.user else {
            return self.until.is_none_or(|until| offset <= until);
        };
        let alone = event.audience.as_ref().is_some_and(|audience| {
            let others = audience.roles.is_empty() && audience.connections.is_empty();
            others && audience.users.as_slice() == std::slice::from_ref(user)
        });
        self.until.is_none_or(|until| offset <= until)
            && (event.source.as_ref() == Some(user) || alone)
    }
}

/// The result of a purge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many events were purged.
    pub events: u64,
    /// The channel's newest position, which a purge does not change. `None` if the channel does
    /// not exist or keeps no history.
    pub top: Option<Position>,
}

/// A channel that a broker stores.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its name.
    pub channel: ChannelName,
    /// Its newest position.
    pub top: Position,
}

/// What a channel's history holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChannelUsage {
    /// The channel's newest position.
    pub top: Position,
    /// The events that are kept.
    pub events: u64,
    /// The bytes that they take; `None` if the broker does not count them by channel.
    pub bytes: Option<u64>,
    /// When the newest of them was published; `None` if none is kept.
    pub last_event_at: Option<Timestamp>,
    /// Events per second, over the last ten seconds or as far as events are kept.
    pub rate: f64,
}

impl ChannelUsage {
    /// Over how long the rate is taken.
    pub const RATE_WINDOW: Duration = Duration::from_secs(10);

    /// The rate of this many events, if the oldest of them is so old and the channel keeps more.
    #[must_use]
    pub fn rate_of(events: u64, oldest: Duration, keeps_more: bool) -> f64 {
        let window = if keeps_more {
            Self::RATE_WINDOW
        } else {
            Self::RATE_WINDOW.min(oldest)
        };
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        f64::from(events) / window.as_secs_f64().max(1.0)
    }
}

/// A store that assigns offsets to events.
pub trait Broker: Send + Sync {
    /// Appends an event to its channel and delivers it to the sink. Completes once it has a
    /// position, and if the store is durable, once it is durable.
    ///
    /// [`Draft::conditions`] hold in the same step, after a known idempotency key was answered:
    /// with `expected_offset` the publish is `failed_precondition` unless it is the channel's newest
    /// offset; with `skip_history` the event is delivered in the channel's order, without a
    /// position, and the channel's offsets and history do not change.
    fn publish(&self, draft: Draft) -> MaybeReady<Receipt>;

    /// Reads a range of a channel's history. `None` if the channel keeps none. Starts the channel's
    /// epoch if it has none, so that clients can resume from the first position.
    fn read(&self, channel: &ChannelName, range: Range) -> MaybeReady<Option<Page>>;

    /// Like [`Broker::publish`], with the publisher's share.
    fn publish_for(&self, _: Share, draft: Draft) -> MaybeReady<Receipt> {
        self.publish(draft)
    }

    /// Like [`Broker::read`], with the reader's share.
    fn read_for(&self, _: Share, channel: &ChannelName, range: Range) -> MaybeReady<Option<Page>> {
        self.read(channel, range)
    }

    /// Removes events from a channel's history for good: when it completes, no read returns them, also
    /// after a restart. The epoch, the newest offset and all other events stay as they are. What
    /// was purged is missing like what has expired: pages skip its offsets, and [`Page::oldest`] is
    /// the first event that is still there.
    fn purge(&self, _: &ChannelName, _: Purge) -> MaybeReady<Purged> {
        MaybeReady::Ready(Err(Error::precondition("this store can't purge history")))
    }

    /// The channel's newest position. `None` if the channel keeps no history. Starts the epoch like
    /// [`Broker::read`].
    fn top(&self, channel: &ChannelName) -> MaybeReady<Option<Position>> {
        let page = self.read(channel, Range::all(0));
        page.then(|page| Ok(page?.map(|page| page.top)))
    }

    /// A shard of this node subscribes to a channel or a pattern, or unsubscribes. The broker
    /// counts the shards, and must deliver events to the sink while the count is not zero. Never
    /// blocks. A [`Broker::read`] or [`Broker::top`] that begins after this call completes once the
    /// interest is in force, so that no event is lost between a position and the first live event.
    /// A broker in this process delivers every event anyway.
    fn set_interest(&self, _: &ChannelPattern, _wanted: bool) {}

    /// A hint, answered immediately from local state: true if the channel's epoch exists, or if it
    /// will never have one. Then a publish or a read creates nothing.
    fn exists(&self, channel: &ChannelName) -> bool;

    /// Up to `limit` stored channels whose names start with `prefix` and come after `after`,
    /// ordered by name.
    fn list(&self, prefix: &str, after: &str, limit: usize) -> MaybeReady<Vec<Kept>>;

    /// What a channel's history holds, for operators; `None` if the channel keeps none, or has no epoch
    /// yet. Starts no epoch.
    fn usage(&self, channel: &ChannelName) -> MaybeReady<Option<ChannelUsage>> {
        /// Enough for a rate of ten events per second over the window.
        const NEWEST: usize = 100;
        if !self.exists(channel) {
            return MaybeReady::ok(None);
        }
        let newest = Range {
            reverse: true,
            bytes: 1 << 20,
            ..Range::all(NEWEST)
        };
        self.read(channel, newest).then(|page| {
            let Some(page) = page? else {
                return Ok(None);
            };
            let now = Timestamp::now();
            let age = |event: &Event| {
                let micros = now.as_micros().saturating_sub(event.time.as_micros());
                Duration::from_micros(u64::try_from(micros).unwrap_or(0))
            };
            let ages: Vec<Duration> = page.events.iter().map(|event| age(event)).collect();
            let recent = ages
                .iter()
                .filter(|age| **age < ChannelUsage::RATE_WINDOW)
                .count();
            let oldest = ages
                .get(recent.saturating_sub(1))
                .copied()
                .unwrap_or_default();
            let recent_events = u64::try_from(recent).unwrap_or(u64::MAX);
            // With fewer events than were asked for within the window, the window is covered.
            let keeps_more = recent < NEWEST;
            Ok(Some(ChannelUsage {
                top: page.top,
                events: (page.top.offset + 1).saturating_sub(page.oldest),
                bytes: None,
                last_event_at: page.events.first().map(|event| event.time),
                rate: ChannelUsage::rate_of(recent_events, oldest, keeps_more),
            }))
        })
    }

    /// A consistent backup of everything, in parts.
    ///
    /// # Errors
    /// `failed_precondition` if the store is not persistent. `resource_exhausted` while another
    /// backup is in progress. `unavailable` if the store is unavailable.
    fn backup(&self) -> Result<Receiver<Result<Bytes>>> {
        Err(Error::precondition(
            "history is not kept on disk (history.storage), so there is nothing to back up",
        ))
    }

    /// Removes expired events, idempotency keys and idle channels. Called about once per second.
    /// Each call does a bounded part of the work and never blocks.
    fn sweep(&self);

    /// False while publishing is impossible because the store cannot write.
    fn is_available(&self) -> bool {
        true
    }

    /// False once publishing has been impossible for so long that new clients should go to another
    /// node. An engine gets time for an election, which every node sees: it must not take all of
    /// them out of a load balancer.
    fn is_ready(&self) -> bool {
        self.is_available()
    }

    /// Finishes accepted publishes and closes the store. Later publishes are refused. Blocks until
    /// that is done, so async code must not call it.
    fn close(&self) {}
}

/// The refusal of a publish whose `expected_offset` is not the channel's newest.
fn unexpected_offset(channel: &ChannelName, newest: u64) -> Error {
    Error::precondition(format!(
        "expected_offset: the newest offset of {channel} is {newest}"
    ))
}

/// Refuses the conditions that an engine can't check with its append. A channel without history
/// fulfils `skip_history` always.
fn without_conditions(channel: &ChannelName, conditions: Conditions, is_kept: bool) -> Result<()> {
    let refused = |field: &str| {
        let text = format!("{field}: needs history in memory or on disk, not in an engine");
        Err(Error::precondition(text))
    };
    match conditions {
        Conditions {
            expected_offset: Some(_),
            ..
        } if is_kept => refused("expected_offset"),
        Conditions {
            expected_offset: Some(_),
            ..
        } => Err(no_offsets(channel)),
        Conditions {
            skip_history: true, ..
        } if is_kept => refused("skip_history"),
        _ => Ok(()),
    }
}

/// The refusal of `expected_offset` in a channel without offsets.
fn no_offsets(channel: &ChannelName) -> Error {
    Error::precondition(format!("expected_offset: {channel} keeps no history"))
}
