//! Backups: a consistent snapshot of a store, as one stream of bytes.
//!
//! A backup is a header and parts. A part is a length, a checksum and a message with entries of the
//! database. Each checksum covers the previous one, and the last part contains the number of
//! entries. Hence, truncation, changes and reordering are detected. A restored store is a separate
//! history: every channel gets a new epoch.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::files;
use super::folder::{Folder, OpenError};
use super::record::Manifest;
use super::recover::OnDamage;
use super::revive::settle;
use super::store::{Commit, Entry, Store};
use super::trouble::Trouble;

/// The header of a backup: magic and version.
const HEAD: &[u8; 16] = b"tidings backup 1";
/// A part is closed once it has this many bytes.
const PART: usize = 256 * 1024;
/// The longest part: it exceeds the limit by at most one entry, a key and an event.
const LONGEST: u32 = 1 << 31;
/// The length and the checksum before each part.
const PREFIX: usize = 12;

/// A part of a backup.
#[derive(Clone, PartialEq, Message)]
struct Part {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<EntryRecord>,
    /// Only in the last part: the total number of entries.
    #[prost(uint64, optional, tag = "2")]
    all: Option<u64>,
}

/// An entry of the database.
#[derive(Clone, PartialEq, Message)]
struct EntryRecord {
    /// The number of its keyspace.
    #[prost(uint32, tag = "1")]
    keyspace: u32,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    value: Vec<u8>,
}

/// The numbers of entries in a backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// Channels.
    pub channels: u64,
    /// Events.
    pub events: u64,
    /// Idempotency keys.
    pub keys: u64,
}

/// The counter for an entry.
pub(super) type Counted = fn(&mut Contents) -> &mut u64;

/// Writes a snapshot of a store, one part at a time, until `send` fails.
pub(super) fn write(
    store: &Store,
    mut send: impl FnMut(Bytes) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    send(Bytes::from_static(HEAD))?;
    let (mut part, mut bytes, mut all, mut chain) = (Part::default(), 0, 0, 0);
    for entry in store.snapshot() {
        let Entry {
            keyspace,
            key,
            value,
        } = entry?;
        bytes += key.len() + value.len();
        all += 1;
        part.entries.push(EntryRecord {
            keyspace,
            key,
            value,
        });
        if bytes >= PART {
            send(seal(&std::mem::take(&mut part), &mut chain))?;
            bytes = 0;
        }
    }
    part.all = Some(all);
    send(seal(&part, &mut chain))
}

fn seal(part: &Part, chain: &mut u64) -> Bytes {
    let body = part.encode_to_vec();
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    *chain = xxh3_64_with_seed(&body, *chain);
    let mut sealed = Vec::with_capacity(PREFIX + body.len());
    sealed.extend_from_slice(&length.to_le_bytes());
    sealed.extend_from_slice(&chain.to_le_bytes());
    sealed.extend_from_slice(&body);
    sealed.into()
}

/// Reads a backup, and yields each entry.
fn read(
    from: &mut impl Read,
    mut each: impl FnMut(Entry) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let mut head = [0; HEAD.len()];
    let begins = from.read_exact(&mut head).is_ok() && head == *HEAD;
    if !begins {
        return Err(damaged("it does not begin as a backup does"));
    }
    let (mut all, mut chain) = (0_u64, 0);
    loop {
        let part = next(from, &mut chain)?;
        for entry in part.entries {
            all += 1;
            each(Entry {
                keyspace: entry.keyspace,
                key: entry.key,
                value: entry.value,
            })?;
        }
        let Some(expected) = part.all else { continue };
        let mut more = [0];
        if from.read(&mut more)? != 0 || all != expected {
            return Err(damaged("it does not end where it should"));
        }
        return Ok(());
    }
}

fn next(from: &mut impl Read, chain: &mut u64) -> Result<Part, Trouble> {
    let (mut length, mut sum) = ([0; 4], [0; 8]);
    cut_off(from.read_exact(&mut length))?;
    cut_off(from.read_exact(&mut sum))?;
    let length = u32::from_le_bytes(length);
    let mut body = Vec::new();
    if length > LONGEST {
        return Err(damaged("a part has an impossible length"));
    }
    from.take(length.into()).read_to_end(&mut body)?;
    *chain = xxh3_64_with_seed(&body, *chain);
    if *chain != u64::from_le_bytes(sum) {
        return Err(damaged("a checksum does not fit"));
    }
    Part::decode(body.as_slice()).map_err(|_| damaged("a part can't be understood"))
}

fn cut_off(read: io::Result<()>) -> Result<(), Trouble> {
    read.map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            damaged("it is cut off")
        } else {
            error.into()
        }
    })
}

fn damaged(why: &str) -> Trouble {
    Trouble::Damaged(why.to_owned())
}

impl Contents {
    fn count(&mut self, entry: &Entry) -> Result<(), Trouble> {
        if let Some(count) = entry.check()? {
            *count(self) += 1;
        }
        Ok(())
    }
}

/// Reads a whole backup, and verifies every part and every entry.
///
/// # Errors
/// Describes the damage.
pub fn verify(mut backup: impl Read) -> Result<Contents, BackupError> {
    let mut contents = Contents::default();
    read(&mut backup, |entry| contents.count(&entry))?;
    Ok(contents)
}

/// Creates a store from a backup, in a directory that is empty or missing. Each channel gets a new
/// epoch.
///
/// # Errors
/// Describes the problem of the backup or of the directory. Nothing is left there then.
pub fn restore(mut backup: impl Read, to: &Path) -> Result<Contents, BackupError> {
    let is_free = match fs::read_dir(to) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(BackupError(format!("{}: {error}", to.display()))),
    };
    if !is_free {
        let why = format!("{}: the directory is not empty", to.display());
        return Err(BackupError(why));
    }
    let beside = beside(to)?;
    let restored = fill(&mut backup, &beside).and_then(|contents| {
        fs::rename(&beside, to).map_err(Trouble::from)?;
        files::sync_directory(
            to.parent()
                .filter(|p| !p.as_os_str().is_empty())
                .unwrap_or(Path::new(".")),
        )?;
        Ok(contents)
    });
    if restored.is_err() {
        // A partial store is useless.
        drop(fs::remove_dir_all(&beside));
    }
    Ok(restored?)
}

/// The temporary name of a store that is being restored.
fn beside(to: &Path) -> Result<PathBuf, BackupError> {
    let mut name = to
        .file_name()
        .ok_or_else(|| BackupError(format!("{}: not a directory's name", to.display())))?
        .to_owned();
    name.push(".restoring");
    let beside = to.with_file_name(name);
    if beside.exists() {
        let why = format!(
            "{}: left of an earlier attempt; remove it",
            beside.display()
        );
        return Err(BackupError(why));
    }
    Ok(beside)
}

fn fill(backup: &mut impl Read, path: &Path) -> Result<Contents, Trouble> {
    let in_words = |error: OpenError| Trouble::Failed(error.to_string());
    let (mut folder, _) = Folder::open(path, OnDamage::Refuse).map_err(in_words)?;
    let store = Store::open(&folder.log())?;
    let (mut contents, mut manifest) = (Contents::default(), None);
    let mut batch = store.batch();
    let mut bytes = 0;
    read(backup, |entry| {
        contents.count(&entry)?;
        if let Some(found) = entry.manifest()? {
            // The watermark refers to another database's sequence numbers and batches.
            manifest = Some(Manifest {
                batch: found.batch,
                channels: found.channels,
                next_id: found.next_id,
                era: found.era,
                ..Manifest::default()
            });
            return Ok(());
        }
        bytes += entry.key.len() + entry.value.len();
        batch.put(entry)?;
        if bytes >= PART {
            bytes = 0;
            std::mem::replace(&mut batch, store.batch()).commit(Commit::Buffered)?;
        }
        Ok(())
    })?;
    batch.commit(Commit::Buffered)?;
    let manifest = settle(&store, manifest, 0, 0, true)?;
    store.sync()?;
    drop(store);
    folder.finished(manifest.batch)?;
    Ok(contents)
}

/// Why a backup is unusable.
#[derive(Debug)]
pub struct BackupError(String);

impl From<Trouble> for BackupError {
    fn from(trouble: Trouble) -> Self {
        BackupError(match trouble {
            Trouble::Damaged(why) => format!("the backup is damaged: {why}"),
            Trouble::Full | Trouble::Failed(_) => trouble.to_string(),
        })
    }
}

impl std::fmt::Display for BackupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BackupError {}
