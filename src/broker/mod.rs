//! Stores that give events their places in their channels.
//!
//! A [`Broker`] appends an event to its channel and hands it to the [`Sink`] in one step, so that
//! the order of offsets is the order of delivery. Every broker hands events to the hub through that one trait
//! and passes one contract suite; the rest of the program can't tell which is there.

#[cfg(test)]
mod contract;
mod disk;
mod keys;
mod memory;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::event::{ChannelName, ChannelPattern, Draft, Event, Position};
use crate::maybe_ready::MaybeReady;
use crate::telemetry::FanoutSpan;

pub use crate::fair_queue::Share;
#[cfg(feature = "fuzzing")]
pub use disk::fuzzing;
pub use disk::{BackupError, Contents, check_path, restore, verify};
pub use disk::{
    COMMIT_QUEUE_BYTES, Disk, DiskSettings, Durability, OnDamage, OpenError, set_aside,
};
pub use memory::{Bounds, Memory};

/// Where events go once they have their place: the hub.
pub trait Sink: Send + Sync {
    /// Takes an event that has its place. A broker calls this once for each event, and for the
    /// events of one channel in the order of their offsets, one after the other. It never waits.
    /// `span` ends when the last shard is done. Answers how many subscriptions the channel has.
    fn deliver(&self, event: Arc<Event>, span: Option<FanoutSpan>) -> u64;

    /// True if the channel has subscribers, so that its numbering must be kept.
    fn is_followed(&self, channel: &ChannelName) -> bool;
}

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The event's id; the first one's where this is a duplicate.
    pub id: Uuid,
    /// The place it was given; `None` where the channel keeps no history.
    pub position: Option<Position>,
    /// Subscriptions to the channel on this node.
    pub subscribers: u64,
    /// True if an earlier publish with the same idempotency key stands for this one.
    pub duplicate: bool,
}

/// Which part of a channel's history, by offsets of its present epoch.
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
    /// The most bytes of events, but for the first one, which always is in the page.
    pub bytes: usize,
}

impl Range {
    /// Everything that is kept, up to `limit` events.
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
    /// The offset of the oldest event that is kept; `top.offset + 1` where none is.
    pub oldest: u64,
    /// The events in the range, in the asked order.
    pub events: Vec<Arc<Event>>,
    /// True if the range holds more.
    pub more: bool,
}

impl Page {
    /// The page without the events at its end that make it longer than so many bytes.
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

    /// True if every event after `since` is still kept, so that a subscriber that stood there
    /// can be given each of them.
    #[must_use]
    pub fn covers(&self, since: Position) -> bool {
        since.epoch == self.top.epoch
            && since.offset <= self.top.offset
            && since.offset.saturating_add(1) >= self.oldest
    }
}

/// A channel that a broker keeps.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its name.
    pub channel: ChannelName,
    /// Its newest position.
    pub top: Position,
}

/// A store that gives events their places.
pub trait Broker: Send + Sync {
    /// Appends an event to its channel and hands it to the sink; answers once it has its place
    /// (and, where the store is durable, is kept for good).
    /// `span` goes to the sink with the event.
    fn publish(&self, draft: Draft, span: Option<FanoutSpan>) -> MaybeReady<Receipt>;

    /// Reads a part of a channel's history; `None` where the channel keeps none. Starts the
    /// channel's numbering if it has none yet, so that a first position can be resumed from.
    fn read(&self, channel: &ChannelName, range: Range) -> MaybeReady<Option<Page>>;

    /// As [`Broker::publish`], with the share of the publisher.
    fn publish_for(&self, _: Share, draft: Draft, span: Option<FanoutSpan>) -> MaybeReady<Receipt> {
        self.publish(draft, span)
    }

    /// As [`Broker::read`], with the share of the reader.
    fn read_for(&self, _: Share, channel: &ChannelName, range: Range) -> MaybeReady<Option<Page>> {
        self.read(channel, range)
    }

    /// The channel's newest position; `None` where the channel keeps no history. Starts the numbering
    /// as [`Broker::read`] does.
    fn top(&self, channel: &ChannelName) -> MaybeReady<Option<Position>> {
        let page = self.read(channel, Range::all(0));
        page.then(|page| Ok(page?.map(|page| page.top)))
    }

    /// A shard of this node begins to follow a channel or a pattern, or stops following it. The
    /// broker counts the shards; it must hand events to the sink while the count is not zero. Never
    /// waits: a [`Broker::read`] or [`Broker::top`] that begins after this call is answered once the
    /// interest is in force, so that no event falls between a position and the first live event. A
    /// broker in this process hands every event to the sink anyway.
    fn set_interest(&self, _: &ChannelPattern, _wanted: bool) {}

    /// A hint, answered at once from what this node knows: true if the channel's numbering is kept,
    /// or if it will never have one. Then a publish or a read creates nothing.
    fn exists(&self, channel: &ChannelName) -> bool;

    /// Up to `limit` kept channels whose names start with `prefix` and come after `after`, by name.
    fn list(&self, prefix: &str, after: &str, limit: usize) -> MaybeReady<Vec<Kept>>;

    /// A backup of all that is kept at this moment, in parts.
    ///
    /// # Errors
    /// `failed_precondition` where nothing outlives the process; `resource_exhausted` while another
    /// backup is being made; `unavailable` where the store can't be used.
    fn backup(&self) -> Result<Receiver<Result<Bytes>>> {
        Err(Error::precondition(
            "history is not kept on disk (history.storage), so there is nothing to back up",
        ))
    }

    /// Lets go of what has expired: old events, idempotency keys, idle channels. Called about
    /// once a second; does a bounded part of the work at each call, and never waits.
    fn sweep(&self);

    /// False while nothing can be published because the store can't write.
    fn is_available(&self) -> bool {
        true
    }

    /// Finishes what was accepted and closes the store; what is published later is refused.
    /// Waits until that is done, so it must not be called where nothing may wait.
    fn close(&self) {}
}
