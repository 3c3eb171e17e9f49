//! Which channels there are, without their names: eight bytes for each.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The channels of a store. Two channels may rarely count as one; whoever asks must bear that.
#[derive(Default)]
pub(super) struct Known {
    hasher: RandomState,
    channels: Mutex<HashSet<u64>>,
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hash(&self, name: &[u8]) -> u64 {
        self.hasher.hash_one(name)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.lock().contains(&self.hash(name.as_bytes()))
    }

    pub(super) fn add(&self, name: &str) {
        self.lock().insert(self.hash(name.as_bytes()));
    }

    pub(super) fn remove(&self, name: &str) {
        self.lock().remove(&self.hash(name.as_bytes()));
    }

    /// Takes these names in place of all others.
    pub(super) fn replace<E>(
        &self,
        names: impl Iterator<Item = Result<Vec<u8>, E>>,
    ) -> Result<(), E> {
        let names = names.map(|name| Ok(self.hash(&name?)));
        *self.lock() = names.collect::<Result<HashSet<u64>, E>>()?;
        Ok(())
    }
}
