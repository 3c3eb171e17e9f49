//! Reopens a failed store, and retries until it works.
//!
//! After a failed write or sync, the database accepts no more writes, and its memory cannot be
//! trusted to be on the device. Hence, once the directory is writable again, the database is closed
//! and reopened from what is actually there. If parts of a refused batch reached the disk
//! nevertheless, it is reverted: its publishers were told that it failed, and will retry. If
//! acknowledged data may be missing, which with `async` is so after a failed sync, every channel
//! gets a new epoch, as after an unclean end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::committer::{Committer, load_keys, load_usage};
use super::record::{ChannelRecord, Manifest};
use super::recover::{self, LastKnown, Opened};
use super::store::{Batch, Commit, Store, batch_of_key};
use super::trouble::Trouble;
use crate::auth::Revocation;
use crate::event::ChannelName;

/// The first and the longest delay between two attempts.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long readers may take to finish before the database is closed.
const READERS: Duration = Duration::from_secs(2);
/// The latest end of the database's own threads after it was closed.
const THREADS: Duration = Duration::from_millis(100);

/// A persistent failure.
#[derive(Debug)]
pub(super) struct Down {
    since: Instant,
    next: Instant,
    wait: Duration,
    /// The batch that could not be written.
    refused: Option<u64>,
    /// True if the kernel may mark pages as clean that are not on the device.
    doubtful: bool,
    /// True if acknowledged data may never have reached the disk.
    unclean: bool,
    /// The revocations of the failed store, in case the next one has lost them.
    revocations: Option<Vec<Revocation>>,
}

impl Down {
    pub(super) fn new(trouble: &Trouble, refused: Option<u64>) -> Self {
        let now = Instant::now();
        Down {
            since: now,
            next: now + FIRST_WAIT,
            wait: FIRST_WAIT,
            refused,
            doubtful: !matches!(trouble, Trouble::Full),
            unclean: false,
            revocations: None,
        }
    }

    /// The same after a failed sync of acknowledged data.
    pub(super) fn unclean(self) -> Self {
        Down {
            unclean: true,
            ..self
        }
    }

    /// The time until the next attempt.
    pub(super) fn patience(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }
}

impl Committer {
    /// Retries, if the store has failed and the next attempt is due.
    pub(super) fn revive_if_due(&mut self) {
        let Some(mut down) = self.down.take() else {
            return;
        };
        if !down.patience().is_zero() {
            self.down = Some(down);
            return;
        }
        match self.revive(&mut down) {
            Ok(()) => {
                self.shared.available.store(true, Ordering::Relaxed);
                self.shared.metrics.store().available(true);
                let seconds = down.since.elapsed().as_secs();
                tracing::info!(seconds, "the store can write again");
            }
            Err(trouble) => {
                tracing::debug!(%trouble, "the store still can't write");
                down.wait = (down.wait * 2).min(LONGEST_WAIT);
                down.next = Instant::now() + down.wait;
                self.down = Some(down);
            }
        }
    }

    fn revive(&mut self, down: &mut Down) -> Result<(), Trouble> {
        self.folder.probe()?;
        if down.revocations.is_none() {
            down.revocations = Some(self.kept_revocations());
        }
        self.close_store()?;
        if down.doubtful {
            self.folder.rewrite_journals()?;
        }
        let on_damage = self.settings.on_damage;
        let opened = recover::open(&self.folder, LastKnown::Running, on_damage)?;
        let Opened { store, found, .. } = opened;
        let refused = down.refused.unwrap_or(0).max(self.folder.refused()?);
        let lost = found.is_none_or(|found| found.batch < self.manifest.batch);
        let new_era = down.unclean || lost || opened.is_lossy;
        let synced = self.folder.synced.batch();
        let manifest = settle(&store, found, refused, synced, new_era)?;
        self.folder.synced.note(manifest.batch);
        if new_era {
            let now = self.shared.clock.now();
            self.keys = load_keys(&store, manifest.era, now, on_damage, &self.key_shares)?;
            tracing::warn!("acknowledged data may be missing: every channel gets a new epoch");
        }
        self.manifest = manifest;
        self.next_batch = self.next_batch.max(manifest.batch + 1);
        self.shared.known.replace(store.names())?;
        self.usage = load_usage(&store, self.settings.disk_bytes)?;
        self.level();
        if new_era {
            let kept = down.revocations.as_deref().unwrap_or_default();
            self.restore_revocations(&store, kept)?;
        }
        // Cached state is read again from disk.
        self.cache.clear();
        self.shared.table.clear();
        self.shared.store.store(Some(Arc::new(store)));
        Ok(())
    }

    /// Closes the database once no reader uses it.
    #[expect(
        clippy::disallowed_methods,
        reason = "neither readers nor the database's threads signal their end"
    )]
    fn close_store(&mut self) -> Result<(), Trouble> {
        let Some(mut store) = self.shared.store.swap(None) else {
            return Ok(());
        };
        let patience = Instant::now() + READERS;
        loop {
            match Arc::try_unwrap(store) {
                Ok(store) => {
                    drop(store);
                    break;
                }
                Err(still_read) if Instant::now() < patience => {
                    store = still_read;
                    thread::sleep(Duration::from_millis(1));
                }
                Err(still_read) => {
                    self.shared.store.store(Some(still_read));
                    return Err(Trouble::Failed("it still has readers".to_owned()));
                }
            }
        }
        // They hold its files slightly longer than the database waits for them.
        thread::sleep(THREADS);
        Ok(())
    }
}

/// Recovers a reopened store, checks whether it is writable, and returns its state. `refused` and
/// `synced` are the newest batches known to be so.
pub(super) fn settle(
    store: &Store,
    found: Option<Manifest>,
    refused: u64,
    synced: u64,
    new_era: bool,
) -> Result<Manifest, Trouble> {
    let mut manifest = found.unwrap_or(Manifest {
        next_id: 1,
        ..Manifest::default()
    });
    let mut batch = store.batch();
    if refused != 0 && manifest.batch == refused {
        take_back(store, &mut batch, &mut manifest)?;
    }
    if new_era {
        manifest.era = fastrand::u64(1..);
    }
    if new_era {
        forget_lost(store, &mut batch)?;
    }
    // A new number, so that nothing is ever reverted twice.
    let number = manifest.batch.max(refused).max(synced) + 1;
    // Everything in the database is on the device once this batch is.
    manifest = manifest.next(number, found.map_or(0, |found| found.synced));
    batch.put_manifest(&mut manifest);
    batch.commit(Commit::Synced)?;
    Ok(manifest)
}

/// Removes the idempotency keys of lost events: a retry of such a publish must not be answered as a
/// duplicate.
fn forget_lost(store: &Store, batch: &mut Batch<'_>) -> Result<(), Trouble> {
    for entry in store.keys() {
        let (_, place, key) = match entry {
            Ok(entry) => entry,
            Err(Trouble::Damaged(_)) => continue,
            Err(trouble) => return Err(trouble),
        };
        let Ok(channel) = ChannelName::new(&key.channel) else {
            continue;
        };
        let stands = match store.channel(&channel) {
            Ok(record) => record,
            Err(Trouble::Damaged(_)) => None,
            Err(trouble) => return Err(trouble),
        };
        let is_there =
            stands.is_some_and(|record| record.epoch == key.epoch && record.now.last >= key.offset);
        if !is_there {
            batch.remove_key(place);
        }
    }
    Ok(())
}

/// Reverts the last batch.
fn take_back(store: &Store, batch: &mut Batch<'_>, manifest: &mut Manifest) -> Result<(), Trouble> {
    for entry in store.channels("", "") {
        let (name, record) = match entry {
            Ok(entry) => entry,
            // Unreadable data is not served either.
            Err(Trouble::Damaged(_)) => continue,
            Err(trouble) => return Err(trouble),
        };
        if record.batch != manifest.batch {
            continue;
        }
        let before = record.previous.map_or(0, |previous| previous.last);
        for offset in before + 1..=record.now.last {
            batch.remove_event(record.id, offset);
        }
        if let Some(previous) = record.previous {
            let record = ChannelRecord {
                now: previous,
                batch: 0,
                previous: None,
                ..record
            };
            batch.put_channel(&name, &record);
        } else {
            batch.remove_channel(&name);
            manifest.channels = manifest.channels.saturating_sub(1);
        }
    }
    for entry in store.keys() {
        let (_, place, _) = entry?;
        if batch_of_key(&place) == Some(manifest.batch) {
            batch.remove_key(place);
        }
    }
    Ok(())
}
