//! The set of existing channels, with eight bytes per channel instead of its name.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The channels of a store. Two channels may collide; callers must tolerate that.
#[derive(Default)]
pub(super) struct Known {
    hasher: RandomState,
    tables: Mutex<Tables>,
    /// Whether any epoch has ended, so that other callers can skip the check.
    any_ended: AtomicBool,
}

#[derive(Default)]
struct Tables {
    channels: HashSet<u64>,
    /// Channels whose epoch has ended since their last event with an offset.
    ended: HashSet<u64>,
    /// How many events without an offset are queued for the committer, by channel.
    passing: HashMap<u64, usize>,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hash(&self, name: &[u8]) -> u64 {
        self.hasher.hash_one(name)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.lock().channels.contains(&self.hash(name.as_bytes()))
    }

    pub(super) fn add(&self, name: &str) {
        self.lock().channels.insert(self.hash(name.as_bytes()));
    }

    pub(super) fn remove(&self, name: &str) {
        let hash = self.hash(name.as_bytes());
        let mut tables = self.lock();
        tables.channels.remove(&hash);
        tables.ended.remove(&hash);
    }

    /// Replaces the set with these names.
    pub(super) fn replace<E>(
        &self,
        names: impl Iterator<Item = Result<Vec<u8>, E>>,
    ) -> Result<(), E> {
        let names = names.map(|name| Ok(self.hash(&name?)));
        let channels = names.collect::<Result<HashSet<u64>, E>>()?;
        let mut tables = self.lock();
        tables.channels = channels;
        tables.ended = HashSet::new();
        Ok(())
    }

    /// Whether an event without an offset must go through the committer. The first one must,
    /// because it ends the epoch of a stored channel, and so must later ones until all of them are
    /// done, so that none overtakes another. If true, the caller must call [`Known::passed`] later.
    pub(super) fn must_pass(&self, name: &str) -> bool {
        let hash = self.hash(name.as_bytes());
        let mut tables = self.lock();
        if let Some(waiting) = tables.passing.get_mut(&hash) {
            *waiting += 1;
            return true;
        }
        let first = tables.channels.contains(&hash) && !tables.ended.contains(&hash);
        if first {
            tables.passing.insert(hash, 1);
        }
        first
    }

    /// An event without an offset is done, or was refused.
    pub(super) fn passed(&self, name: &str) {
        let hash = self.hash(name.as_bytes());
        let mut tables = self.lock();
        if let Some(waiting) = tables.passing.get_mut(&hash) {
            *waiting -= 1;
            if *waiting == 0 {
                tables.passing.remove(&hash);
            }
        }
    }

    /// The channel's epoch has ended.
    pub(super) fn end(&self, name: &str) {
        let hash = self.hash(name.as_bytes());
        let mut tables = self.lock();
        if tables.channels.contains(&hash) {
            tables.ended.insert(hash);
            self.any_ended.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the channel's epoch has ended since its last event with an offset.
    pub(super) fn has_ended(&self, name: &str) -> bool {
        self.lock().ended.contains(&self.hash(name.as_bytes()))
    }

    /// An event of the channel gets an offset, so the next one without ends its epoch again.
    pub(super) fn keeps(&self, name: &str) {
        if !self.any_ended.load(Ordering::Relaxed) {
            return;
        }
        let mut tables = self.lock();
        tables.ended.remove(&self.hash(name.as_bytes()));
        self.any_ended
            .store(!tables.ended.is_empty(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_ending_events_and_successors_use_committer() {
        let known = Known::default();
        assert!(!known.must_pass("a"), "nothing is kept of it");
        known.add("a");
        known.keeps("a");
        assert!(known.must_pass("a") && known.must_pass("a"));
        known.end("a");
        known.passed("a");
        assert!(known.must_pass("a"), "one is still under way");
        known.passed("a");
        known.passed("a");
        assert!(!known.must_pass("a") && known.has_ended("a"));
        known.keeps("a");
        assert!(known.must_pass("a"), "there is a position again");
        known.passed("a");
        known.remove("a");
        assert!(!known.must_pass("a") && !known.has_ended("a"));
    }
}
