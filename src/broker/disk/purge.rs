//! Purges: the committer removes events before their time.

use super::committer::Committer;
use super::history::History;
use super::queue::PurgeOp;
use super::record::{ChannelRecord, Manifest};
use super::store::{Batch, Commit, Store};
use super::trouble::Trouble;
use super::unavailable;
use crate::broker::Purged;
use crate::error::Result;
use crate::event::Position;

/// The most events that one batch deletes. The sweep deletes the rest, which no read returns.
const DELETED_AT_ONCE: u64 = 65_536;
/// How many events of a user are looked for at a time, and in how many bytes.
const SCANNED: usize = 512;
const SCANNED_BYTES: usize = 4 * 1024 * 1024;

impl Committer {
    /// Purges events of a channel. It is done when the device has it.
    pub(super) fn purge(&mut self, store: &Store, op: &PurgeOp) -> Result<Purged> {
        if self.down.is_some() {
            return Err(unavailable());
        }
        self.try_purge(store, op).map_err(|trouble| {
            if matches!(trouble, Trouble::Damaged(_)) {
                self.shared.metrics.store().damaged(1);
                tracing::error!(channel = %op.channel, %trouble, "a channel can't be purged");
            } else {
                self.fail(&trouble, None);
            }
            unavailable()
        })
    }

    fn try_purge(&mut self, store: &Store, op: &PurgeOp) -> Result<Purged, Trouble> {
        let Some(record) = store.channel(&op.channel)? else {
            return Ok(Purged::default());
        };
        let in_memory = self.shared.table.get(&op.channel);
        let mut history = match &in_memory {
            Some(channel) => channel.state().history.clone(),
            None => History::new(record.now),
        };
        let numbers = *history.numbers();
        let until = op.purge.until.unwrap_or(u64::MAX).min(numbers.last);
        let (mut removed, mut events) = (record.removed, 0);
        match &op.purge.user {
            Some(user) => events = self.purge_user(store, &record, numbers.first..=until, user)?,
            None if until >= numbers.first => {
                events = until + 1 - numbers.first;
                let id = record.id;
                let mut look_up =
                    |from: u64, limit: usize| store.marks(id, from..=numbers.last, limit);
                history.begin_after(until, &mut look_up)?;
                let mut batch = store.batch();
                let first = history.numbers().first;
                removed = first.min(record.removed.saturating_add(DELETED_AT_ONCE));
                for offset in record.removed..removed {
                    batch.remove_event(id, offset);
                }
                let changed = ChannelRecord {
                    now: *history.numbers(),
                    removed,
                    batch: 0,
                    previous: None,
                    ..record
                };
                batch.put_channel(&op.channel, &changed);
                self.write_purge(batch)?;
                self.usage
                    .change(record.now.kept(), history.numbers().kept());
                self.level();
            }
            None => {}
        }
        let epoch = super::channel::epoch(record.epoch, self.manifest.era);
        if let Some(channel) = in_memory {
            let mut state = channel.state();
            state.recorded = history.numbers().kept();
            state.history.adopt_start_of(&history);
            state.removed = removed;
            state.forget_at_hand();
        }
        Ok(Purged {
            events,
            top: Some(Position {
                epoch,
                offset: numbers.last,
            }),
        })
    }

    /// Overwrites the events of a user with empty records, which keep their places.
    fn purge_user(
        &mut self,
        store: &Store,
        record: &ChannelRecord,
        offsets: std::ops::RangeInclusive<u64>,
        user: &str,
    ) -> Result<u64, Trouble> {
        let (mut from, until) = offsets.into_inner();
        let mut purged = 0;
        while from <= until {
            let found = store.events(record.id, from..=until, false, SCANNED, SCANNED_BYTES)?;
            let Some((last, _)) = found.records.last() else {
                break;
            };
            from = last.saturating_add(1);
            let mut batch = store.batch();
            for (offset, event) in &found.records {
                if event.is_of(user) {
                    batch.put_event(record.id, *offset, &event.purge());
                    purged += 1;
                }
            }
            if !batch.is_empty() {
                self.write_purge(batch)?;
            }
        }
        Ok(purged)
    }

    fn write_purge(&mut self, mut batch: Batch<'_>) -> Result<(), Trouble> {
        let mut manifest = Manifest {
            at: self.shared.clock.now(),
            ..self.next_manifest()
        };
        self.next_batch += 1;
        batch.put_manifest(&mut manifest);
        let number = manifest.batch;
        batch.commit(Commit::Synced)?;
        self.wrote(manifest);
        self.folder.synced.note(number);
        Ok(())
    }
}
