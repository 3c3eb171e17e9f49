//! Interest: which live subjects this node is subscribed to.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

use crate::event::{ChannelName, ChannelPattern};

/// The patterns that shards of this node follow.
#[derive(Default)]
pub(super) struct InterestTable(Mutex<HashMap<ChannelPattern, Entry>>);

struct Entry {
    shards: u32,
    /// Counts changes, so that a late removal does not end a newer interest.
    generation: u64,
    task: Option<AbortHandle>,
}

impl InterestTable {
    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelPattern, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shard follows the pattern; true if no subscription is there yet.
    pub(super) fn add(&self, pattern: &ChannelPattern) -> bool {
        let mut table = self.lock();
        let entry = table.entry(pattern.clone()).or_insert(Entry {
            shards: 0,
            generation: 0,
            task: None,
        });
        entry.shards += 1;
        entry.generation += 1;
        entry.generation == 1
    }

    /// The task that receives the pattern's events.
    pub(super) fn runs(&self, pattern: &ChannelPattern, task: AbortHandle) {
        match self.lock().get_mut(pattern) {
            Some(entry) => entry.task = Some(task),
            None => task.abort(),
        }
    }

    /// A shard follows the pattern no more; the generation to pass to [`InterestTable::end`] if it
    /// was the last.
    pub(super) fn remove(&self, pattern: &ChannelPattern) -> Option<u64> {
        let mut table = self.lock();
        let entry = table.get_mut(pattern)?;
        entry.shards = entry.shards.saturating_sub(1);
        entry.generation += 1;
        (entry.shards == 0).then_some(entry.generation)
    }

    /// Ends the subscription if nothing has changed since; true if so.
    pub(super) fn end(&self, pattern: &ChannelPattern, generation: u64) -> bool {
        let mut table = self.lock();
        let ends = table
            .get(pattern)
            .is_some_and(|entry| entry.shards == 0 && entry.generation == generation);
        if ends
            && let Some(entry) = table.remove(pattern)
            && let Some(task) = entry.task
        {
            task.abort();
        }
        ends
    }

    /// True if a pattern other than the channel itself covers it.
    pub(super) fn is_covered(&self, channel: &ChannelName) -> bool {
        let table = self.lock();
        let namespace = ChannelPattern::Namespace(channel.namespace().into());
        [namespace, ChannelPattern::All]
            .iter()
            .any(|pattern| table.contains_key(pattern))
    }

    /// Ends all subscriptions.
    pub(super) fn close(&self) {
        for (_, entry) in self.lock().drain() {
            if let Some(task) = entry.task {
                task.abort();
            }
        }
    }
}
