//! A check of the database's journals before the database opens them.
//!
//! Where a journal can't be read any further, the database takes the rest for the batch that a
//! crash has cut off, and forgets it. It also trusts the number of a batch, which its checksum does
//! not cover. So the journals are read here first: shape, checksums and numbers, and the chain of
//! batches that each [`Manifest`] continues. A batch that was never synced may be missing (a *torn
//! tail*). A batch that was synced may not (*damage*). Two things tell them apart: the watermark
//! beside the database, and the batches behind the broken one, which name the newest batch that was
//! synced before they were written.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::record::{Manifest, unseal};
use super::store::MANIFEST;
use super::trouble::Trouble;

/// The tags with which entries begin: a batch's start, its items, its end, and a cleared keyspace.
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// With this a batch ends.
const TRAILER: [u8; 4] = *b"FJL\x03";
/// The bytes of a start after its tag: the number of items, and the batch's sequence number.
const START_LEN: usize = 12;
/// The greatest tag of a kind of value.
const LAST_KIND: u8 = 2;
/// No sequence number is this far ahead of the one before it.
const FAR_AHEAD: u64 = 1 << 32;
/// Read at a time.
const PART: usize = 64 * 1024;

/// What the journals hold.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// The first batch of the oldest journal that holds any.
    pub(super) first: Option<Manifest>,
    /// The newest batch before anything that is broken.
    pub(super) newest: Option<Manifest>,
    /// What is wrong with them.
    pub(super) fault: Option<Fault>,
}

/// A place at which the journals can't be read any further.
#[derive(Debug)]
pub(super) struct Fault {
    /// The journal, or the one that should be there.
    pub(super) path: PathBuf,
    /// Where in it whole batches end.
    pub(super) at: u64,
    /// True if something that was synced is lost; else a crash cut off what was being written.
    pub(super) is_damage: bool,
    /// What is wrong.
    why: String,
}

impl Fault {
    /// The damage in words.
    pub(super) fn trouble(&self) -> Trouble {
        Trouble::Damaged(self.why.clone())
    }
}

/// Reads the journals in this directory. `synced` is the newest batch that is known to have been
/// synced.
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
            // A sealed journal was synced as a whole.
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
        // The database refuses a name that is no number by itself.
        if let (true, Some(id)) = (is_journal, stem.and_then(|stem| stem.parse().ok())) {
            journals.push((id, path));
        }
    }
    journals.sort();
    Ok(journals)
}

/// Where a journal's whole batches end although later batches follow.
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

/// Batches that follow one another.
#[derive(Debug, Default)]
struct Chain {
    first: Option<Manifest>,
    newest: Option<Manifest>,
    /// The sequence number of the last one.
    sequence: u64,
}

impl Chain {
    /// Reads batches while they follow one another; answers where that ends.
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

    /// What it means that the journal can't be read behind `at`, where `rest` stands.
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
            // Where no batch is left here, only the database knows how far its tables reach.
            is_damage: behind > reached || sealed || (synced > reached && self.newest.is_some()),
            why,
        }
    }

    /// The newest batch of which whole batches somewhere in these bytes know that it was synced.
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
                    // An older version: it wrote a batch only after the one before it was synced.
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

/// How far it is to the next byte that can be the start of a batch.
fn next_start(bytes: &[u8]) -> Option<usize> {
    let looks_so = |window: &[u8]| {
        let (first, last) = (window.first(), window.last());
        first == Some(&START) && matches!(last, Some(&(ITEM | CLEAR)))
    };
    bytes.windows(1 + START_LEN + 1).position(looks_so)
}

/// A whole batch.
struct Batch {
    length: usize,
    /// The database's number for it.
    sequence: u64,
    /// What it says of the store; none where somebody else wrote it.
    manifest: Option<Manifest>,
}

impl Batch {
    /// The batch at the start of these bytes; `None` where there is none that is whole and sound.
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
    /// What it says of the store, if it is that.
    manifest: Option<Manifest>,
}

/// Bytes that are still to be read.
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

    /// Reads over an item; `None` where there is none, or one that the database would not take.
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
        // Each batch ends with its manifest; a channel may have this name, too.
        let manifest = (key == MANIFEST).then(|| unseal(key, value).ok());
        Some(Item {
            manifest: manifest.flatten(),
        })
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().display().to_string()
}

/// What is written in a journal: its space is set aside ahead, and reads as zeros.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let length = written(path)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    File::open(path)?.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The length of a file without the zeros at its end.
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
