//! The database: four keyspaces of fjall, an embedded log-structured store.
//!
//! `events` contains events by channel number and offset, `channels` the state of each channel,
//! `keys` the idempotency keys in order of expiry, `meta` the [`Manifest`] and revocations. A batch
//! is written to fjall's journal atomically: after a crash all of it is there, or nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::Duration;

use fjall::{
    AbstractTree as _, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode,
    Readable as _,
};

use super::backup::Counted;
use super::history::Mark;
use super::record::{
    CHANNELS, ChannelRecord, CursorRecord, EVENTS, EventRecord, KEYS, KeyRecord, META, Manifest,
    MarkRecord, RevocationRecord, Unreadable, seal, unseal,
};
use super::trouble::{Trouble, unreadable};
use crate::broker::CursorKey;
use crate::event::ChannelName;

/// The key of the [`Manifest`].
pub(super) const MANIFEST: &[u8] = b"manifest";
/// The key prefix of revocations, which are in the manifest's keyspace.
pub(super) const REVOCATIONS: &[u8] = b"revocation/";
/// The key prefix of cursors, which are there too.
pub(super) const CURSORS: &[u8] = b"cursor/";
/// A key in every other keyspace, rewritten by each batch that writes there. Hence, the newest
/// write of a keyspace is never compacted away, and missing tables are detected.
const SENTINEL: &[u8] = b"\xff";
/// The keyspaces.
const KEYSPACES: [&str; 4] = ["meta", "channels", "events", "keys"];
/// The size of the block cache.
const BLOCK_CACHE: u64 = 16 * 1024 * 1024;
/// The approximate limit of journals, which bounds how much a start has to read.
const JOURNALS: u64 = 128 * 1024 * 1024;
/// The memtable sizes: for events, and for the rest.
const EVENTS_IN_MEMORY: u64 = 16 * 1024 * 1024;
const REST_IN_MEMORY: u64 = 4 * 1024 * 1024;
/// A read of marks stops after this many bytes.
const MARKS_BYTES: usize = 256 * 1024;

/// An open database.
pub(super) struct Store {
    db: Database,
    meta: Keyspace,
    channels: Keyspace,
    events: Keyspace,
    keys: Keyspace,
}

/// When a batch counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commit {
    /// Once it is on the device.
    Synced,
    /// Once the operating system has it.
    Buffered,
}

/// Changes that are written atomically.
pub(super) struct Batch<'s> {
    store: &'s Store,
    writes: OwnedWriteBatch,
    /// Which keyspaces it writes to.
    touches: u32,
}

/// An entry of any keyspace.
#[derive(Debug)]
pub(super) struct Entry {
    /// The number of its keyspace.
    pub(super) keyspace: u32,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// A range of a channel's events, as far as they are readable.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    /// The records with their offsets, in the requested order.
    pub(super) records: Vec<(u64, EventRecord)>,
    /// The number of unreadable ones.
    pub(super) damaged: u64,
    /// True if it was truncated because of its size.
    pub(super) cut: bool,
}

impl Store {
    /// Opens the database in a directory, or creates one.
    pub(super) fn open(path: &Path) -> Result<Self, Trouble> {
        // The database trusts some names and numbers that it finds on disk.
        match catch_unwind(AssertUnwindSafe(|| Self::try_open(path))) {
            Ok(opened) => opened.map_err(|error| Trouble::of_opening(error, path)),
            Err(_) => Err(unreadable(path, "its files can't be understood")),
        }
    }

    fn try_open(path: &Path) -> fjall::Result<Self> {
        let db = Database::builder(path)
            .cache_size(BLOCK_CACHE)
            .max_journaling_size(JOURNALS)
            .worker_threads(2)
            .open()?;
        let open = |name: &str, in_memory: u64| {
            // Leveled compaction, which is the default. Expired events are deleted by key.
            let options = || KeyspaceCreateOptions::default().max_memtable_size(in_memory);
            db.keyspace(name, options)
        };
        Ok(Store {
            meta: open("meta", REST_IN_MEMORY)?,
            channels: open("channels", REST_IN_MEMORY)?,
            events: open("events", EVENTS_IN_MEMORY)?,
            keys: open("keys", REST_IN_MEMORY)?,
            db,
        })
    }

    /// The keyspaces that the database in this directory should have but does not. Otherwise, it
    /// would recreate them, or discard what is left of them.
    pub(super) fn missing_keyspaces(path: &Path) -> std::io::Result<bool> {
        let mut sound = 0;
        let keyspaces = path.join("keyspaces");
        if !keyspaces.is_dir() {
            return Ok(true);
        }
        for entry in std::fs::read_dir(keyspaces)? {
            sound += usize::from(entry?.path().join("current").try_exists()?);
        }
        // The database has a keyspace of its own for the names of the others.
        let own = path.join("keyspaces/0/current").try_exists()?;
        Ok(!own || sound < KEYSPACES.len() + 1)
    }

    /// A keyspace whose tables lack writes. Determined from what was written to each before the
    /// oldest batch that a journal still contains.
    pub(super) fn lost_tables(&self, written: [u64; 4]) -> Option<&'static str> {
        let all = KEYSPACES.into_iter().zip(self.keyspaces()).zip(written);
        let mut lost = all.filter(|((_, keyspace), written)| {
            let persisted = keyspace.tree.get_highest_persisted_seqno().unwrap_or(0);
            persisted < *written
        });
        lost.next().map(|((name, _), _)| name)
    }

    /// The state of the whole store. `None` if it is new.
    pub(super) fn manifest(&self) -> Result<Option<Manifest>, Trouble> {
        let record = self.meta.get(MANIFEST)?;
        let manifest = record.map(|record| unseal(MANIFEST, &record));
        Ok(manifest.transpose()?)
    }

    /// The entries of the manifest's keyspace below a prefix.
    pub(super) fn meta_from(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), Trouble>> {
        let entries = self.meta.prefix(prefix).map(fjall::Guard::into_inner);
        entries.map(|entry| {
            let (key, record) = entry?;
            Ok((key.to_vec(), record.to_vec()))
        })
    }

    /// The revocation of the same subject. `None` if there is none.
    pub(super) fn revocation(
        &self,
        like: &RevocationRecord,
    ) -> Result<Option<RevocationRecord>, Trouble> {
        let key = like.key();
        let record = self.meta.get(&key)?;
        Ok(record.map(|record| unseal(&key, &record)).transpose()?)
    }

    /// A channel. `None` if there is none with this name.
    pub(super) fn channel(&self, name: &ChannelName) -> Result<Option<ChannelRecord>, Trouble> {
        let key = name.as_str().as_bytes();
        let record = self.channels.get(key)?;
        let channel = record.map(|record| unseal(key, &record));
        Ok(channel.transpose()?)
    }

    /// The channels whose names come after `after` and start with `prefix`, ordered by name. A
    /// damaged record is an error between the others. A damaged file is an error that ends the
    /// list.
    pub(super) fn channels(
        &self,
        prefix: &str,
        after: &str,
    ) -> impl Iterator<Item = Result<(ChannelName, ChannelRecord), Trouble>> {
        let from = if after >= prefix { after } else { prefix };
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        let mut unreadable = false;
        self.channels
            .range(from.as_bytes()..)
            .map_while(move |entry| {
                if unreadable {
                    return None;
                }
                let entry = entry.into_inner();
                unreadable = entry.is_err();
                Some(entry)
            })
            .filter(|entry| !is_sentinel(entry))
            .map(|entry| {
                let (key, record) = entry?;
                let name = std::str::from_utf8(&key).map_err(|_| Unreadable::Damaged)?;
                let name = ChannelName::new(name).map_err(|_| Unreadable::Damaged)?;
                Ok((name, unseal(&key, &record)?))
            })
            .skip_while(move |entry| matches!(entry, Ok((name, _)) if name.as_str() == after))
            .take_while(
                move |entry| !matches!(entry, Ok((name, _)) if !name.as_str().starts_with(&prefix)),
            )
    }

    /// The names of all channels.
    pub(super) fn names(&self) -> impl Iterator<Item = Result<Vec<u8>, Trouble>> {
        let entries = self.channels.iter();
        let names = entries.map(|entry| Ok(entry.key()?.to_vec()));
        names.filter(|name| !matches!(name, Ok(name) if name == SENTINEL))
    }

    /// Events of a channel within offsets, up to a number, and after the first one up to a size.
    pub(super) fn events(
        &self,
        id: u64,
        offsets: std::ops::RangeInclusive<u64>,
        newest_first: bool,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Stretch, Trouble> {
        let mut stretch = Stretch::default();
        if offsets.is_empty() || limit == 0 {
            return Ok(stretch);
        }
        let mut entries = self
            .events
            .range(event_key(id, *offsets.start())..=event_key(id, *offsets.end()));
        let mut bytes = 0;
        while stretch.records.len() < limit {
            let entry = if newest_first {
                entries.next_back()
            } else {
                entries.next()
            };
            let Some(entry) = entry else { break };
            let (key, record) = entry.into_inner()?;
            let offset = offset_in(&key);
            bytes += record.len();
            if bytes > max_bytes && !stretch.records.is_empty() {
                stretch.cut = true;
                break;
            }
            match (offset, unseal::<EventRecord>(&key, &record)) {
                (Some(offset), Ok(event)) => stretch.records.push((offset, event)),
                _ => stretch.damaged += 1,
            }
        }
        Ok(stretch)
    }

    /// The marks of consecutive readable events from an offset on: at most `limit`, and at least
    /// two if there are two. With the offset of the first.
    pub(super) fn marks(
        &self,
        id: u64,
        offsets: std::ops::RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Option<(u64, Vec<Mark>)>, Trouble> {
        if offsets.is_empty() {
            return Ok(None);
        }
        let (mut found, mut bytes): (Option<(u64, Vec<Mark>)>, usize) = (None, 0);
        let entries = self
            .events
            .range(event_key(id, *offsets.start())..=event_key(id, *offsets.end()));
        for entry in entries {
            let (key, record) = entry.into_inner()?;
            bytes += record.len();
            let mark = unseal::<MarkRecord>(&key, &record);
            let (Some(offset), Ok(mark)) = (offset_in(&key), mark) else {
                // A damaged record: those before and after it are not consecutive.
                if found.is_some() {
                    break;
                }
                continue;
            };
            let mark = Mark {
                at: mark.at,
                before: mark.before,
            };
            match &mut found {
                None => found = Some((offset, vec![mark])),
                Some((_, marks)) => marks.push(mark),
            }
            let count = found.as_ref().map_or(0, |(_, marks)| marks.len());
            if count >= limit || (count >= 2 && bytes > MARKS_BYTES) {
                break;
            }
        }
        Ok(found)
    }

    /// Every idempotency key with its expiry, in that order.
    pub(super) fn keys(&self) -> impl Iterator<Item = Result<(u64, Vec<u8>, KeyRecord), Trouble>> {
        let entries = self.keys.iter().map(fjall::Guard::into_inner);
        let entries = entries.filter(|entry| !is_sentinel(entry));
        entries.map(|entry| {
            let (key, record) = entry?;
            let expires = key.first_chunk().map(|at| u64::from_be_bytes(*at));
            let expires = expires.ok_or(Unreadable::Damaged)?;
            Ok((expires, key.to_vec(), unseal(&key, &record)?))
        })
    }

    /// The keys of up to `limit` idempotency entries that expired before this time, or would expire
    /// later than any valid key: such a key was stored while a clock was ahead.
    pub(super) fn expired_keys(
        &self,
        now: u64,
        latest: u64,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, Trouble> {
        let expired = self.keys.range(..now.to_be_bytes());
        let ahead = self.keys.range(latest.saturating_add(1).to_be_bytes()..);
        expired
            .chain(ahead)
            .take(limit)
            .map(|entry| Ok(entry.key()?.to_vec()))
            .collect::<Result<_, Trouble>>()
    }

    fn keyspaces(&self) -> [&Keyspace; 4] {
        [&self.meta, &self.channels, &self.events, &self.keys]
    }

    /// A snapshot of every entry, between two batches.
    pub(super) fn snapshot(&self) -> impl Iterator<Item = Result<Entry, Trouble>> {
        let snapshot = self.db.snapshot();
        let keyspaces = (0..).zip(self.keyspaces());
        keyspaces.flat_map(move |(keyspace, entries)| {
            let entries = snapshot.iter(entries).map(fjall::Guard::into_inner);
            let entries = entries.filter(|entry| !is_sentinel(entry));
            entries.map(move |entry| {
                let (key, value) = entry?;
                Ok(Entry {
                    keyspace,
                    key: key.to_vec(),
                    value: value.to_vec(),
                })
            })
        })
    }

    /// Flushes all journals to tables.
    #[cfg(test)]
    pub(super) fn flush_all(&self) {
        for keyspace in self.keyspaces() {
            keyspace.rotate_memtable_and_wait().unwrap();
        }
    }

    /// Flushes the idempotency keys to a table.
    #[cfg(test)]
    pub(super) fn flush_keys(&self) {
        self.keys.rotate_memtable_and_wait().unwrap();
    }

    /// Fills the journal until the database rotates it. The other keyspaces' data in it is not in
    /// tables then.
    #[cfg(test)]
    pub(super) fn fill_journal(&self, is_done: impl Fn() -> bool) {
        let filler = vec![0xA5; 1 << 20];
        let mut offset = 0;
        while !is_done() {
            self.put_raw_event(u64::MAX, offset, &filler);
            offset += 1;
        }
    }

    /// Overwrites an event with arbitrary bytes.
    #[cfg(test)]
    pub(super) fn put_raw_event(&self, id: u64, offset: u64, record: &[u8]) {
        self.events.insert(event_key(id, offset), record).unwrap();
    }

    /// Writes an arbitrary entry beside the manifest.
    #[cfg(test)]
    pub(super) fn put_raw_meta(&self, key: &[u8], record: &[u8]) {
        self.meta.insert(key, record).unwrap();
    }

    /// Starts a batch.
    pub(super) fn batch(&self) -> Batch<'_> {
        Batch {
            store: self,
            writes: self.db.batch(),
            touches: 0,
        }
    }

    /// Syncs everything that was written.
    pub(super) fn sync(&self) -> Result<(), Trouble> {
        Ok(self.db.persist(PersistMode::SyncData)?)
    }

    /// Fails if an earlier failure, including one in the background, prevents writes.
    pub(super) fn check(&self) -> Result<(), Trouble> {
        Ok(self.db.persist(PersistMode::Buffer)?)
    }

    /// Waits while background flushes lag. The database would wait too, but would not notice that
    /// flushing has failed.
    #[expect(
        clippy::disallowed_methods,
        reason = "the database tells nobody when it has caught up"
    )]
    fn wait_for_room(&self) -> Result<(), Trouble> {
        let all = self.keyspaces();
        let behind = |k: &&Keyspace| k.sealed_memtable_count() >= 3 || k.l0_table_count() >= 20;
        while all.iter().any(behind) {
            self.check()?;
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Entry {
    /// Fails if it is unreadable. Otherwise returns how it is counted.
    pub(super) fn check(&self) -> Result<Option<Counted>, Trouble> {
        let (key, value) = (self.key.as_slice(), self.value.as_slice());
        Ok(match self.keyspace {
            0 if key.starts_with(REVOCATIONS) => {
                unseal::<RevocationRecord>(key, value)?.revocation()?;
                None
            }
            0 if key.starts_with(CURSORS) => {
                unseal::<CursorRecord>(key, value)?.cursor()?;
                None
            }
            0 => {
                unseal::<Manifest>(key, value)?;
                None
            }
            1 => {
                unseal::<ChannelRecord>(key, value)?;
                Some(|contents| &mut contents.channels)
            }
            // A damaged event is skipped when it is read, wherever it is.
            2 => Some(|contents| &mut contents.events),
            3 => {
                unseal::<KeyRecord>(key, value)?;
                Some(|contents| &mut contents.keys)
            }
            _ => return Err(Unreadable::Newer.into()),
        })
    }

    /// The manifest, if it is that.
    pub(super) fn manifest(&self) -> Result<Option<Manifest>, Trouble> {
        let is_manifest = self.keyspace == 0 && self.key == MANIFEST;
        let manifest = is_manifest.then(|| unseal(MANIFEST, &self.value));
        Ok(manifest.transpose()?)
    }
}

impl Batch<'_> {
    /// Inserts an entry of another store.
    pub(super) fn put(&mut self, entry: Entry) -> Result<(), Trouble> {
        let place = usize::try_from(entry.keyspace).unwrap_or(usize::MAX);
        let keyspace = self.store.keyspaces().get(place).copied();
        let keyspace = keyspace.ok_or(Unreadable::Newer)?;
        self.writes.insert(keyspace, entry.key, entry.value);
        Ok(())
    }

    /// Completes the batch: the manifest is its last entry.
    pub(super) fn put_manifest(&mut self, manifest: &mut Manifest) {
        let Store {
            channels,
            events,
            keys,
            ..
        } = self.store;
        for (keyspace, bit) in [(channels, CHANNELS), (events, EVENTS), (keys, KEYS)] {
            if self.touches & bit != 0 {
                self.writes.insert(keyspace, SENTINEL, []);
            }
        }
        manifest.touches = self.touches | META;
        // There is no other writer, so this is the batch's own number, or slightly below.
        manifest.sequence = self.store.db.seqno();
        let record = seal(MANIFEST, manifest);
        self.writes.insert(&self.store.meta, MANIFEST, record);
    }

    pub(super) fn put_channel(&mut self, name: &ChannelName, channel: &ChannelRecord) {
        let key = name.as_str().as_bytes();
        let record = seal(key, channel);
        self.touches |= CHANNELS;
        self.writes.insert(&self.store.channels, key, record);
    }

    pub(super) fn remove_channel(&mut self, name: &ChannelName) {
        self.touches |= CHANNELS;
        self.writes
            .remove(&self.store.channels, name.as_str().as_bytes());
    }

    pub(super) fn put_event(&mut self, id: u64, offset: u64, event: &EventRecord) {
        let key = event_key(id, offset);
        let record = seal(&key, event);
        self.touches |= EVENTS;
        self.writes.insert(&self.store.events, key, record);
    }

    pub(super) fn remove_event(&mut self, id: u64, offset: u64) {
        self.touches |= EVENTS;
        self.writes
            .remove(&self.store.events, event_key(id, offset));
    }

    /// Stores an idempotency key. `index` distinguishes the keys of a batch.
    pub(super) fn put_key(&mut self, expires: u64, batch: u64, index: u32, key: &KeyRecord) {
        let mut place = Vec::with_capacity(20);
        place.extend_from_slice(&expires.to_be_bytes());
        place.extend_from_slice(&batch.to_be_bytes());
        place.extend_from_slice(&index.to_be_bytes());
        let record = seal(&place, key);
        self.touches |= KEYS;
        self.writes.insert(&self.store.keys, place, record);
    }

    pub(super) fn put_revocation(&mut self, revocation: &RevocationRecord) {
        let key = revocation.key();
        let record = seal(&key, revocation);
        self.writes.insert(&self.store.meta, key, record);
    }

    pub(super) fn remove_revocation(&mut self, revocation: &RevocationRecord) {
        self.writes.remove(&self.store.meta, revocation.key());
    }

    pub(super) fn put_cursor(&mut self, cursor: &CursorRecord) {
        let key = cursor.key();
        let record = seal(&key, cursor);
        self.writes.insert(&self.store.meta, key, record);
    }

    pub(super) fn remove_cursor(&mut self, key: &CursorKey) {
        let key = CursorRecord::key_of(&key.user, &key.name, key.channel.as_str());
        self.writes.remove(&self.store.meta, key);
    }

    pub(super) fn remove_key(&mut self, place: Vec<u8>) {
        self.touches |= KEYS;
        self.writes.remove(&self.store.keys, place);
    }

    /// True if there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Writes everything atomically with respect to readers. After a failure the database accepts
    /// no more writes.
    pub(super) fn commit(self, how: Commit) -> Result<(), Trouble> {
        self.store.wait_for_room()?;
        let mode = match how {
            Commit::Synced => PersistMode::SyncData,
            Commit::Buffered => PersistMode::Buffer,
        };
        Ok(self.writes.durability(Some(mode)).commit()?)
    }
}

/// The batch that wrote the idempotency key at this position.
pub(super) fn batch_of_key(place: &[u8]) -> Option<u64> {
    let batch = place.get(8..16)?.first_chunk()?;
    Some(u64::from_be_bytes(*batch))
}

fn is_sentinel<T: AsRef<[u8]>, V, E>(entry: &Result<(T, V), E>) -> bool {
    matches!(entry, Ok((key, _)) if key.as_ref() == SENTINEL)
}

fn event_key(id: u64, offset: u64) -> [u8; 16] {
    (u128::from(id) << 64 | u128::from(offset)).to_be_bytes()
}

fn offset_in(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*key.last_chunk()?))
}
