//! One channel's numbering and history.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::budget::class;
use crate::broker::{Page, Range};
use crate::event::{ChannelName, Draft, Epoch, Event, HistoryPolicy, Position, shared};
use crate::telemetry::Evicted;

/// An event's place in the list of its channel, which has room for up to twice as many.
const SLOT: usize = 2 * size_of::<(Instant, Arc<Event>)>();
/// A list that has room for more than this, and holds less than a quarter, gives room back.
const ROOMY: usize = 64;

/// One channel's numbering and history.
pub(super) struct Channel {
    epoch: Epoch,
    last: u64,
    events: VecDeque<(Instant, Arc<Event>)>,
    bytes: usize,
    /// When it was last published to or read.
    pub(super) used: Instant,
    /// Its class on the shelf of its stripe.
    pub(super) shelved: u8,
}

/// What was let go of.
#[derive(Default)]
pub(super) struct Trimmed {
    /// The bytes that the channel holds no more.
    pub(super) bytes: usize,
    /// How many events went, for each reason.
    pub(super) events: [u64; Evicted::COUNT],
    /// The events themselves, to be dropped where no lock is held: mostly it is one.
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

/// What an event takes in history.
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

    /// What a channel of this name takes without its events: its entry in a table that may be half
    /// empty, and its place on the shelf.
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

    /// Notes the class of what it holds now: the one before, and the new one.
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

    /// Adds an event: it, its position, and how many bytes it takes.
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

    /// Lets go of what retention does not keep.
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

    /// Lets go of the oldest events, up to so many bytes, but of no more than a half unless it is
    /// the last one: there may be others that hold as much.
    pub(super) fn evict(&mut self, bytes: usize) -> Trimmed {
        let mut trimmed = Trimmed::default();
        let goal = bytes.min(self.bytes / 2).max(1);
        while trimmed.bytes < goal && !self.events.is_empty() {
            self.let_go(Evicted::Memory, &mut trimmed);
        }
        self.shrink();
        trimmed
    }

    /// Lets go of everything.
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

    pub(super) fn page(&self, range: Range) -> Page {
        let oldest = self
            .events
            .front()
            .and_then(|(_, event)| event.position)
            .map_or(self.last + 1, |position| position.offset);
        // Offsets are consecutive, so a range of offsets is a range of places.
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
