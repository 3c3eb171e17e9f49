//! The outbox: frames queued for one connection.

use std::collections::VecDeque;
use std::io::IoSlice;

use super::chunk::Frame;

/// The most frames in one vectored write. Linux accepts 1,024 (`IOV_MAX`); beyond 64 the gain is
/// under one percent.
pub(super) const MAX_SLICES: usize = 64;

/// A range of events that were removed from an outbox; 0 to 0 if they had no offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Missing {
    /// The channel's slot in its shard.
    pub channel: u32,
    /// The first offset.
    pub from: u64,
    /// The last offset.
    pub to: u64,
    /// True if newer events with the same keys replaced all of them.
    pub conflated: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) frame: Frame,
    pub(super) kind: Kind,
}

/// The kind of a queued frame.
#[derive(Debug)]
pub(super) enum Kind {
    /// A reply or a notice: never removed.
    Fixed,
    /// Events of the channel in this slot of the shard, which may be removed.
    Events(u32),
    /// A gap notice for removed events; it grows when more are removed.
    Gap(Box<Missing>),
}

/// Frames queued for one connection, in order. Uses eight bytes while it is empty: shards lend the
/// queue itself from a [`QueuePool`].
#[derive(Debug, Default)]
pub struct Outbox(Option<Box<Queue>>);

/// The frames themselves.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) entries: VecDeque<Entry>,
    /// How many bytes of the first frame are already written.
    pub(super) written: usize,
    pub(super) bytes: usize,
}

/// Queues that no connection needs at the moment.
#[derive(Debug, Default)]
#[expect(
    clippy::vec_box,
    reason = "a queue changes its owner without being moved"
)]
pub struct QueuePool(Vec<Box<Queue>>);

impl QueuePool {
    /// The most queues that are kept.
    const MAX: usize = 4096;
    /// The largest capacity of a kept queue.
    const MAX_ROOM: usize = 256;

    #[expect(clippy::unnecessary_box_returns, reason = "the box is kept for reuse")]
    fn take(&mut self) -> Box<Queue> {
        self.0.pop().unwrap_or_default()
    }

    fn give(&mut self, mut queue: Box<Queue>) {
        if self.0.len() < Self::MAX && queue.entries.capacity() <= Self::MAX_ROOM {
            queue.entries.clear();
            queue.written = 0;
            queue.bytes = 0;
            self.0.push(queue);
        }
    }

    /// Frees all of them: called after a while without activity.
    pub fn clear(&mut self) {
        self.0.clear();
        self.0.shrink_to_fit();
    }
}

impl Queue {
    /// Splits joined events, so that each can be removed by itself. Completely written frames are
    /// dropped.
    pub(super) fn split(&mut self) {
        let mut written = std::mem::take(&mut self.written);
        for entry in std::mem::take(&mut self.entries) {
            let Kind::Events(channel) = entry.kind else {
                if self.entries.is_empty() {
                    self.written = std::mem::take(&mut written);
                }
                self.entries.push_back(entry);
                continue;
            };
            for frame in entry.frame.split() {
                if written > 0 && written >= frame.len() {
                    written -= frame.len();
                    continue;
                }
                if self.entries.is_empty() {
                    self.written = std::mem::take(&mut written);
                }
                let kind = Kind::Events(channel);
                self.entries.push_back(Entry { frame, kind });
            }
        }
    }
}

impl Outbox {
    /// The queue, if there is one.
    pub(super) fn queue(&mut self) -> Option<&mut Queue> {
        self.0.as_deref_mut()
    }

    /// The queued bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.bytes)
    }

    /// True if the outbox is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Appends a frame; with the slot of its channel if its events may be removed again.
    pub(super) fn push(&mut self, frame: Frame, channel: Option<u32>, pool: &mut QueuePool) {
        let queue = self.0.get_or_insert_with(|| pool.take());
        queue.bytes += frame.len();
        let kind = channel.map_or(Kind::Fixed, Kind::Events);
        queue.entries.push_back(Entry { frame, kind });
    }

    /// The frame at the front; its written bytes count as queued.
    #[must_use]
    pub(super) fn first(&self) -> Option<&Frame> {
        self.0.as_ref()?.entries.front().map(|entry| &entry.frame)
    }

    /// The only queued frame, if nothing of it is written yet.
    #[must_use]
    pub(super) fn whole(&self) -> Option<&Frame> {
        let queue = self.0.as_ref()?;
        let first = queue.entries.front()?;
        (queue.entries.len() == 1 && queue.written == 0).then_some(&first.frame)
    }

    /// The bytes to be written, if they are one slice.
    #[must_use]
    pub(super) fn only(&self) -> Option<&[u8]> {
        let queue = self.0.as_ref()?;
        let first = queue.entries.front()?;
        if queue.entries.len() > 1 {
            return None;
        }
        first.frame.bytes().get(queue.written..)
    }

    /// Marks queued events of this channel as not removable: a gap notice could no longer name
    /// their channel.
    pub fn settle_channel(&mut self, channel: u32) {
        for entry in self.0.iter_mut().flat_map(|queue| &mut queue.entries) {
            let of = match &entry.kind {
                Kind::Events(channel) => *channel,
                Kind::Gap(missing) => missing.channel,
                Kind::Fixed => continue,
            };
            if of == channel {
                entry.kind = Kind::Fixed;
            }
        }
    }

    /// Drops every queued frame except one that is partly written.
    pub fn clear(&mut self, pool: &mut QueuePool) {
        let Some(queue) = &mut self.0 else { return };
        if queue.written > 0 {
            queue.split();
        }
        let keep = usize::from(queue.written > 0);
        queue.entries.truncate(keep);
        let left = queue.entries.front().map_or(0, |entry| entry.frame.len());
        queue.bytes = left.saturating_sub(queue.written);
        if queue.entries.is_empty()
            && let Some(queue) = self.0.take()
        {
            pool.give(queue);
        }
    }

    /// The number of queued events, including one that is partly written.
    #[must_use]
    pub fn events(&self) -> u64 {
        let Some(queue) = &self.0 else { return 0 };
        let mut written = queue.written;
        let events = queue.entries.iter().map(|entry| {
            let written = std::mem::take(&mut written);
            entry.frame.events_after(written)
        });
        u64::try_from(events.sum::<usize>()).unwrap_or(u64::MAX)
    }

    /// Fills `slices` with the next bytes to be written; returns how many it filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let Some(queue) = &self.0 else { return 0 };
        let mut written = queue.written;
        let mut filled = 0;
        for (slot, entry) in slices.iter_mut().zip(&queue.entries) {
            *slot = IoSlice::new(entry.frame.bytes().get(written..).unwrap_or_default());
            written = 0;
            filled += 1;
        }
        filled
    }

    /// Removes written bytes. Returns the queue to the pool once it is empty.
    pub fn advance(&mut self, mut count: usize, pool: &mut QueuePool) {
        let Some(queue) = &mut self.0 else { return };
        queue.bytes = queue.bytes.saturating_sub(count);
        while let Some(first) = queue.entries.front() {
            let left = first.frame.len() - queue.written;
            if count < left {
                queue.written += count;
                break;
            }
            count -= left;
            queue.written = 0;
            queue.entries.pop_front();
        }
        if queue.entries.is_empty()
            && let Some(queue) = self.0.take()
        {
            pool.give(queue);
        }
    }
}
