//! Where queues are kept: ordered entries in three spaces, in memory or in a database of fjall.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::error::{Error, Result};

/// The block cache, the limit of journals, and of each space in memory before it is a table.
const CACHE: u64 = 4 * 1024 * 1024;
const JOURNALS: u64 = 64 * 1024 * 1024;
const IN_MEMORY: u64 = 4 * 1024 * 1024;

/// A space of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    /// Events to send.
    Queue,
    /// Events that were given up.
    Dead,
    /// What was reported.
    Reported,
}

/// A change of one entry; without a value, the entry is removed.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) space: Space,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Bytes>,
}

/// An entry.
pub(super) type Entry = (Vec<u8>, Bytes);

/// The entries.
pub(super) struct Store {
    kind: Kind,
    writing: Mutex<()>,
}

enum Kind {
    Memory(Mutex<Spaces<BTreeMap<Vec<u8>, Bytes>>>),
    Disk(Disk),
}

struct Disk {
    path: PathBuf,
    synced: bool,
    /// `None` after a failed write: fjall accepts no more writes until it is opened again.
    open: RwLock<Option<Open>>,
}

struct Open {
    db: Database,
    spaces: Spaces<Keyspace>,
}

/// Something for each space.
#[derive(Default)]
struct Spaces<T> {
    queue: T,
    dead: T,
    reported: T,
}

impl<T> Spaces<T> {
    fn of(&self, space: Space) -> &T {
        match space {
            Space::Queue => &self.queue,
            Space::Dead => &self.dead,
            Space::Reported => &self.reported,
        }
    }

    fn of_mut(&mut self, space: Space) -> &mut T {
        match space {
            Space::Queue => &mut self.queue,
            Space::Dead => &mut self.dead,
            Space::Reported => &mut self.reported,
        }
    }
}

impl Store {
    /// An empty store in memory.
    pub(super) fn in_memory() -> Self {
        Store {
            kind: Kind::Memory(Mutex::default()),
            writing: Mutex::default(),
        }
    }

    /// Opens the store in a directory, or creates one. The database locks the directory.
    pub(super) fn on_disk(path: &Path, synced: bool) -> Result<Self> {
        create_directory(path).map_err(|error| unavailable(path, &error))?;
        let open = Open::open(path)?;
        Ok(Store {
            kind: Kind::Disk(Disk {
                path: path.to_owned(),
                synced,
                open: RwLock::new(Some(open)),
            }),
            writing: Mutex::default(),
        })
    }

    /// Held from the choice of a queue's next number until its entry is written, so that entries
    /// appear in the order of their numbers.
    pub(super) fn writer(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes changes atomically. `lasting`: they must be on the device, if the store is synced.
    pub(super) fn commit(&self, writes: &[Write], lasting: bool) -> Result<()> {
        match &self.kind {
            Kind::Memory(spaces) => {
                let mut spaces = spaces.lock().unwrap_or_else(PoisonError::into_inner);
                for write in writes {
                    let space = spaces.of_mut(write.space);
                    match &write.value {
                        Some(value) => space.insert(write.key.clone(), value.clone()),
                        None => space.remove(&write.key),
                    };
                }
                Ok(())
            }
            Kind::Disk(disk) => disk.commit(writes, lasting),
        }
    }

    /// The entries whose keys are at least `from` and below `to`, by key: up to a number, and after
    /// the first one up to a number of bytes.
    pub(super) fn range(
        &self,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Entry>> {
        if to.is_some_and(|to| from >= to) {
            return Ok(Vec::new());
        }
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        let range = (Bound::Included(from), to);
        match &self.kind {
            Kind::Memory(spaces) => {
                let spaces = spaces.lock().unwrap_or_else(PoisonError::into_inner);
                let entries = spaces.of(space).range::<[u8], _>(range);
                let entries = entries.map(|(key, value)| Ok((key.clone(), value.clone())));
                collect(entries, limit, bytes)
            }
            Kind::Disk(disk) => disk.read(|open| {
                let entries = open.spaces.of(space).range::<&[u8], _>(range);
                let entries = entries.map(|entry| {
                    let (key, value) = entry.into_inner()?;
                    Ok((key.to_vec(), Bytes::copy_from_slice(&value)))
                });
                collect(entries, limit, bytes)
            }),
        }
    }
}

fn collect(
    entries: impl Iterator<Item = fjall::Result<Entry>>,
    limit: usize,
    bytes: usize,
) -> Result<Vec<Entry>> {
    let (mut found, mut sum) = (Vec::new(), 0_usize);
    for entry in entries.take(limit) {
        let entry = entry.map_err(|error| failed(&error))?;
        sum = sum.saturating_add(entry.1.len());
        if sum > bytes && !found.is_empty() {
            break;
        }
        found.push(entry);
    }
    Ok(found)
}

impl Disk {
    fn commit(&self, writes: &[Write], lasting: bool) -> Result<()> {
        let done = self.read(|open| {
            let mut batch = open.db.batch();
            for write in writes {
                let space = open.spaces.of(write.space);
                match &write.value {
                    Some(value) => batch.insert(space, write.key.as_slice(), value.as_ref()),
                    None => batch.remove(space, write.key.as_slice()),
                }
            }
            let mode = if lasting && self.synced {
                PersistMode::SyncData
            } else {
                PersistMode::Buffer
            };
            let committed = batch.durability(Some(mode)).commit();
            committed.map_err(|error| failed(&error))
        });
        if done.is_err() {
            // Whether the batch is written is known when the database is opened again.
            self.open
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
        }
        done
    }

    /// Works with the open database, which is opened again after a failed write.
    fn read<T>(&self, work: impl FnOnce(&Open) -> Result<T>) -> Result<T> {
        {
            let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(open) = &*open {
                return work(open);
            }
        }
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(Open::open(&self.path)?);
        }
        match &*slot {
            Some(open) => work(open),
            None => Err(Error::internal("the queue of webhooks is closed")),
        }
    }
}

impl Open {
    fn open(path: &Path) -> Result<Self> {
        // The database trusts some names and numbers that it finds on disk.
        match catch_unwind(AssertUnwindSafe(|| Self::try_open(path))) {
            Ok(opened) => opened.map_err(|error| match error {
                fjall::Error::Locked => unavailable(path, &"another process is using this queue"),
                error => unavailable(path, &error),
            }),
            Err(_) => Err(unavailable(path, &"its files can't be understood")),
        }
    }

    fn try_open(path: &Path) -> fjall::Result<Self> {
        let db = Database::builder(path)
            .cache_size(CACHE)
            .max_journaling_size(JOURNALS)
            .worker_threads(1)
            .open()?;
        let open = |name: &str| {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(IN_MEMORY);
            db.keyspace(name, options)
        };
        let spaces = Spaces {
            queue: open("queue")?,
            dead: open("dead")?,
            reported: open("reported")?,
        };
        Ok(Open { db, spaces })
    }
}

fn failed(error: &fjall::Error) -> Error {
    Error::unavailable(format!("the queue of webhooks: {error}"))
}

fn unavailable(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::unavailable(format!(
        "the queue of webhooks in {}: {why}",
        path.display()
    ))
}

/// Creates a directory for this user only, because events name users.
fn create_directory(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}
