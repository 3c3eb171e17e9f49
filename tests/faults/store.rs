//! Changes the files of a store while no server uses it.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use fastrand::Rng;

/// A changed byte.
pub struct Flipped {
    journal: PathBuf,
    at: u64,
    was: u8,
}

impl Flipped {
    /// Changes a byte within the written part of a journal. `None` if nothing is written.
    pub fn new(store: &Path, rng: &mut Rng) -> Option<Self> {
        let journals = fs::read_dir(store.join("log")).ok()?;
        let mut journals: Vec<PathBuf> = journals
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "jnl"))
            .collect();
        journals.sort();
        let journal = rng.choice(journals)?;
        let written = written(&journal);
        if written == 0 {
            return None;
        }
        let at = rng.u64(..written);
        let mut flipped = Flipped {
            journal,
            at,
            was: 0,
        };
        flipped.was = flipped.exchange(|byte| byte ^ 1 << rng.u8(..8));
        Some(flipped)
    }

    /// Reverts the change.
    pub fn mend(self) {
        let was = self.was;
        self.exchange(|_| was);
    }

    fn exchange(&self, with: impl FnOnce(u8) -> u8) -> u8 {
        let mut file = File::options()
            .read(true)
            .write(true)
            .open(&self.journal)
            .unwrap();
        let mut byte = [0];
        file.seek(SeekFrom::Start(self.at)).unwrap();
        file.read_exact(&mut byte).unwrap();
        file.seek(SeekFrom::Start(self.at)).unwrap();
        file.write_all(&[with(byte[0])]).unwrap();
        byte[0]
    }
}

/// The length of a journal without its trailing zeros.
fn written(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0);
    last.map_or(0, |last| u64::try_from(last).unwrap() + 1)
}

/// Copies a store, as an operator would.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Restores a copy, either in position of the store or over its files.
pub fn put_back(backup: &Path, store: &Path, over: bool) {
    if !over {
        fs::remove_dir_all(store).unwrap();
    } else {
        // The database would adopt newer files.
        fs::remove_dir_all(store.join("log")).unwrap();
    }
    copy(backup, store);
}
