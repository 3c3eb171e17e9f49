//! How far the store was synced: the number of the newest batch that is on the device.
//!
//! The number stands in a file of its own and is written after the sync of its batch, without a
//! sync of its own. So it is exact when a process was killed, and may be older when the system lost
//! power. It is only ever a lower bound: whatever it names was acknowledged. It is written to two
//! places in turn, each with a checksum, so that one of them is always whole.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::files;
use super::trouble::Trouble;

/// The name of the file.
pub(super) const NAME: &str = "synced";
/// The two places are in different sectors.
const APART: u64 = 4096;
/// A place holds the number and its checksum.
const LENGTH: usize = 16;

/// The watermark of a store.
#[derive(Debug)]
pub(super) struct Watermark {
    file: File,
    /// The batch that is noted.
    batch: u64,
    /// Where the next note goes.
    second: bool,
}

impl Watermark {
    /// Reads the watermark of the store in this directory, or makes one.
    pub(super) fn open(folder: &Path) -> Result<Self, Trouble> {
        let mut file = files::open(&folder.join(NAME))?;
        let is_new = file.metadata()?.len() == 0;
        let noted = [read(&mut file, false)?, read(&mut file, true)?];
        let newest = noted.into_iter().flatten().max();
        if newest.is_none() && !is_new {
            return Err(Trouble::Damaged(format!(
                "the file `{NAME}` can't be understood"
            )));
        }
        let mut mark = Watermark {
            file,
            batch: newest.unwrap_or(0),
            second: noted.first().copied().flatten() == newest,
        };
        if is_new {
            // Both places, so that notes need no more space.
            mark.write(0)?;
            mark.write(0)?;
            mark.file.sync_all()?;
        }
        Ok(mark)
    }

    /// The newest batch that is known to be on the device.
    pub(super) fn batch(&self) -> u64 {
        self.batch
    }

    /// Notes that everything up to this batch is on the device.
    pub(super) fn note(&mut self, batch: u64) {
        if batch == self.batch {
            return;
        }
        self.batch = batch;
        if let Err(error) = self.write(batch) {
            // The journal tells a torn tail from damage without it, but for its last batch.
            tracing::debug!(%error, "the watermark could not be noted");
        }
    }

    /// Brings the note to the device.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn write(&mut self, batch: u64) -> io::Result<()> {
        let number = batch.to_le_bytes();
        let mut place = [0; LENGTH];
        let (head, tail) = place.split_at_mut(number.len());
        head.copy_from_slice(&number);
        tail.copy_from_slice(&xxh3_64(&number).to_le_bytes());
        self.file.seek(SeekFrom::Start(start(self.second)))?;
        self.second = !self.second;
        self.file.write_all(&place)
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
    fn the_newest_note_is_found_again_whichever_place_breaks() {
        let folder = tempfile::tempdir().unwrap();
        let mut mark = Watermark::open(folder.path()).unwrap();
        assert_eq!(mark.batch(), 0);
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
            // The next note goes over the broken place.
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
