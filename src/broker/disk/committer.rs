//! The committer thread, which makes all changes to channels, sequentially.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::folder::{Folder, LeftAs, OpenError};
use super::queue::Op;
use super::record::{KeyRecord, Manifest};
use super::recover::{self, LastKnown, OnDamage, Opened};
use super::revive::{Down, settle};
use super::stage::{Done, Stage};
use super::store::{Commit, Store};
use super::table::Cache;
use super::trouble::Trouble;
use super::usage::Usage;
use super::{DiskSettings, Durability, Shared, unavailable};
use crate::broker::Receipt;
use crate::broker::clock::millis;
use crate::broker::keys::{KEY_TTL, KeyShares, KeyTable, ScopedKey};
use crate::event::{ChannelName, Epoch, IdempotencyKey, Position};
use crate::telemetry::Span;

/// How long it sleeps when idle.
const IDLE: Duration = Duration::from_mins(1);
/// The longest time before events reach the device if nobody waits for it.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// The committer's state.
pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) folder: Folder,
    pub(super) settings: DiskSettings,
    /// The state as of the last batch.
    pub(super) manifest: Manifest,
    /// The number of the next batch. A failed batch's number is never reused.
    pub(super) next_batch: u64,
    pub(super) keys: KeyTable<u64>,
    /// How many keys each publisher may hold.
    pub(super) key_shares: Arc<KeyShares>,
    pub(super) cache: Cache,
    /// The stored bytes.
    pub(super) usage: Usage,
    /// Why writing is impossible now.
    pub(super) down: Option<Down>,
    /// Where the next sweep continues.
    pub(super) swept_to: String,
    /// When the store was opened. No channel was used before.
    pub(super) opened: u64,
    /// Since when unsynced data exists.
    unsynced: Option<Instant>,
}

impl Committer {
    /// Opens the store, and recovers it.
    pub(super) fn open(
        shared: Arc<Shared>,
        mut folder: Folder,
        left: LeftAs,
        settings: DiskSettings,
        key_shares: Arc<KeyShares>,
    ) -> Result<Self, OpenError> {
        let path = folder.path().to_owned();
        let failed = |trouble: Trouble| OpenError::new(&path, trouble.of_a_store());
        let last = match left {
            LeftAs::New => LastKnown::Nothing,
            LeftAs::Clean(last) => LastKnown::Finished(last),
            LeftAs::Running(_) => LastKnown::Running,
        };
        let on_damage = settings.on_damage;
        let Opened {
            store,
            found,
            is_lossy,
        } = recover::open(&folder, last, on_damage).map_err(failed)?;
        if folder.is_copy {
            tracing::warn!(
                "the store was copied or restored: every channel gets a new epoch, because earlier positions may belong to events after the copy"
            );
        }
        // Clients may have received events that never reached the disk.
        let is_unclean = left == LeftAs::Running(Durability::Async);
        let new_era = is_unclean || is_lossy || folder.is_copy;
        let refused = folder.refused().map_err(failed)?;
        // Tolerated damage is still known if this process ends before the new epochs are durable.
        let noted = if is_lossy {
            folder.running(Durability::Async)
        } else {
            Ok(())
        };
        noted
            .and_then(|()| folder.synced.create())
            .map_err(|error| failed(error.into()))?;
        let synced = folder.synced.batch();
        let manifest = settle(&store, found, refused, synced, new_era).map_err(failed)?;
        folder.synced.note(manifest.batch);
        let noted = folder.running(settings.durability);
        noted
            .and_then(|()| folder.renew_mark())
            .map_err(|error| failed(error.into()))?;
        shared.clock.not_before(manifest.at);
        let now = shared.clock.now();
        let keys = load_keys(&store, manifest.era, now, on_damage, &key_shares).map_err(failed)?;
        shared.known.replace(store.names()).map_err(failed)?;
        let usage = load_usage(&store, settings.disk_bytes).map_err(failed)?;
        let channels = i64::try_from(manifest.channels).unwrap_or(i64::MAX);
        shared.metrics.channels_changed(channels);
        shared.metrics.store().available(true);
        shared.store.store(Some(Arc::new(store)));
        let committer = Committer {
            shared,
            folder,
            manifest,
            next_batch: manifest.batch + 1,
            keys,
            key_shares,
            cache: Cache::new(settings.cache_bytes),
            usage,
            settings,
            down: None,
            swept_to: String::new(),
            opened: now,
            unsynced: None,
        };
        committer.level();
        Ok(committer)
    }

    /// Runs until the queue is stopped and empty.
    pub(super) fn run(mut self) {
        let guard = Guard(Arc::clone(&self.shared));
        while let Some(ops) = self.shared.queue.take(self.patience()) {
            self.revive_if_due();
            match (&self.down, self.shared.store.load_full()) {
                (None, Some(store)) => self.work(&store, ops),
                _ => refuse(&self.shared, ops),
            }
            self.sync_if_due();
        }
        self.finish();
        drop(guard);
    }

    fn patience(&self) -> Duration {
        let sync = self
            .unsynced
            .map(|since| SYNC_EVERY.saturating_sub(since.elapsed()));
        let retry = self.down.as_ref().map(Down::patience);
        sync.into_iter().chain(retry).min().unwrap_or(IDLE)
    }

    fn work(&mut self, store: &Store, ops: Vec<Op>) {
        if ops.is_empty() {
            return;
        }
        let (shared, now) = (Arc::clone(&self.shared), self.shared.clock.now());
        self.keys.forget(now);
        let bounds = self.settings.bounds;
        let mut stage = Stage::new(store, self.next_manifest(), now, bounds);
        let (mut sweep, mut ended) = (false, Vec::new());
        let mut passing = Vec::new();
        #[cfg(test)]
        let mut settled = Vec::new();
        for op in ops {
            match op {
                Op::Publish(publish) => {
                    stage.publish(&shared, &self.keys, &self.key_shares, *publish);
                }
                Op::Pass(event) => passing.push(*event),
                Op::Open(name, answer) => stage.open(&shared, &name, answer),
                Op::Revoke(revocation, answer) => stage.revoke(&revocation, answer),
                // After the batch, because a revocation in it may have replaced one of them.
                Op::RemoveRevocations(mut more) => ended.append(&mut more),
                Op::Sweep => sweep = true,
                #[cfg(test)]
                Op::Settle(answer) => settled.push(answer),
                #[cfg(test)]
                Op::Fail(answer) => {
                    let trouble = Trouble::Failed("as asked".to_owned());
                    match self.settings.durability {
                        Durability::Fsync => self.fail(&trouble, None),
                        Durability::Async => self.fail_to_sync(&trouble),
                    }
                    settled.push(answer);
                }
            }
        }
        self.commit(stage, now);
        self.pass(store, passing);
        if self.down.is_none() {
            self.remove_revocations(store, &ended);
        }
        if sweep && self.down.is_none() {
            self.sweep(store);
        }
        #[cfg(test)]
        for answer in settled {
            answer.give(Ok(()));
        }
    }

    /// Writes a batch. Only then do its changes take effect.
    fn commit(&mut self, mut stage: Stage<'_>, now: u64) {
        stage.complete(&self.shared);
        if stage.batch.is_empty() {
            return;
        }
        let how = match self.settings.durability {
            Durability::Fsync => Commit::Synced,
            Durability::Async if stage.is_synced => Commit::Synced,
            Durability::Async => Commit::Buffered,
        };
        let number = stage.manifest.batch;
        self.next_batch = number + 1;
        let Stage {
            batch,
            manifest,
            channels,
            done,
            ..
        } = stage;
        let together = self.together(&done);
        let written = batch.commit(how);
        drop(together);
        if let Err(trouble) = written {
            self.fail(&trouble, Some(number));
            done.into_iter().for_each(Done::refuse);
            return;
        }
        self.wrote(manifest);
        if how == Commit::Synced {
            self.folder.synced.note(number);
        }
        for mut staged in channels {
            if !staged.is_changed() {
                continue;
            }
            {
                let mut held = staged.channel.state();
                let kept = staged.history.numbers().kept();
                self.usage.change(held.recorded, kept);
                held.recorded = kept;
                staged.history.adopt_start_of(&held.history);
                held.history = staged.history;
                held.removed = staged.removed;
                held.used = held.used.max(now);
            }
            if staged.is_new {
                self.shared.table.insert(&staged.channel);
                self.shared.known.add(staged.channel.name.as_str());
                self.shared.metrics.channels_changed(1);
            }
            self.cache.keep(&staged.channel, &staged.events);
        }
        self.level();
        self.deliver(done, now);
    }

    /// The span of one write for several events. Ends on drop.
    fn together(&self, done: &[Done]) -> Span {
        if !self.shared.tracing.enabled() {
            return Span::none();
        }
        let events = done.iter().filter_map(|done| match done {
            Done::Event { event, .. } => Some(event),
            Done::Repeat { .. } | Done::Revoked { .. } | Done::Opened { .. } => None,
        });
        let traces = events.clone().filter_map(|event| event.trace.as_ref());
        self.shared.tracing.commit_batch(traces, events.count())
    }

    /// Computes how much each channel may store from now on.
    pub(super) fn level(&self) {
        let metrics = &self.shared.metrics;
        metrics.store().kept(self.usage.bytes());
        if self.shared.level.set(self.usage.level()) {
            metrics.limit_reached("history.disk_bytes");
        }
    }

    /// The manifest of the next batch.
    pub(super) fn next_manifest(&self) -> Manifest {
        self.manifest
            .next(self.next_batch, self.folder.synced.batch())
    }

    /// Records that a batch was written.
    pub(super) fn wrote(&mut self, manifest: Manifest) {
        self.manifest = manifest;
        if self.settings.durability == Durability::Async {
            self.unsynced.get_or_insert_with(Instant::now);
        }
    }

    /// Delivers the events of a written batch, in their order.
    fn deliver(&mut self, done: Vec<Done>, now: u64) {
        let sink = self.shared.sink.upgrade();
        let expires = now.saturating_add(millis(KEY_TTL));
        let mut receipts: Vec<Option<Receipt>> = Vec::with_capacity(done.len());
        let mut events = 0;
        for done in done {
            let receipt = match done {
                Done::Event { event, key, answer } => {
                    events += 1;
                    let metrics = &self.shared.metrics;
                    metrics.publish_commit(event.accepted);
                    let (id, position) = (event.id, event.position);
                    let subscribers = sink.as_ref().map_or(0, |sink| sink.deliver(event));
                    let receipt = Receipt {
                        id,
                        position,
                        subscribers,
                        duplicate: false,
                    };
                    if let Some((key, share)) = key {
                        self.keys.insert(&key, share, receipt, expires);
                    }
                    answer.give(Ok(receipt));
                    Some(receipt)
                }
                Done::Repeat { of, answer } => {
                    let first = receipts.get(of).copied().flatten();
                    let repeat = first.map(|first| Receipt {
                        duplicate: true,
                        ..first
                    });
                    answer.give(repeat.ok_or_else(unavailable));
                    None
                }
                Done::Revoked { answer } => {
                    answer.give(Ok(()));
                    None
                }
                Done::Opened { channel, answer } => {
                    answer.give(Ok(channel));
                    None
                }
            };
            receipts.push(receipt);
        }
        self.shared.metrics.store().committed(events);
    }

    fn sync_if_due(&mut self) {
        let due = self
            .unsynced
            .is_some_and(|since| since.elapsed() >= SYNC_EVERY);
        if !due || self.down.is_some() {
            return;
        }
        self.unsynced = None;
        let synced = self.shared.store.load_full().map(|store| store.sync());
        match synced {
            Some(Ok(())) => self.folder.synced.note(self.manifest.batch),
            Some(Err(trouble)) => self.fail_to_sync(&trouble),
            None => {}
        }
    }

    /// Acknowledged events may never reach the disk. As after an unclean end, no earlier position
    /// may appear to be complete.
    pub(super) fn fail_to_sync(&mut self, trouble: &Trouble) {
        self.fail(trouble, None);
        self.down = self.down.take().map(Down::unclean);
    }

    /// The store can no longer write.
    pub(super) fn fail(&mut self, trouble: &Trouble, refused: Option<u64>) {
        tracing::error!(%trouble, "the store can't write: publishes are refused until it can");
        self.shared.available.store(false, Ordering::Relaxed);
        self.shared.metrics.store().available(false);
        if let Some(batch) = refused
            && let Err(error) = self.folder.refuse(batch)
        {
            tracing::warn!(%error, "the refused batch could not be recorded on disk");
        }
        self.unsynced = None;
        self.down = Some(Down::new(trouble, refused));
    }

    /// Syncs everything to the device, and records that this process finished.
    fn finish(&mut self) {
        let store = self.shared.store.swap(None);
        let Some(store) = store.filter(|_| self.down.is_none()) else {
            return;
        };
        let finished = store.sync().and_then(|()| {
            let noted = self.folder.finished(self.manifest.batch);
            noted.map_err(Trouble::from)
        });
        if let Err(trouble) = finished {
            tracing::error!(%trouble, "the store could not be closed cleanly");
        }
    }
}

impl Done {
    fn refuse(self) {
        match self {
            Done::Event { answer, .. } | Done::Repeat { answer, .. } => {
                answer.give(Err(unavailable()));
            }
            Done::Revoked { answer } => {
                answer.give(Err(unavailable()));
            }
            Done::Opened { answer, .. } => {
                answer.give(Err(unavailable()));
            }
        }
    }
}

fn refuse(shared: &Shared, ops: Vec<Op>) {
    for op in ops {
        match op {
            Op::Publish(publish) => {
                publish.answer.give(Err(unavailable()));
            }
            Op::Pass(event) => {
                shared.known.passed(event.channel.as_str());
                event.answer.give(Err(unavailable()));
            }
            Op::Open(_, answer) => {
                answer.give(Err(unavailable()));
            }
            Op::Revoke(_, answer) => {
                answer.give(Err(unavailable()));
            }
            Op::RemoveRevocations(_) | Op::Sweep => {}
            #[cfg(test)]
            Op::Settle(answer) | Op::Fail(answer) => {
                answer.give(Ok(()));
            }
        }
    }
}

/// If the committer panics, its callers are released.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.available.store(false, Ordering::Relaxed);
            self.0.metrics.store().available(false);
        }
        self.0.queue.abandon();
    }
}

pub(super) fn load_keys(
    store: &Store,
    era: u64,
    now: u64,
    on_damage: OnDamage,
    shares: &Arc<KeyShares>,
) -> Result<KeyTable<u64>, Trouble> {
    let mut keys = KeyTable::default();
    // If the clock was ahead when a key was stored, the key still expires no later than others.
    let latest = now.saturating_add(millis(KEY_TTL));
    for entry in store.keys() {
        let (expires, _, record) = match entry {
            Ok(entry) => entry,
            Err(trouble @ Trouble::Damaged(_)) if on_damage == OnDamage::NewEpoch => {
                tracing::warn!(%trouble, "an idempotency key can't be read");
                continue;
            }
            Err(trouble) => return Err(trouble),
        };
        let expires = expires.min(latest);
        let receipt = receipt(&record, era);
        if let (Some((channel, receipt)), true) = (receipt, expires > now) {
            let key = IdempotencyKey {
                publisher: record.publisher.into(),
                key: record.key.into(),
            };
            let key = ScopedKey::new(&channel, &key);
            keys.insert(&key, shares.restore(&key), receipt, expires);
        }
    }
    Ok(keys)
}

/// The bytes stored by all channels.
pub(super) fn load_usage(store: &Store, most: u64) -> Result<Usage, Trouble> {
    let mut usage = Usage::new(most);
    for entry in store.channels("", "") {
        match entry {
            Ok((_, record)) => usage.change(0, record.now.kept()),
            // Unreadable channels are counted when they are requested.
            Err(Trouble::Damaged(_)) => {}
            Err(trouble) => return Err(trouble),
        }
    }
    Ok(usage)
}

fn receipt(record: &KeyRecord, era: u64) -> Option<(ChannelName, Receipt)> {
    let receipt = Receipt {
        id: Uuid::from_slice(&record.id).ok()?,
        position: Some(Position {
            epoch: Epoch::from_bits(record.epoch ^ era),
            offset: record.offset,
        }),
        // The number of subscribers at delivery is not stored.
        subscribers: 0,
        duplicate: false,
    };
    Some((ChannelName::new(&record.channel).ok()?, receipt))
}
