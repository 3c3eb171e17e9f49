//! History: pages of a channel's log, by offset.
//!
//! The engine keeps a little more than a namespace's history, so what has expired is decided here:
//! by the number of events, their age and their bytes. The newest events of subscribed channels are
//! in memory; the rest is read from the log, where an offset is found by interpolation.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::batch::{Head, Stored, StoredEvent};
use super::channel::Channel;
use super::error::EngineError;
use super::log::Log;
use crate::broker::{Page, Range};
use crate::event::{HistoryPolicy, Position};

/// The fewest and most batches per read of a log. A read holds a lock of the server that its writers
/// wait for.
const FEWEST: usize = 8;
const MOST: usize = 128;
/// About how many bytes one read of a log should bring.
const READ_BYTES: usize = 2 * 1024 * 1024;

/// An event's place in its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    epoch: u64,
    offset: u64,
    at: u64,
    before: u64,
    seq: u64,
}

/// What is in memory of a channel.
#[derive(Default)]
pub(super) struct Window {
    epoch: u64,
    /// The newest events, without a hole.
    events: VecDeque<StoredEvent>,
    /// The oldest event that has not expired, when it was last looked for.
    oldest: Option<(HistoryPolicy, Mark)>,
}

impl Window {
    /// Adds a batch that follows the newest event.
    fn push(&mut self, stored: &Stored) -> usize {
        let follows = self.epoch == stored.epoch
            && self
                .events
                .back()
                .is_none_or(|last| offset_of(last) + 1 == stored.first);
        let mut freed = 0;
        if !follows {
            freed = self.clear();
            self.epoch = stored.epoch;
        }
        self.events.extend(stored.events.iter().cloned());
        freed
    }

    /// Forgets all events; returns their bytes.
    pub(super) fn clear(&mut self) -> usize {
        let freed = self.events.iter().map(|e| e.event.weight()).sum();
        self.events = VecDeque::new();
        self.oldest = None;
        freed
    }

    /// The events from this offset on, if all of them up to `top` are in memory.
    fn from(&self, epoch: u64, offset: u64, top: u64) -> Option<Vec<StoredEvent>> {
        let first = offset_of(self.events.front()?);
        let last = offset_of(self.events.back()?);
        if self.epoch != epoch || first > offset || last != top {
            return None;
        }
        let skip = usize::try_from(offset - first).ok()?;
        Some(self.events.iter().skip(skip).cloned().collect())
    }
}

fn offset_of(stored: &StoredEvent) -> u64 {
    stored.event.position.map_or(0, |position| position.offset)
}

/// Bounds the bytes of all windows: the oldest events are dropped first.
pub(super) struct Cache {
    most: usize,
    state: Mutex<CacheState>,
}

#[derive(Default)]
struct CacheState {
    bytes: usize,
    order: VecDeque<(Weak<Channel>, usize)>,
}

impl Cache {
    /// An empty cache of so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Cache {
            most,
            state: Mutex::default(),
        }
    }

    /// Adds the events of a batch to the channel's window.
    pub(super) fn push(&self, channel: &Arc<Channel>, stored: &Stored) {
        let weight = stored.weight();
        if self.most == 0 || stored.events.is_empty() {
            return;
        }
        let freed = channel.window().push(stored);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes = (state.bytes + weight).saturating_sub(freed);
        state
            .order
            .push_back((Arc::downgrade(channel), stored.events.len()));
        let mut evicted = Vec::new();
        let mut over = state.bytes.saturating_sub(self.most);
        while over > 0 {
            let Some((channel, events)) = state.order.pop_front() else {
                break;
            };
            let Some(channel) = channel.upgrade() else {
                continue;
            };
            let mut window = channel.window();
            let count = events.min(window.events.len());
            let gone: Vec<StoredEvent> = window.events.drain(..count).collect();
            drop(window);
            let bytes: usize = gone.iter().map(|e| e.event.weight()).sum();
            state.bytes = state.bytes.saturating_sub(bytes);
            over = over.saturating_sub(bytes);
            evicted.push(gone);
        }
        drop(state);
        drop(evicted);
    }

    /// Drops the window of a channel without subscribers.
    pub(super) fn remove(&self, channel: &Channel) {
        let freed = channel.window().clear();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes = state.bytes.saturating_sub(freed);
    }
}

/// Reads pages.
pub(super) struct Reading<L> {
    pub(super) log: Arc<L>,
}

impl<L: Log> Reading<L> {
    /// A page of a channel with this head.
    pub(super) async fn page(
        &self,
        channel: &Arc<Channel>,
        head: Head,
        policy: HistoryPolicy,
        range: Range,
        now: u64,
    ) -> Result<Page, EngineError> {
        let reading = channel.reading.lock().await;
        let oldest = self.oldest(channel, head, policy, now).await?;
        let position = Position {
            epoch: channel.stream.shown(head.epoch),
            offset: head.top,
        };
        let first = range.after.saturating_add(1).max(oldest);
        let last = range.until.min(head.top);
        let mut page = Page {
            top: position,
            oldest,
            events: Vec::new(),
            more: false,
        };
        if first > last {
            return Ok(page);
        }
        let wanted = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
        page.more = wanted > range.limit;
        if range.limit == 0 {
            return Ok(page);
        }
        let count = u64::try_from(wanted.min(range.limit)).unwrap_or(u64::MAX);
        let (first, last) = if range.reverse {
            (last + 1 - count, last)
        } else {
            (first, first + count - 1)
        };
        let events = self
            .events(channel, head, first, last, range.bytes, range.reverse)
            .await?;
        drop(reading);
        page.more |= u64::try_from(events.len()).unwrap_or(0) < count;
        page.events = events.into_iter().map(|stored| stored.event).collect();
        if range.reverse {
            page.events.reverse();
        }
        Ok(page.within(range.bytes))
    }

    /// The events of these offsets. Stops beyond `bytes`, where the rest would be cut off.
    async fn events(
        &self,
        channel: &Arc<Channel>,
        head: Head,
        first: u64,
        last: u64,
        bytes: usize,
        reverse: bool,
    ) -> Result<Vec<StoredEvent>, EngineError> {
        let cached = channel.window().from(head.epoch, first, head.top);
        if let Some(mut events) = cached {
            let count = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
            events.truncate(count);
            return Ok(events);
        }
        let mut found: VecDeque<StoredEvent> = VecDeque::new();
        let mut weight = 0_usize;
        let Some(start) = self.find(channel, head, first).await? else {
            return Ok(Vec::new());
        };
        let mut limit = FEWEST;
        let mut page = vec![start];
        while let Some(end) = page.last().map(|stored| (stored.seq, stored.last())) {
            let page_weight: usize = page.iter().map(Stored::weight).sum();
            for stored in std::mem::take(&mut page) {
                if stored.epoch != head.epoch {
                    continue;
                }
                for event in stored.events {
                    if (first..=last).contains(&offset_of(&event)) {
                        weight += event.event.weight();
                        found.push_back(event);
                    }
                }
            }
            // Backwards, the newest are wanted: the oldest that were read are dropped.
            while reverse && weight > bytes && found.len() > 1 {
                if let Some(gone) = found.pop_front() {
                    weight -= gone.event.weight();
                }
            }
            let (seq, offset) = end;
            if offset >= last || seq >= head.seq || (!reverse && weight > bytes) {
                break;
            }
            if page_weight > READ_BYTES {
                limit = (limit / 2).max(1);
            } else {
                limit = (limit * 2).min(MOST);
            }
            page = self.read(channel, seq + 1, limit).await?;
        }
        Ok(found.into())
    }

    /// The oldest offset that has not expired; the next one if there is none.
    async fn oldest(
        &self,
        channel: &Arc<Channel>,
        head: Head,
        policy: HistoryPolicy,
        now: u64,
    ) -> Result<u64, EngineError> {
        let none = head.top + 1;
        if head.top == 0 || head.seq == 0 {
            return Ok(none);
        }
        let size = u64::try_from(policy.size).unwrap_or(u64::MAX);
        let lowest = none.saturating_sub(size).max(1);
        let ttl = u64::try_from(policy.ttl.as_millis()).unwrap_or(u64::MAX);
        let bytes = u64::try_from(policy.bytes).unwrap_or(u64::MAX);
        let stays = |at: u64, before: u64| {
            now.saturating_sub(at) < ttl && head.total.saturating_sub(before) <= bytes
        };
        let known = channel.window().oldest;
        let known = known.filter(|(of, mark)| *of == policy && mark.epoch == head.epoch);
        if let Some((_, mark)) = known
            && mark.offset >= lowest
            && stays(mark.at, mark.before)
        {
            return Ok(mark.offset);
        }
        let from = known.map_or(lowest, |(_, mark)| mark.offset.max(lowest));
        let Some(mut stored) = self.find(channel, head, from).await? else {
            return Ok(none);
        };
        // The first batch whose last event stays, by halving.
        let last_stays = |stored: &Stored| {
            let last = stored.events.last();
            last.is_some_and(|last| stays(last.at, last.before))
        };
        if !last_stays(&stored) {
            let (mut low, mut high) = (stored.seq + 1, head.seq);
            let mut best: Option<Stored> = None;
            while low <= high {
                let middle = low + (high - low) / 2;
                match self.first_with_events(channel, middle, high).await? {
                    Some(probe) if probe.epoch == head.epoch && last_stays(&probe) => {
                        high = middle.saturating_sub(1);
                        best = Some(probe);
                    }
                    Some(probe) if probe.epoch == head.epoch => low = probe.seq + 1,
                    _ => {
                        let Some(lower) = middle.checked_sub(1) else {
                            break;
                        };
                        high = lower;
                    }
                }
            }
            let Some(best) = best else {
                return Ok(none);
            };
            stored = best;
        }
        let mark = stored.events.iter().find_map(|event| {
            let offset = offset_of(event);
            (offset >= from && stays(event.at, event.before)).then_some(Mark {
                epoch: head.epoch,
                offset,
                at: event.at,
                before: event.before,
                seq: stored.seq,
            })
        });
        channel.window().oldest = mark.map(|mark| (policy, mark));
        Ok(mark.map_or(none, |mark| mark.offset))
    }

    /// The batch with this offset, or the first one after it that is still stored.
    async fn find(
        &self,
        channel: &Arc<Channel>,
        head: Head,
        offset: u64,
    ) -> Result<Option<Stored>, EngineError> {
        let known = channel.window().oldest.map(|(_, mark)| mark);
        let known = known.filter(|mark| mark.epoch == head.epoch && mark.offset <= offset);
        let mut low = known.map_or(1, |mark| mark.seq);
        let mut low_offset = known.map_or(1, |mark| mark.offset);
        let mut high = head.seq;
        let mut best = None;
        let mut halve = false;
        // The first look finds where the stored part begins, and all of a short log.
        let mut guess = low;
        while low <= high {
            let Some(stored) = self.first_with_events(channel, guess, high).await? else {
                let Some(lower) = guess.checked_sub(1) else {
                    break;
                };
                high = lower;
                guess = low + high.saturating_sub(low) / 2;
                continue;
            };
            if stored.epoch != head.epoch || stored.last() < offset {
                // Batches of earlier epochs come first.
                low = stored.seq + 1;
                if stored.epoch == head.epoch {
                    low_offset = stored.last() + 1;
                }
            } else if stored.first <= offset {
                return Ok(Some(stored));
            } else {
                let Some(lower) = guess.checked_sub(1) else {
                    return Ok(Some(stored));
                };
                high = lower;
                best = Some(stored);
            }
            let span = high.saturating_sub(low);
            let ahead = offset.saturating_sub(low_offset);
            let of = head.top.saturating_sub(low_offset).max(1);
            halve = !halve;
            guess = low
                + if halve {
                    let share = u128::from(span) * u128::from(ahead) / u128::from(of);
                    u64::try_from(share).unwrap_or(span).min(span)
                } else {
                    span / 2
                };
        }
        Ok(best)
    }

    /// The first batch with events from this sequence on, up to `until`.
    async fn first_with_events(
        &self,
        channel: &Arc<Channel>,
        mut from: u64,
        until: u64,
    ) -> Result<Option<Stored>, EngineError> {
        while from <= until {
            let Some(stored) = self.read(channel, from, 1).await?.into_iter().next() else {
                return Ok(None);
            };
            if stored.seq > until {
                return Ok(None);
            }
            if !stored.events.is_empty() {
                return Ok(Some(stored));
            }
            from = stored.seq + 1;
        }
        Ok(None)
    }

    /// A part of the log that is known to be there: where a replica lacks it, the leader has it.
    async fn read(
        &self,
        channel: &Channel,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Stored>, EngineError> {
        let page = self.log.page(channel, from, limit).await?;
        if page.is_empty() {
            let next = self.log.next(channel, from).await?;
            return Ok(next.into_iter().collect());
        }
        Ok(page)
    }
}
