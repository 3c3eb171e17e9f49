//! Events without offsets in channels that are stored.
//!
//! A namespace whose history is disabled may enable it again later, even after a restart. Hence,
//! before the first event without an offset, its channel gets a new epoch on disk. A client that
//! resumes from an earlier position is told to reload, because it is unknown what it missed.

use super::committer::Committer;
use super::queue::Publish;
use super::record::ChannelRecord;
use super::store::{Commit, Store};
use super::trouble::Trouble;
use super::{Durability, unavailable};
use crate::event::{ChannelName, Epoch};

impl Committer {
    /// Ends the epochs of the events' channels, and delivers the events.
    pub(super) fn pass(&mut self, store: &Store, events: Vec<Publish>) {
        if events.is_empty() {
            return;
        }
        let ended = self.down.is_none() && self.end_numberings(store, &events);
        for event in events {
            let Publish {
                channel,
                draft,
                answer,
            } = event;
            let receipt = if ended {
                self.shared.unkept.publish_unkept(draft)
            } else {
                Err(unavailable())
            };
            self.shared.known.passed(channel.as_str());
            answer.give(receipt);
        }
    }

    /// True if no position from before these events can appear to be complete.
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

    /// Assigns new epochs to channels.
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
        let mut manifest = self.next_manifest();
        self.next_batch += 1;
        batch.put_manifest(&mut manifest);
        batch.commit(match self.settings.durability {
            Durability::Fsync => Commit::Synced,
            Durability::Async => Commit::Buffered,
        })?;
        self.wrote(manifest);
        // The next access reads it from disk.
        for name in names {
            self.shared.table.remove(name);
        }
        Ok(())
    }
}
