//! Receiving: the events of a channel, in order, each once.
//!
//! The engine publishes each batch again once it is stored. Such a message can be lost or repeated.
//! So a receiver delivers by offset: it drops what it has, and reads what is missing from the log
//! before it goes on.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::batch::{Head, Kind, Stored};
use super::channel::Channel;
use super::history::Cache;
use super::interest::InterestTable;
use super::log::Log;
use crate::broker::Sink;
use crate::event::Event;
use crate::telemetry::Metrics;

/// The most bytes of batches that wait until a hole is filled. Further ones are read from the log.
const WAITING_BYTES: usize = 1024 * 1024;
/// Batches per read of a log.
const PAGE: usize = 128;
/// A replica that lacks a batch is asked again after this time.
const STALE_PAUSE: Duration = Duration::from_millis(20);
/// After this time, the leader is asked.
const STALE: Duration = Duration::from_secs(1);

/// The receiving side of a channel.
#[derive(Default)]
pub(super) struct Receiver {
    /// Up to where events have been delivered. `None` while that is not known.
    head: Option<Head>,
    /// True while the position is looked up or a hole is filled: batches wait.
    filling: bool,
    waiting: VecDeque<Stored>,
    waiting_bytes: usize,
    /// True if a batch was left out of `waiting`.
    truncated: bool,
}

/// What a batch is to a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Deliver its events with offsets above this one.
    Deliver(u64),
    /// Nothing new.
    Old,
    /// Something is missing before it.
    Hole,
}

impl Receiver {
    /// Up to where events have been delivered.
    pub(super) fn head(&self) -> Option<Head> {
        self.head.filter(|_| !self.filling)
    }

    /// The same while a hole is filled.
    pub(super) fn position(&self) -> Option<Head> {
        self.head
    }

    /// True while the channel has no subscribers.
    pub(super) fn is_off(&self) -> bool {
        self.head.is_none() && !self.filling
    }

    /// Batches wait from now on, until [`Receiving::start`] has the position.
    pub(super) fn join(&mut self) {
        self.filling = true;
    }

    /// The stream was removed and made again, and `is_lost` tells what was in it: the position has
    /// to be looked up anew. False if it is in the new stream already.
    pub(super) fn restart(&mut self, is_lost: impl Fn(u64) -> bool) -> bool {
        let restarts = self.head.is_some_and(|head| is_lost(head.seq));
        if restarts {
            *self = Receiver {
                filling: true,
                ..Receiver::default()
            };
        }
        restarts
    }

    /// The channel has no subscribers any more.
    pub(super) fn stop(&mut self) {
        *self = Receiver::default();
    }

    fn step(&self, stored: &Stored, is_next: bool) -> Step {
        let Some(head) = self.head else {
            return Step::Deliver(stored.first.saturating_sub(1));
        };
        if stored.epoch != head.epoch {
            if stored.seq <= head.seq {
                return Step::Old;
            }
            // Whether the channel had other batches before its new epoch shows `previous`.
            let begins = stored.kind == Kind::Renumber || stored.first == 1;
            return if is_next || (begins && stored.previous <= head.seq) {
                Step::Deliver(stored.first.saturating_sub(1))
            } else {
                Step::Hole
            };
        }
        if stored.last() <= head.top {
            Step::Old
        } else if stored.first > head.top + 1 && !is_next {
            Step::Hole
        } else {
            Step::Deliver(head.top.max(stored.first.saturating_sub(1)))
        }
    }

    /// Takes a batch if nothing is missing before it. `is_next`: it was read from the log, which has
    /// nothing between the position and it. Returns the new events, or `None` at a hole.
    fn take(&mut self, stored: &Stored, is_next: bool) -> Option<Vec<Arc<Event>>> {
        match self.step(stored, is_next) {
            Step::Hole => None,
            Step::Old => {
                if let Some(head) = &mut self.head
                    && stored.epoch == head.epoch
                    && stored.seq > head.seq
                {
                    // A batch without events: the channel lives.
                    (head.seq, head.at) = (stored.seq, stored.at);
                }
                Some(Vec::new())
            }
            Step::Deliver(above) => {
                self.head = Some(stored.head());
                let events = stored.events.iter().zip(stored.first..);
                let new = events.filter(|(_, offset)| *offset > above);
                Some(new.map(|(event, _)| Arc::clone(&event.event)).collect())
            }
        }
    }

    fn wait(&mut self, stored: Stored) {
        let weight = stored.weight();
        if self.waiting_bytes + weight > WAITING_BYTES && !self.waiting.is_empty() {
            self.truncated = true;
            return;
        }
        self.waiting_bytes += weight;
        self.waiting.push_back(stored);
    }
}

/// Receives the events of channels and delivers them to the sink.
pub(super) struct Receiving<L> {
    pub(super) log: Arc<L>,
    pub(super) sink: Weak<dyn Sink>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) cache: Arc<Cache>,
    pub(super) interest: Arc<InterestTable>,
    pub(super) runtime: Handle,
}

impl<L: Log> Receiving<L> {
    /// Delivers a batch that this node has appended. Returns the subscriptions of its channel.
    pub(super) fn appended(self: &Arc<Self>, channel: &Arc<Channel>, stored: Stored) -> u64 {
        let is_followed = !channel.receiver().is_off() || self.interest.is_covered(&channel.name);
        if is_followed {
            return self.arrived(channel, stored);
        }
        // Nobody on this node receives the channel: the sink counts the event.
        let Some(sink) = self.sink.upgrade() else {
            return 0;
        };
        let mut subscribers = 0;
        for event in stored.events {
            subscribers = sink.deliver(event.event);
        }
        subscribers
    }

    /// Delivers a batch of a channel with subscribers; reads missing batches first.
    pub(super) fn arrived(self: &Arc<Self>, channel: &Arc<Channel>, stored: Stored) -> u64 {
        let mut receiver = channel.receiver();
        if receiver.filling {
            receiver.wait(stored);
            return 0;
        }
        if let Some(events) = receiver.take(&stored, false) {
            return self.deliver(channel, events, &stored);
        }
        self.metrics.cluster().hole();
        receiver.filling = true;
        receiver.wait(stored);
        drop(receiver);
        self.spawn_fill(channel);
        0
    }

    /// Delivers events under the receiver's lock, so that their order is the order of offsets.
    fn deliver(&self, channel: &Arc<Channel>, events: Vec<Arc<Event>>, stored: &Stored) -> u64 {
        if events.is_empty() {
            return 0;
        }
        self.cache.push(channel, stored);
        let Some(sink) = self.sink.upgrade() else {
            return 0;
        };
        let mut subscribers = 0;
        for event in events {
            subscribers = sink.deliver(event);
        }
        subscribers
    }

    /// Sets the channel's position. Delivers the batches that follow it.
    pub(super) fn start(self: &Arc<Self>, channel: &Arc<Channel>, head: Head) {
        let mut receiver = channel.receiver();
        receiver.head = Some(head);
        drop(receiver);
        self.drain(channel);
        channel.positioned.notify_waiters();
    }

    /// Delivers the waiting batches. Fills a hole between them.
    fn drain(self: &Arc<Self>, channel: &Arc<Channel>) {
        let mut receiver = channel.receiver();
        while let Some(stored) = receiver.waiting.pop_front() {
            receiver.waiting_bytes = receiver.waiting_bytes.saturating_sub(stored.weight());
            let Some(events) = receiver.take(&stored, false) else {
                receiver.waiting_bytes += stored.weight();
                receiver.waiting.push_front(stored);
                drop(receiver);
                return self.spawn_fill(channel);
            };
            self.deliver(channel, events, &stored);
        }
        if std::mem::take(&mut receiver.truncated) {
            drop(receiver);
            return self.spawn_fill(channel);
        }
        receiver.filling = false;
    }

    fn spawn_fill(self: &Arc<Self>, channel: &Arc<Channel>) {
        let (this, channel) = (Arc::clone(self), Arc::clone(channel));
        self.runtime.spawn(async move { this.fill(&channel).await });
    }

    /// Reads from the position on until nothing is missing before the waiting batches.
    async fn fill(self: &Arc<Self>, channel: &Arc<Channel>) {
        let mut since = Instant::now();
        loop {
            let Some(head) = channel.receiver().head else {
                return;
            };
            let from_leader = since.elapsed() >= STALE;
            let page = if from_leader {
                let next = self.log.next(channel, head.seq + 1).await;
                next.map(|next| next.into_iter().collect())
            } else {
                self.log.page(channel, head.seq + 1, PAGE).await
            };
            match page {
                Ok(page) if !page.is_empty() => {
                    since = Instant::now();
                    let mut receiver = channel.receiver();
                    for stored in page {
                        if let Some(events) = receiver.take(&stored, true) {
                            self.deliver(channel, events, &stored);
                        }
                    }
                    if receiver.is_caught_up() {
                        drop(receiver);
                        return self.drain(channel);
                    }
                }
                Ok(_) if from_leader => {
                    // The log has no further batch: the waiting batches are delivered as they are.
                    let mut receiver = channel.receiver();
                    receiver.truncated = false;
                    if let Some(stored) = receiver.waiting.pop_front() {
                        receiver.waiting_bytes =
                            receiver.waiting_bytes.saturating_sub(stored.weight());
                        if let Some(events) = receiver.take(&stored, true) {
                            self.deliver(channel, events, &stored);
                        }
                    }
                    drop(receiver);
                    return self.drain(channel);
                }
                Ok(_) if channel.receiver().is_caught_up() => return self.drain(channel),
                Ok(_) | Err(_) => sleep(STALE_PAUSE).await,
            }
            if channel.receiver().is_off() {
                return;
            }
        }
    }

    /// True if the log ended before a position that was delivered before it was read. The position
    /// must be noted before the read: events that are appended meanwhile move it on.
    pub(super) fn is_ahead(delivered: Option<Head>, last: &Stored) -> bool {
        delivered.is_some_and(|head| last.seq < head.seq)
    }

    /// True if the log is ahead of the delivered position.
    pub(super) fn is_behind(channel: &Channel, last: &Stored) -> bool {
        let receiver = channel.receiver();
        receiver.head().is_some_and(|head| last.seq > head.seq)
    }
}

impl Receiver {
    /// True if the first waiting batch directly follows the delivered position.
    fn is_caught_up(&self) -> bool {
        if self.truncated && self.waiting.is_empty() {
            return false;
        }
        self.waiting
            .front()
            .is_none_or(|stored| self.step(stored, false) != Step::Hole)
    }
}
