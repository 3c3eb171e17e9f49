//! The watermark: the number of the newest batch that is known to be on the device.
//!
//! The number is in its own file, which is written after the sync of its batch, without a sync of
//! its own. It is exact if a process was killed, and may be older after a power loss. It is always
//! a lower bound: every batch up to it was acknowledged. It is written to two slots alternately,
//! each with a checksum, so that one of them is always intact.
//!
//! They are followed by the number of the store's [`Mark`](super::mark::Mark), to detect files that
//! are restored without their mark.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::files;
use super::trouble::Trouble;

/// The name of the file.
pub(super) const NAME: &str = "synced";
/// The two slots are in different sectors.
const APART: u64 = 4096;
/// A slot contains the number and its checksum.
const LENGTH: usize = 16;

/// The number of the store's mark follows the two slots.
const MARK_AT: u64 = 2 * APART;
/// The mark's slot contains the current number, the next one, and a checksum.
const MARK_LENGTH: usize = 24;

/// The watermark of a store.
#[derive(Debug)]
pub(super) struct Watermark {
    path: PathBuf,
    /// None if it is missing.
    file: Option<File>,
    /// The recorded batch.
    batch: u64,
    /// The slot of the next write.
    second: bool,
}

impl Watermark {
    /// Reads the watermark of the store in this directory. A missing file is not created, because
    /// that would hide that it was missing.
    pub(super) fn open(folder: &Path) -> Result<Self, Trouble> {
        let mut mark = Self::missing(folder);
        let mut file = match OpenOptions::new().read(true).write(true).open(&mark.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(mark),
            opened => opened?,
        };
        if file.metadata()?.len() == 0 {
            return Ok(mark);
        }
        let noted = [read(&mut file, false)?, read(&mut file, true)?];
        let newest = noted.into_iter().flatten().max();
        mark.batch = newest
            .ok_or_else(|| Trouble::Damaged(format!("the file `{NAME}` can't be understood")))?;
        mark.second = noted.first().copied().flatten() == newest;
        mark.file = Some(file);
        Ok(mark)
    }

    /// Creates the watermark of a store that has none.
    pub(super) fn missing(folder: &Path) -> Self {
        Watermark {
            path: folder.join(NAME),
            file: None,
            batch: 0,
            second: false,
        }
    }

    /// True if the file is missing or empty.
    pub(super) fn is_missing(&self) -> bool {
        self.file.is_none()
    }

    /// Creates the file if it is missing.
    pub(super) fn create(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        self.file = Some(files::create(&self.path)?);
        // All slots, so that later writes need no more space.
        self.write(self.batch)?;
        self.write(self.batch)?;
        self.expect_mark(0, 0)?;
        self.sync()?;
        self.path.parent().map_or(Ok(()), files::sync_directory)
    }

    /// Records that the store's mark has one of these numbers.
    pub(super) fn expect_mark(&mut self, present: u64, next: u64) -> io::Result<()> {
        let mut place = [present.to_le_bytes(), next.to_le_bytes()].concat();
        place.extend_from_slice(&xxh3_64(&place).to_le_bytes());
        let mut file = self.file()?;
        file.seek(SeekFrom::Start(MARK_AT))?;
        file.write_all(&place)
    }

    /// True if the store's mark may have this number. Older versions recorded none.
    pub(super) fn expects_mark(&self, number: u64) -> io::Result<bool> {
        let Ok(mut file) = self.file() else {
            return Ok(true);
        };
        let mut place = Vec::with_capacity(MARK_LENGTH);
        file.seek(SeekFrom::Start(MARK_AT))?;
        file.take(24).read_to_end(&mut place)?;
        if place.is_empty() {
            return Ok(true);
        }
        let Some((noted, sum)) = place.split_last_chunk::<8>() else {
            return Ok(false);
        };
        let is_noted = noted.chunks(8).any(|noted| noted == number.to_le_bytes());
        Ok(place.len() == MARK_LENGTH && is_noted && *sum == xxh3_64(noted).to_le_bytes())
    }

    /// The newest batch that is known to be on the device.
    pub(super) fn batch(&self) -> u64 {
        self.batch
    }

    /// Records that everything up to this batch is on the device.
    pub(super) fn note(&mut self, batch: u64) {
        if batch == self.batch {
            return;
        }
        self.batch = batch;
        if let Err(error) = self.write(batch) {
            // Without it, the journal distinguishes a torn tail from damage for all but its last
            // batch.
            tracing::debug!(%error, "the watermark could not be recorded");
        }
    }

    /// Syncs the file.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file()?.sync_all()
    }

    fn file(&self) -> io::Result<&File> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "the watermark is missing");
        self.file.as_ref().ok_or_else(missing)
    }

    fn write(&mut self, batch: u64) -> io::Result<()> {
        let number = batch.to_le_bytes();
        let mut place = [0; LENGTH];
        let (head, tail) = place.split_at_mut(number.len());
        head.copy_from_slice(&number);
        tail.copy_from_slice(&xxh3_64(&number).to_le_bytes());
        let mut file = self.file()?;
        file.seek(SeekFrom::Start(start(self.second)))?;
        file.write_all(&place)?;
        self.second = !self.second;
        Ok(())
    }
}

fn start(second: bool) -> u64 {
    if second { APART } else { 0 }
}

fn read(file: &mut File, second: bool) -> io::Result<Option<u64>> {
    let mut place = Vec::with_capacity(LENGTH);
    file.seek(SeekFrom::Start(start(second)))?;
    file.take(16).read_to_end(&mut place)?;
    let number = place.first_chunk::<8>().copied();
    let sum = place.last_chunk::<8>().copied();
    Ok(number
        .filter(|number| place.len() == LENGTH && sum == Some(xxh3_64(number).to_le_bytes()))
        .map(u64::from_le_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_watermark_survives_one_broken_slot() {
        let folder = tempfile::tempdir().unwrap();
        let mut mark = Watermark::open(folder.path()).unwrap();
        assert!(mark.is_missing() && mark.batch() == 0);
        mark.create().unwrap();
        (1..=5).for_each(|batch| mark.note(batch));
        drop(mark);
        let path = folder.path().join(NAME);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(Watermark::open(folder.path()).unwrap().batch(), 5);
        for (broken, found) in [(0, [4, 5]), (4096, [4, 5])] {
            let mut bytes = whole.clone();
            bytes[broken] ^= 4;
            std::fs::write(&path, bytes).unwrap();
            let mut mark = Watermark::open(folder.path()).unwrap();
            assert!(found.contains(&mark.batch()), "{}", mark.batch());
            // The next write overwrites the broken slot.
            mark.note(9);
            assert_eq!(Watermark::open(folder.path()).unwrap().batch(), 9);
        }
        let mut bytes = whole;
        bytes[3] ^= 4;
        bytes[4100] ^= 4;
        std::fs::write(&path, bytes).unwrap();
        assert!(Watermark::open(folder.path()).is_err());
    }
}
