//! Where a shard is while nobody does its work.
//!
//! A shard's work is done in rounds, and its thread enters its cell for each of them; while it
//! waits at its poll, it is out. A publisher that finds the shard asleep may then enter and do a
//! small round in its place. That saves what waking a thread costs: two system calls and two
//! switches, which is more than the write itself where an event has one subscriber.
//!
//! Nothing is left lying for it: whoever pushes and finds the shard asleep owes it a wake-up
//! ([`ShardQueue::push_deferred`]), and pays it here: with a round that leaves nothing, or else by waking
//! the thread. What others push during that round finds the shard asleep again, and is theirs to
//! pay for.

use std::sync::atomic::Ordering;

use super::queue::ShardQueue;
use super::shard::Shard;
use super::sync::{AtomicU64, Mutex};

/// Who has had a round so lately has its next one on its own thread, in microseconds. Events that
/// come in such a sequence are many: there the thread gathers them while they come, and writes
/// several with one call.
const MIN_INTERVAL_US: u64 = 200;
/// There has been no round yet.
const NEVER: u64 = u64::MAX;

/// What a round in the place of the thread has left for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remaining {
    /// The thread can go on sleeping.
    Nothing,
    /// The thread must be woken.
    Work,
}

/// Holds one shard, so that its own thread or a publisher can enter it.
pub(super) struct ShardCell {
    /// `None` before the shard's thread has begun, and after it has ended. Whoever panics in there
    /// ends the process; those who come meanwhile don't touch what it has left.
    shard: Mutex<Option<Shard>>,
    /// When the last round began, in microseconds.
    round: AtomicU64,
}

impl ShardCell {
    /// An empty cell.
    #[must_use]
    pub(super) fn new() -> Self {
        ShardCell {
            shard: Mutex::new(None),
            round: AtomicU64::new(NEVER),
        }
    }

    /// The shard comes.
    pub(super) fn insert(&self, shard: Shard) {
        if let Ok(mut cell) = self.shard.lock() {
            *cell = Some(shard);
        }
    }

    /// The shard goes.
    #[must_use]
    pub(super) fn take(&self) -> Option<Shard> {
        self.shard.lock().ok()?.take()
    }

    /// A round by the shard's own thread, at `now` microseconds. It waits for a publisher who is
    /// inside, which is for a few writes. `None` where no shard lives here.
    pub(super) fn enter<T>(&self, now: u64, round: impl FnOnce(&mut Shard) -> T) -> Option<T> {
        let mut cell = self.shard.lock().ok()?;
        self.round.store(now, Ordering::Relaxed);
        cell.as_mut().map(round)
    }

    /// Pays the wake-up that somebody owes the shard at `now` microseconds. It never waits: where
    /// somebody is inside or was a moment ago, or `help` leaves something, it wakes the thread.
    pub(super) fn run_or_wake(
        &self,
        inbox: &ShardQueue,
        now: u64,
        help: impl FnOnce(&mut Shard) -> Remaining,
    ) {
        if self.try_enter(now, help) != Some(Remaining::Nothing) {
            inbox.wake();
        }
    }

    fn try_enter(&self, now: u64, help: impl FnOnce(&mut Shard) -> Remaining) -> Option<Remaining> {
        let last = self.round.load(Ordering::Relaxed);
        if last != NEVER && now.saturating_sub(last) < MIN_INTERVAL_US {
            return None;
        }
        let mut cell = self.shard.try_lock().ok()?;
        let shard = cell.as_mut()?;
        self.round.store(now, Ordering::Relaxed);
        Some(help(shard))
    }
}
