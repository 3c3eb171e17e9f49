//! Mutual exclusion for a shard's rounds.
//!
//! A shard works in rounds. Its thread locks the cell for each round and unlocks it before it
//! polls. A publisher that finds the shard asleep may lock the cell and run a small round in place
//! of the thread. That saves the wake-up: two system calls and two context switches, which cost
//! more than the write itself if an event has one subscriber.
//!
//! No wake-up is lost: a pusher that finds the shard asleep must wake it
//! ([`ShardQueue::push_deferred`]), and does so here, by a round that leaves no work or by waking
//! the thread. An entry pushed during that round finds the shard asleep again, so its pusher must
//! do the next wake-up.

use std::sync::atomic::Ordering;

use super::queue::ShardQueue;
use super::sync::{AtomicU64, Mutex};

/// The shortest time between two rounds, in microseconds, for a publisher to run the second one. At
/// a higher rate the thread runs it: it batches the events that arrive while it wakes, and writes
/// several with one call.
const MIN_INTERVAL_US: u64 = 200;
/// No round has run yet.
const NEVER: u64 = u64::MAX;

/// The work that a publisher's round left for the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remaining {
    /// No work: the thread stays asleep.
    Nothing,
    /// Work: the thread must be woken.
    Work,
}

/// Holds one shard for its own thread and for publishers.
pub(super) struct ShardCell<S> {
    /// `None` before the shard's thread has started, and after it has ended. A panic in a round
    /// aborts the process; the poisoned lock blocks all other rounds until then.
    shard: Mutex<Option<S>>,
    /// When the last round started, in microseconds.
    round: AtomicU64,
}

impl<S> ShardCell<S> {
    /// An empty cell.
    #[must_use]
    pub(super) fn new() -> Self {
        ShardCell {
            shard: Mutex::new(None),
            round: AtomicU64::new(NEVER),
        }
    }

    /// Puts the shard into the cell.
    pub(super) fn insert(&self, shard: S) {
        if let Ok(mut cell) = self.shard.lock() {
            *cell = Some(shard);
        }
    }

    /// Takes the shard out of the cell.
    #[must_use]
    pub(super) fn take(&self) -> Option<S> {
        self.shard.lock().ok()?.take()
    }

    /// Runs a round of the shard's own thread, at `now` microseconds. It waits for a publisher's
    /// round, which is a few writes. `None` if the cell is empty.
    pub(super) fn enter<T>(&self, now: u64, round: impl FnOnce(&mut S) -> T) -> Option<T> {
        let mut cell = self.shard.lock().ok()?;
        self.round.store(now, Ordering::Relaxed);
        cell.as_mut().map(round)
    }

    /// Settles a deferred wake-up at `now` microseconds: runs `help` as a round, or wakes the
    /// thread. It never blocks. The thread is woken if the cell is locked, if the last round was a
    /// moment ago, or if `help` leaves work.
    pub(super) fn run_or_wake(
        &self,
        inbox: &ShardQueue,
        now: u64,
        help: impl FnOnce(&mut S) -> Remaining,
    ) {
        if self.try_enter(now, help) != Some(Remaining::Nothing) {
            inbox.wake();
        }
    }

    fn try_enter(&self, now: u64, help: impl FnOnce(&mut S) -> Remaining) -> Option<Remaining> {
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
