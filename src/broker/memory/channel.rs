//! The offsets and history of one channel.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::budget::class;
use crate::broker::{ChannelUsage, Page, Range};
use crate::event::{ChannelName, Draft, Epoch, Event, HistoryPolicy, Position, shared};
use crate::telemetry::Evicted;

/// The size of a list entry. The list may have capacity for twice as many.
const SLOT: usize = 2 * size_of::<(Instant, Arc<Event>)>();
/// A list with more capacity than this shrinks when less than a quarter is used.
const ROOMY: usize = 64;

/// The offsets and history of one channel.
pub(super) struct Channel {
    epoch: Epoch,
    last: u64,
    events: VecDeque<(Instant, Arc<Event>)>,
    bytes: usize,
    /// When it was last published to or read.
    pub(super) used: Instant,
    /// Its size class in the stripe.
    pub(super) shelved: u8,
}

/// The result of an eviction.
#[derive(Default)]
pub(super) struct Trimmed {
    /// The bytes that the channel no longer holds.
    pub(super) bytes: usize,
    /// The number of events for each reason.
    pub(super) events: [u64; Evicted::COUNT],
    /// The events themselves, mostly one, to be dropped without holding a lock.
    first: Option<Arc<Event>>,
    more: Vec<Arc<Event>>,
}

impl Trimmed {
    fn add(&mut self, reason: Evicted, event: Arc<Event>) {
        self.bytes += weight(&event);
        *reason.pick_mut(&mut self.events) += 1;
        if self.first.is_none() {
            self.first = Some(event);
        } else {
            self.more.push(event);
        }
    }
}

/// The memory of an event in history.
pub(super) fn weight(event: &Event) -> usize {
    event.weight() + SLOT
}

impl Channel {
    pub(super) fn new(now: Instant) -> Self {
        Channel {
            epoch: Epoch::random(),
            last: 0,
            events: VecDeque::new(),
            bytes: 0,
            used: now,
            shelved: 0,
        }
    }

    /// The memory of a channel with this name without events: its entry in a hash table that may be
    /// half empty, and in its size class.
    pub(super) fn own_bytes(name: &ChannelName) -> usize {
        2 * size_of::<(ChannelName, Channel)>()
            + 2 * size_of::<(u8, ChannelName)>()
            + shared(name.as_str())
    }

    pub(super) fn top(&self) -> Position {
        Position {
            epoch: self.epoch,
            offset: self.last,
        }
    }

    /// Updates the size class. Returns the old and the new one.
    pub(super) fn reclass(&mut self) -> (u8, u8) {
        let class = class(self.bytes);
        (std::mem::replace(&mut self.shelved, class), class)
    }

    /// True if it never had an event.
    pub(super) fn is_new(&self) -> bool {
        self.last == 0
    }

    /// True if it holds no event.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Appends an event. Returns it with its position and size.
    pub(super) fn append(
        &mut self,
        draft: Draft,
        now: Instant,
    ) -> (Arc<Event>, Option<Position>, usize) {
        self.last += 1;
        let position = Some(self.top());
        let event = Arc::new(Event::new(draft, position));
        let weight = weight(&event);
        self.bytes += weight;
        self.events.push_back((now, Arc::clone(&event)));
        (event, position, weight)
    }

    /// Evicts what retention does not keep.
    pub(super) fn trim(&mut self, policy: HistoryPolicy, now: Instant) -> Trimmed {
        let mut trimmed = Trimmed::default();
        while let Some((at, _)) = self.events.front() {
            let reason = if self.events.len() > policy.size {
                Evicted::Size
            } else if self.bytes > policy.bytes {
                Evicted::Bytes
            } else if now.duration_since(*at) >= policy.ttl {
                Evicted::Age
            } else {
                break;
            };
            self.let_go(reason, &mut trimmed);
        }
        self.shrink();
        trimmed
    }

    /// Evicts the oldest events, up to this many bytes, but at most half unless it is the last one,
    /// because other channels may be equally large.
    pub(super) fn evict(&mut self, bytes: usize) -> Trimmed {
        let mut trimmed = Trimmed::default();
        let goal = bytes.min(self.bytes / 2).max(1);
        while trimmed.bytes < goal && !self.events.is_empty() {
            self.let_go(Evicted::Memory, &mut trimmed);
        }
        self.shrink();
        trimmed
    }

    /// Evicts everything.
    pub(super) fn clear(&mut self) -> Trimmed {
        let mut trimmed = Trimmed::default();
        while !self.events.is_empty() {
            self.let_go(Evicted::Size, &mut trimmed);
        }
        trimmed
    }

    fn let_go(&mut self, reason: Evicted, trimmed: &mut Trimmed) {
        if let Some((_, event)) = self.events.pop_front() {
            self.bytes = self.bytes.saturating_sub(weight(&event));
            trimmed.add(reason, event);
        }
    }

    fn shrink(&mut self) {
        if self.events.is_empty() {
            self.events.shrink_to_fit();
        } else if self.events.capacity() > ROOMY && self.events.len() < self.events.capacity() / 4 {
            self.events.shrink_to(2 * self.events.len());
        }
    }

    /// What it holds.
    pub(super) fn usage(&self, now: Instant) -> ChannelUsage {
        let age = |at: Instant| now.saturating_duration_since(at);
        let is_old = |(at, _): &(Instant, Arc<Event>)| age(*at) >= ChannelUsage::RATE_WINDOW;
        let old = self.events.partition_point(is_old);
        let recent = u64::try_from(self.events.len() - old).unwrap_or(u64::MAX);
        let oldest = self
            .events
            .get(old)
            .map_or(Duration::ZERO, |(at, _)| age(*at));
        // What was evicted within the window is not seen: the rate is that of what is left.
        let keeps_more = old > 0 || self.last <= recent;
        ChannelUsage {
            top: self.top(),
            events: u64::try_from(self.events.len()).unwrap_or(u64::MAX),
            bytes: Some(u64::try_from(self.bytes).unwrap_or(u64::MAX)),
            last_event_at: self.events.back().map(|(_, event)| event.time),
            rate: ChannelUsage::rate_of(recent, oldest, keeps_more),
        }
    }

    pub(super) fn page(&self, range: Range) -> Page {
        let oldest = self
            .events
            .front()
            .and_then(|(_, event)| event.position)
            .map_or(self.last + 1, |position| position.offset);
        // Offsets are consecutive, so a range of offsets is a range of indexes.
        let first = range.after.saturating_add(1).max(oldest);
        let last = range.until.min(self.last);
        let count = usize::try_from((last + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        let skip = usize::try_from(first - oldest).unwrap_or(usize::MAX);
        let within = self
            .events
            .iter()
            .skip(skip)
            .take(count)
            .map(|(_, event)| Arc::clone(event));
        let events = if range.reverse {
            within.rev().take(range.limit).collect()
        } else {
            within.take(range.limit).collect()
        };
        Page {
            top: self.top(),
            oldest,
            events,
            more: count > range.limit,
        }
    }
}
