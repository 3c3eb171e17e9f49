//! Verifies the database's journals before the database opens them.
//!
//! If a journal becomes unreadable at some point, the database treats the rest as the batch that a
//! crash has cut off, and discards it. It also trusts a batch's number, which its checksum does not
//! cover. Hence, the journals are read here first: their structure, checksums and numbers, and the
//! chain of batches that each [`Manifest`] continues. A batch that was never synced may be missing
//! (a *torn tail*). A batch that was synced may not (*damage*). Two things distinguish them: the
//! watermark beside the database, and later batches, which record the newest batch synced before
//! them.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::record::{Manifest, unseal};
use super::store::MANIFEST;
use super::trouble::Trouble;

/// The tags of entries: start of a batch, items, end of a batch, cleared keyspace.
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// The trailer of a batch.
const TRAILER: [u8; 4] = *b"FJL\x03";
/// The size of a start entry after its tag: the number of items, and the batch's sequence number.
const START_LEN: usize = 12;
/// The greatest tag of a value type.
const LAST_KIND: u8 = 2;
/// The largest plausible increase of a sequence number.
const FAR_AHEAD: u64 = 1 << 32;
/// The size of a read.
const PART: usize = 64 * 1024;

/// The contents of the journals.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// The first batch of the oldest journal that has any.
    pub(super) first: Option<Manifest>,
    /// The newest batch before any damage.
    pub(super) newest: Option<Manifest>,
    /// The problem, if there is one.
    pub(super) fault: Option<Fault>,
}

/// The point at which the journals become unreadable.
#[derive(Debug)]
pub(super) struct Fault {
    /// The journal, or the missing one.
    pub(super) path: PathBuf,
    /// The end of the complete batches in it.
    pub(super) at: u64,
    /// True if something that was synced is lost. Otherwise, a crash cut off a write.
    pub(super) is_damage: bool,
    /// The problem.
    why: String,
}

impl Fault {
    /// A description of the damage.
    pub(super) fn trouble(&self) -> Trouble {
        Trouble::Damaged(self.why.clone())
    }
}

/// Reads the journals in this directory. `synced` is the newest batch that is known to be synced.
pub(super) fn examine(directory: &Path, synced: u64) -> io::Result<Report> {
    let mut report = Report::default();
    let mut chain = Chain::default();
    let journals = list(directory)?;
    let newest = journals.last().map(|(id, _)| *id);
    let mut expected = None;
    for (id, path) in &journals {
        if let Some(missing) = expected.filter(|expected| expected != id) {
            let path = directory.join(format!("{missing}.jnl"));
            let why = format!("the journal {missing}.jnl is missing");
            report.fault = Some(Fault::damage(path, 0, why));
            break;
        }
        expected = Some(id + 1);
        let bytes = read(path)?;
        let end = chain.follow(&bytes);
        report.first = report.first.or(chain.first);
        let rest = bytes.get(end..).unwrap_or_default();
        if !rest.is_empty() {
            // A sealed journal was synced completely.
            let sealed = newest != Some(*id);
            report.fault = Some(chain.fault(path, end, rest, sealed, synced));
            break;
        }
    }
    report.newest = chain.newest;
    let reached = chain.newest.map(|manifest| manifest.batch);
    if let (None, Some(reached), Some((_, path))) = (&report.fault, reached, journals.last())
        && reached < synced
    {
        let name = name(path);
        let why = format!(
            "the journal {name} ends with batch {reached}, but batch {synced} was acknowledged"
        );
        let end = fs::metadata(path)?.len();
        report.fault = Some(Fault::damage(path.clone(), end, why));
    }
    Ok(report)
}

/// The journals by number.
pub(super) fn list(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_journal = path.extension().is_some_and(|extension| extension == "jnl");
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        // The database itself refuses a name that is not a number.
        if let (true, Some(id)) = (is_journal, stem.and_then(|stem| stem.parse().ok())) {
            journals.push((id, path));
        }
    }
    journals.sort();
    Ok(journals)
}

/// The end of a journal's complete batches although later batches follow.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn damaged(bytes: &[u8]) -> Option<u64> {
    let mut chain = Chain::default();
    let end = chain.follow(bytes);
    let rest = bytes.get(end..).unwrap_or_default();
    let fault = chain.fault(Path::new("0.jnl"), end, rest, false, 0);
    fault.is_damage.then_some(fault.at)
}

impl Fault {
    fn damage(path: PathBuf, at: u64, why: String) -> Self {
        Fault {
            path,
            at,
            is_damage: true,
            why,
        }
    }
}

/// A sequence of consecutive batches.
#[derive(Debug, Default)]
struct Chain {
    first: Option<Manifest>,
    newest: Option<Manifest>,
    /// The sequence number of the last one.
    sequence: u64,
}

impl Chain {
    /// Reads batches while they are consecutive. Returns where that ends.
    fn follow(&mut self, bytes: &[u8]) -> usize {
        let mut end = 0;
        while let Some(batch) = bytes.get(end..).and_then(Batch::read) {
            if !self.takes(&batch) {
                break;
            }
            end += batch.length;
            self.sequence = batch.sequence;
            self.first = self.first.or(batch.manifest);
            self.newest = batch.manifest.or(self.newest);
        }
        end
    }

    fn takes(&self, batch: &Batch) -> bool {
        let in_order = batch.sequence > self.sequence || self.sequence == 0;
        let Some(manifest) = batch.manifest else {
            return in_order;
        };
        // Older versions wrote neither of these two numbers.
        let numbered = manifest.sequence == 0
            || (manifest.sequence..manifest.sequence.saturating_add(FAR_AHEAD))
                .contains(&batch.sequence);
        let continues = self
            .newest
            .is_none_or(|last| manifest.previous == 0 || manifest.previous == last.batch);
        in_order && numbered && continues
    }

    /// Classifies the end of readable data at `at`, followed by `rest`.
    fn fault(&self, path: &Path, at: usize, rest: &[u8], sealed: bool, synced: u64) -> Fault {
        let reached = self.newest.map_or(0, |manifest| manifest.batch);
        let behind = self.synced_behind(rest);
        let name = name(path);
        let place = format!("the journal {name} can't be read at byte {at}");
        let why = if behind > reached {
            format!("{place}, and whole batches follow")
        } else if sealed {
            format!("{place}, and a later journal follows")
        } else {
            format!("{place}, and batch {synced} was acknowledged")
        };
        Fault {
            path: path.to_owned(),
            at: u64::try_from(at).unwrap_or(u64::MAX),
            // If no batch is left here, only the database knows what its tables contain.
            is_damage: behind > reached || sealed || (synced > reached && self.newest.is_some()),
            why,
        }
    }

    /// The newest batch that any complete batch in these bytes records as synced.
    fn synced_behind(&self, bytes: &[u8]) -> u64 {
        let (mut at, mut newest) = (0, 0);
        while let Some(step) = bytes.get(at..).and_then(next_start) {
            at += step;
            let Some(batch) = bytes.get(at..).and_then(Batch::read) else {
                at += 1;
                continue;
            };
            let later = batch.sequence > self.sequence;
            if let (Some(manifest), true) = (batch.manifest, later) {
                let known = if manifest.previous == 0 {
                    // An older version wrote a batch only after the previous one was synced.
                    manifest.batch.saturating_sub(1)
                } else {
                    manifest.synced
                };
                newest = newest.max(known);
            }
            at += batch.length;
        }
        newest
    }
}

/// The distance to the next byte that can be the start of a batch.
fn next_start(bytes: &[u8]) -> Option<usize> {
    let looks_so = |window: &[u8]| {
        let (first, last) = (window.first(), window.last());
        first == Some(&START) && matches!(last, Some(&(ITEM | CLEAR)))
    };
    bytes.windows(1 + START_LEN + 1).position(looks_so)
}

/// A complete batch.
struct Batch {
    length: usize,
    /// The database's sequence number of it.
    sequence: u64,
    /// Its manifest of the store; `None` if another program wrote it.
    manifest: Option<Manifest>,
}

impl Batch {
    /// The batch at the start of these bytes; `None` if there is no complete and valid one.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = Bytes(bytes);
        if rest.take::<1>()? != [START] {
            return None;
        }
        let items = u32::from_le_bytes(rest.take()?);
        let sequence = u64::from_le_bytes(rest.take()?);
        let content = rest.0;
        let mut manifest = None;
        for _ in 0..items {
            manifest = rest.item()?.manifest;
        }
        let content = content.get(..content.len() - rest.0.len())?;
        if rest.take::<1>()? != [END] || rest.take()? != xxh3_64(content).to_le_bytes() {
            return None;
        }
        let whole = rest.take()? == TRAILER;
        whole.then_some(Batch {
            length: bytes.len() - rest.0.len(),
            sequence,
            manifest,
        })
    }
}

/// An item of a batch.
struct Item {
    /// Its manifest, if this is one.
    manifest: Option<Manifest>,
}

/// The unread bytes.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn slice(&mut self, length: usize) -> Option<&'b [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    /// Skips an item. `None` if there is none, or if the database would refuse it.
    fn item(&mut self) -> Option<Item> {
        match self.take::<1>()? {
            [ITEM] => {}
            [CLEAR] => {
                self.take::<8>()?;
                return Some(Item { manifest: None });
            }
            _ => return None,
        }
        let [kind, compression] = self.take()?;
        self.take::<8>()?;
        let key = usize::from(u16::from_le_bytes(self.take()?));
        let plain = u32::from_le_bytes(self.take()?);
        let stored = u32::from_le_bytes(self.take()?);
        if kind > LAST_KIND || compression != 0 || plain != stored {
            return None;
        }
        let key = self.slice(key)?;
        let value = self.slice(usize::try_from(stored).ok()?)?;
        // Each batch ends with its manifest. A channel may have this name, too.
        let manifest = (key == MANIFEST).then(|| unseal(key, value).ok());
        Some(Item {
            manifest: manifest.flatten(),
        })
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().display().to_string()
}

/// The written part of a journal. Its space is preallocated and reads as zeros.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let length = written(path)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    File::open(path)?.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The length of a file without trailing zeros.
fn written(path: &Path) -> io::Result<u64> {
    let mut file = BufReader::with_capacity(PART, File::open(path)?);
    let mut part = vec![0; PART];
    let (mut at, mut end) = (0, 0);
    loop {
        let read = file.read(&mut part)?;
        let Some(bytes) = part.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(end);
        };
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            end = at + u64::try_from(last + 1).unwrap_or(0);
        }
        at += u64::try_from(read).unwrap_or(0);
    }
}
