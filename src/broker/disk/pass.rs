//! Events that get no place, in channels that are kept.
//!
//! A namespace that keeps history no more may keep it again later, even after a restart. So before
//! the first event that goes by without an offset, its channel gets a new epoch on disk: whoever
//! comes back with a position of before is told to reload, as it can't be known what it missed.

use super::committer::Committer;
use super::queue::Publish;
use super::record::{ChannelRecord, Manifest};
use super::store::{Commit, Store};
use super::trouble::Trouble;
use super::{Durability, unavailable};
use crate::event::{ChannelName, Epoch};

impl Committer {
    /// Ends the numbering of the events' channels, and passes them on.
    pub(super) fn pass(&mut self, store: &Store, events: Vec<Publish>) {
        if events.is_empty() {
            return;
        }
        let ended = self.down.is_none() && self.end_numberings(store, &events);
        for event in events {
            let Publish {
                channel,
                draft,
                span,
                answer,
            } = event;
            let receipt = if ended {
                self.shared.unkept.publish_unkept(draft, span)
            } else {
                Err(unavailable())
            };
            self.shared.known.passed(channel.as_str());
            answer.give(receipt);
        }
    }

    /// True if no position of before these events passes for one of after.
    fn end_numberings(&mut self, store: &Store, events: &[Publish]) -> bool {
        let mut names: Vec<&ChannelName> = events.iter().map(|event| &event.channel).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| !self.shared.known.has_ended(name.as_str()));
        match self.renumber(store, &names) {
            Ok(()) => {}
            Err(trouble @ Trouble::Damaged(_)) => {
                self.shared.metrics.store().damaged(1);
                tracing::error!(%trouble, "a channel can't be read");
                return false;
            }
            Err(trouble) => {
                self.fail(&trouble, None);
                return false;
            }
        }
        for name in names {
            self.shared.known.end(name.as_str());
        }
        true
    }

    /// Gives channels new epochs.
    fn renumber(&mut self, store: &Store, names: &[&ChannelName]) -> Result<(), Trouble> {
        let mut batch = store.batch();
        for name in names {
            if let Some(record) = store.channel(name)? {
                let record = ChannelRecord {
                    epoch: Epoch::random().to_bits() ^ self.manifest.era,
                    batch: 0,
                    previous: None,
                    ..record
                };
                batch.put_channel(name, &record);
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        let manifest = Manifest {
            batch: self.next_batch,
            ..self.manifest
        };
        self.next_batch += 1;
        batch.put_manifest(&manifest);
        batch.commit(match self.settings.durability {
            Durability::Fsync => Commit::Synced,
            Durability::Async => Commit::Buffered,
        })?;
        self.wrote(manifest);
        // Whoever comes next finds it on disk, as it is now.
        for name in names {
            self.shared.table.remove(name);
        }
        Ok(())
    }
}
