//! Removes expired data, a bounded part at a time and between batches.

use std::sync::Arc;

use super::channel::Channel;
use super::committer::Committer;
use super::history::History;
use super::record::{ChannelRecord, Manifest};
use super::store::{Batch, Commit, Store};
use super::table::ROOMY;
use super::trouble::Trouble;
use crate::broker::clock::millis;
use crate::broker::keys::KEY_TTL;
use crate::event::ChannelName;

/// The limits of one sweep: visited channels, deleted events, deleted keys.
const CHANNELS: usize = 1000;
const EVENTS: u64 = 4096;
const KEYS: usize = 4096;
/// How long a channel that was never published to is kept.
const NEVER_USED: u64 = 60_000;
/// How long a channel stays in memory without being used, where there are many.
const IN_MEMORY: u64 = 60_000;

/// The result of a sweep.
struct Sweep<'s> {
    store: &'s Store,
    batch: Batch<'s>,
    now: u64,
    /// How many more events may be deleted.
    budget: u64,
    /// Channels in memory whose kept events start later, and up to where they are deleted.
    trimmed: Vec<(Arc<Channel>, History, u64)>,
    forgotten: Vec<ChannelName>,
    /// The bytes that channels stored before, and now.
    kept: Vec<(u64, u64)>,
}

impl Committer {
    /// Removes a part of what has expired.
    pub(super) fn sweep(&mut self, store: &Store) {
        // A failure in the background is only visible when queried.
        if let Err(trouble) = store.check() {
            self.fail(&trouble, None);
            return;
        }
        self.folder.renew_mark_if_due();
        let now = self.shared.clock.now();
        self.shared
            .table
            .shrink(now.saturating_sub(IN_MEMORY), ROOMY);
        match self.sweep_some(store, now) {
            Ok(()) => {}
            Err(trouble @ Trouble::Damaged(_)) => {
                self.shared.metrics.store().damaged(1);
                tracing::error!(%trouble, "a part of the store can't be read");
            }
            Err(trouble) => self.fail(&trouble, None),
        }
    }

    fn sweep_some(&mut self, store: &Store, now: u64) -> Result<(), Trouble> {
        let mut sweep = Sweep {
            store,
            batch: store.batch(),
            now,
            budget: EVENTS,
            trimmed: Vec::new(),
            forgotten: Vec::new(),
            kept: Vec::new(),
        };
        for place in store.expired_keys(now, now.saturating_add(millis(KEY_TTL)), KEYS)? {
            sweep.batch.remove_key(place);
        }
        let start = std::mem::take(&mut self.swept_to);
        let mut looked_at = 0;
        for entry in store.channels("", &start) {
            looked_at += 1;
            let (name, record) = match entry {
                Ok(entry) => entry,
                // The other channels are still processed.
                Err(Trouble::Damaged(_)) if looked_at < CHANNELS => {
                    self.shared.metrics.store().damaged(1);
                    continue;
                }
                Err(trouble) => return Err(trouble),
            };
            self.sweep_channel(&mut sweep, &name, &record)?;
            if looked_at >= CHANNELS || sweep.budget == 0 {
                name.as_str().clone_into(&mut self.swept_to);
                break;
            }
        }
        if sweep.batch.is_empty() {
            return Ok(());
        }
        let forgotten = sweep.forgotten.len();
        let fewer = u64::try_from(forgotten).unwrap_or(u64::MAX);
        let mut manifest = Manifest {
            at: now,
            channels: self.manifest.channels.saturating_sub(fewer),
            ..self.next_manifest()
        };
        self.next_batch += 1;
        sweep.batch.put_manifest(&mut manifest);
        // Not synced here: nobody waits for it, and the next sync includes it.
        sweep.batch.commit(Commit::Buffered)?;
        self.wrote(manifest);
        for (channel, history, removed) in sweep.trimmed {
            let mut state = channel.state();
            state.recorded = history.numbers().kept();
            state.history.adopt_start_of(&history);
            state.removed = removed;
        }
        for (before, now) in sweep.kept {
            self.usage.change(before, now);
        }
        self.level();
        for name in &sweep.forgotten {
            self.shared.known.remove(name.as_str());
        }
        let forgotten = i64::try_from(forgotten).unwrap_or(i64::MAX);
        self.shared.metrics.channels_changed(-forgotten);
        Ok(())
    }

    fn sweep_channel(
        &self,
        sweep: &mut Sweep<'_>,
        name: &ChannelName,
        record: &ChannelRecord,
    ) -> Result<(), Trouble> {
        let namespaces = self.shared.namespaces.load();
        let namespace = namespaces.of(name);
        let in_memory = self.shared.table.get(name);
        let mut history = match &in_memory {
            Some(channel) => channel.state().history.clone(),
            None => History::new(record.now),
        };
        let (store, id, last) = (sweep.store, record.id, history.numbers().last);
        let mut look_up = |from: u64, limit: usize| store.marks(id, from..=last, limit);
        history.trim_with(&self.shared.policy(name), sweep.now, &mut look_up)?;
        let first = history.numbers().first;
        let removed = first.min(record.removed.saturating_add(sweep.budget));
        for offset in record.removed..removed {
            sweep.batch.remove_event(id, offset);
        }
        sweep.budget -= removed.saturating_sub(record.removed).min(sweep.budget);
        if history.is_empty() && removed == first {
            let max_idle = millis(namespace.max_idle);
            let patience = if last == 0 {
                max_idle.min(NEVER_USED)
            } else {
                max_idle
            };
            let used = record.used.max(self.opened);
            if self.may_forget(name, used, patience, sweep.now) {
                sweep.batch.remove_channel(name);
                sweep.forgotten.push(name.clone());
                sweep.kept.push((record.now.kept(), 0));
                return Ok(());
            }
        }
        if removed != record.removed || first != record.now.first {
            let kept = (record.now.kept(), history.numbers().kept());
            sweep.kept.push(kept);
            let record = ChannelRecord {
                now: *history.numbers(),
                removed,
                batch: 0,
                previous: None,
                ..*record
            };
            sweep.batch.put_channel(name, &record);
            if let Some(channel) = in_memory {
                sweep.trimmed.push((channel, history, removed));
            }
        }
        Ok(())
    }

    /// True if the channel was unused for this long and has no subscriber. Then it is removed from
    /// memory. Later accesses go through the committer, which creates a new one.
    fn may_forget(&self, name: &ChannelName, used: u64, patience: u64, now: u64) -> bool {
        let idle = now.saturating_sub(used) >= patience;
        if !idle {
            return false;
        }
        let since = (now + 1).saturating_sub(patience);
        if !self.shared.table.remove_unused(name, since) {
            return false;
        }
        // Subscribers register interest before they read, so any that has read is visible here.
        let sink = self.shared.sink.upgrade();
        !sink.is_some_and(|sink| sink.is_followed(name))
    }
}
