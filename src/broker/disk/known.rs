//! Which channels there are, without their names: eight bytes for each.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The channels of a store. Two channels may rarely count as one; callers must tolerate that.
#[derive(Default)]
pub(super) struct Known {
    hasher: RandomState,
    tables: Mutex<Tables>,
    /// Whether a numbering has ended, so that those who keep events need not ask.
    any_ended: AtomicBool,
}

#[derive(Default)]
struct Tables {
    channels: HashSet<u64>,
    /// Channels whose numbering has ended since their last event with a place.
    ended: HashSet<u64>,
    /// How many events without a place wait for the committer, by channel.
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

    /// Takes these names in place of all others.
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

    /// Whether an event without a place has to go through the committer: the first one, as it ends
    /// the numbering of a channel that is kept, and those behind it until all of them are through,
    /// so that none goes past another. Whoever is told so calls [`Known::passed`] later.
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

    /// An event without a place is through, or was refused.
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

    /// The channel's numbering has ended.
    pub(super) fn end(&self, name: &str) {
        let hash = self.hash(name.as_bytes());
        let mut tables = self.lock();
        if tables.channels.contains(&hash) {
            tables.ended.insert(hash);
            self.any_ended.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the channel's numbering has ended since its last event with a place.
    pub(super) fn has_ended(&self, name: &str) -> bool {
        self.lock().ended.contains(&self.hash(name.as_bytes()))
    }

    /// An event of the channel will get a place: the next one without ends its numbering again.
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
    fn only_events_that_end_a_numbering_and_those_behind_them_pass_by_the_committer() {
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
