//! A channel in use: its positions, and its newest events.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::history::History;
use super::record::ChannelRecord;
use crate::broker::{Page, Range};
use crate::event::{ChannelName, Epoch, Event, HistoryPolicy, Position};

/// A channel in use. Only the committer changes its end. Readers may advance its start.
pub(super) struct Channel {
    pub(super) name: ChannelName,
    /// Its number in the keys of its events.
    pub(super) id: u64,
    /// The epoch in its record, without the store's era.
    pub(super) own_epoch: u64,
    /// The epoch that clients see.
    pub(super) epoch: Epoch,
    state: Mutex<State>,
}

/// The mutable state of a channel.
pub(super) struct State {
    pub(super) history: History,
    /// Events below this offset have been deleted.
    pub(super) removed: u64,
    /// The bytes stored according to its record.
    pub(super) recorded: u64,
    /// When it was last published to or read, in milliseconds since 1970.
    pub(super) used: u64,
    /// The newest events, up to the end.
    tail: VecDeque<Arc<Event>>,
}

/// The events that a page needs, and its other fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) top: Position,
    pub(super) oldest: u64,
    /// The offsets. Empty if the first exceeds the second.
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) more: bool,
}

impl Channel {
    /// A channel as in its record.
    pub(super) fn new(name: ChannelName, record: &ChannelRecord, era: u64, now: u64) -> Self {
        Channel {
            name,
            id: record.id,
            own_epoch: record.epoch,
            epoch: epoch(record.epoch, era),
            state: Mutex::new(State {
                history: History::new(record.now),
                removed: record.removed,
                recorded: record.now.kept(),
                used: now,
                tail: VecDeque::new(),
            }),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page from memory, if possible.
    pub(super) fn page(&self, range: Range, policy: &HistoryPolicy, now: u64) -> Option<Page> {
        let mut state = self.state();
        state.used = state.used.max(now);
        if !state.history.trim(policy, now) {
            return None;
        }
        let wanted = self.wanted(&state.history, range);
        let events = state.cached(&wanted, range.reverse)?;
        Some(wanted.page(events))
    }

    /// The events of a range.
    pub(super) fn wanted(&self, history: &History, range: Range) -> Wanted {
        let numbers = history.numbers();
        let first = range.after.saturating_add(1).max(numbers.first);
        let last = range.until.min(numbers.last);
        let count = (last + 1).saturating_sub(first);
        let limit = u64::try_from(range.limit).unwrap_or(u64::MAX);
        let taken = count.min(limit);
        let (from, to) = match (taken, range.reverse) {
            (0, _) => (1, 0),
            (_, false) => (first, first + taken - 1),
            (_, true) => (last + 1 - taken, last),
        };
        Wanted {
            top: Position {
                epoch: self.epoch,
                offset: numbers.last,
            },
            oldest: numbers.first,
            from,
            to,
            more: count > limit,
        }
    }
}

/// The epoch of a channel in an era.
pub(super) fn epoch(own: u64, era: u64) -> Epoch {
    Epoch::from_bits(own ^ era)
}

impl Wanted {
    /// True if no event is needed.
    pub(super) fn is_empty(&self) -> bool {
        self.from > self.to
    }

    /// The page with these events.
    pub(super) fn page(&self, events: Vec<Arc<Event>>) -> Page {
        Page {
            top: self.top,
            oldest: self.oldest,
            events,
            more: self.more,
        }
    }
}

impl State {
    /// The events, if all of them are cached.
    fn cached(&self, wanted: &Wanted, newest_first: bool) -> Option<Vec<Arc<Event>>> {
        if wanted.is_empty() {
            return Some(Vec::new());
        }
        let start = self.tail.front().and_then(|event| event.position)?.offset;
        let skip = usize::try_from(wanted.from.checked_sub(start)?).ok()?;
        let count = usize::try_from(wanted.to - wanted.from + 1).ok()?;
        let end = skip
            .checked_add(count)
            .filter(|end| *end <= self.tail.len())?;
        let events = self.tail.range(skip..end).map(Arc::clone);
        Some(if newest_first {
            events.rev().collect()
        } else {
            events.collect()
        })
    }

    /// Caches the newest event, and removes cached events from before the stored ones.
    pub(super) fn keep_at_hand(&mut self, event: Arc<Event>) {
        self.tail.push_back(event);
        let first = self.history.numbers().first;
        while self.first_at_hand().is_some_and(|offset| offset < first) {
            self.tail.pop_front();
        }
    }

    /// Removes the event at this offset from the cache, if it is the oldest.
    pub(super) fn let_go(&mut self, offset: u64) {
        if self.first_at_hand() == Some(offset) {
            self.tail.pop_front();
        }
        if self.tail.is_empty() {
            self.tail.shrink_to_fit();
        }
    }

    /// Empties the cache: what it holds may have been purged.
    pub(super) fn forget_at_hand(&mut self) {
        self.tail = VecDeque::new();
    }

    fn first_at_hand(&self) -> Option<u64> {
        Some(self.tail.front()?.position?.offset)
    }
}
