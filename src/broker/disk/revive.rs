//! A store that failed, tried again until it works.
//!
//! After a failed write or sync the database takes no more writes, and what it holds in memory
//! can't be trusted to be on the device. So once the directory takes writes again the database is
//! closed and opened anew from what is really there. A batch that was refused is taken back should
//! parts of it have come to the disk after all: its publishers were told that it failed, and will
//! publish again. Where something may be missing that was acknowledged, which with `async` is so
//! after a failed sync, every channel gets a new epoch, as after an unclean end.

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

/// The first and the longest wait between two attempts.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long readers may take to finish before the database is closed.
const READERS: Duration = Duration::from_secs(2);
/// The database's own threads end this long after it was closed, at the latest.
const THREADS: Duration = Duration::from_millis(100);

/// A failure that lasts.
#[derive(Debug)]
pub(super) struct Down {
    since: Instant,
    next: Instant,
    wait: Duration,
    /// The batch that could not be written.
    refused: Option<u64>,
    /// True where the system may count as written what is not.
    doubtful: bool,
    /// True where what was acknowledged may never have come to the disk.
    unclean: bool,
    /// The revocations in the store that failed, should the next one have lost them.
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

    /// The same after a sync of what was acknowledged before it.
    pub(super) fn unclean(self) -> Self {
        Down {
            unclean: true,
            ..self
        }
    }

    /// How long until the next attempt.
    pub(super) fn patience(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }
}

impl Committer {
    /// Tries again, if the store is down and it is time.
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
            tracing::warn!("what was acknowledged may be missing: every channel has a new epoch");
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
        // What is in memory is asked from the disk again.
        self.cache.clear();
        self.shared.table.clear();
        self.shared.store.store(Some(Arc::new(store)));
        Ok(())
    }

    /// Closes the database once nobody reads from it.
    #[expect(
        clippy::disallowed_methods,
        reason = "neither readers nor the database's threads tell when they are done"
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
                    return Err(Trouble::Failed("it is still being read".to_owned()));
                }
            }
        }
        // They hold its files a moment longer than it waits for them.
        thread::sleep(THREADS);
        Ok(())
    }
}

/// Brings a store that was just opened in order, and finds out whether it takes writes: what holds
/// from then on. `refused` and `synced` are the newest batches of which that is known.
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
    // A number of its own, so that nothing is ever taken back twice.
    let number = manifest.batch.max(refused).max(synced) + 1;
    // Whatever the database holds is on the device once this batch is.
    manifest = manifest.next(number, found.map_or(0, |found| found.synced));
    batch.put_manifest(&mut manifest);
    batch.commit(Commit::Synced)?;
    Ok(manifest)
}

/// Forgets the idempotency keys of events that are lost: who repeats such a publish must not be told
/// that it is there.
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

/// Takes the last batch back.
fn take_back(store: &Store, batch: &mut Batch<'_>, manifest: &mut Manifest) -> Result<(), Trouble> {
    for entry in store.channels("", "") {
        let (name, record) = match entry {
            Ok(entry) => entry,
            // What can't be read is not served either.
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
