//! Distinguishes a store from a copy or an earlier state of it.
//!
//! A position is only valid for the history in which it was assigned. A copy of the files has the
//! same epochs, but diverges from the original. Hence, the store contains an empty file whose name
//! records when that file was created, which a copy cannot preserve: `mark-<number>-<birth>`. It is
//! replaced at each start and end, and about once a minute. If files are restored over the present
//! ones, two marks exist, one of which is wrong. Its number is also in the watermark, to detect
//! files that are restored without their mark. If the file system has no creation times, the inode
//! number is used instead.
//!
//! A snapshot of the whole device, or of a virtual machine, preserves all of this, and cannot be
//! detected.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::files;

const PREFIX: &str = "mark-";
/// The temporary name of a new mark.
const UNNAMED: &str = "mark.new";
/// The interval at which a mark is replaced.
const EVERY: Duration = Duration::from_mins(1);

/// The mark of an open store.
#[derive(Debug)]
pub(super) struct Mark {
    folder: PathBuf,
    present: Option<PathBuf>,
    number: u64,
    renewed: Instant,
}

/// The result of checking the marks in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// There is none: a new store, or one of an older version.
    Unmarked,
    /// These are the files that the last process left.
    Same,
    /// They were copied or restored.
    Copied,
}

impl Mark {
    /// Checks the marks of the store in this directory.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, Origin)> {
        let mut mark = Mark {
            folder: folder.to_owned(),
            present: None,
            number: 0,
            renewed: Instant::now(),
        };
        let mut origin = Origin::Unmarked;
        for path in marks(folder)? {
            let (number, born) = read(&path).unwrap_or_default();
            let metadata = fs::symlink_metadata(&path)?;
            if born != birth(&metadata) {
                origin = Origin::Copied;
            } else if origin == Origin::Unmarked {
                origin = Origin::Same;
            }
            mark.number = mark.number.max(number);
        }
        Ok((mark, origin))
    }

    /// Replaces the mark, and removes all others.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        self.renewed = Instant::now();
        let unnamed = self.folder.join(UNNAMED);
        // A creation time is only new in the file's own directory.
        match fs::remove_file(&unnamed) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let born = birth(&files::create_new(&unnamed)?.metadata()?);
        let number = self.number + 1;
        let path = self.folder.join(format!("{PREFIX}{number}-{born:x}"));
        fs::rename(&unnamed, &path)?;
        self.number = number;
        self.present = Some(path);
        for other in marks(&self.folder)? {
            if Some(&other) != self.present.as_ref() {
                fs::remove_file(other)?;
            }
        }
        Ok(())
    }

    /// True if replacing the mark is due.
    pub(super) fn is_due(&self) -> bool {
        self.renewed.elapsed() >= EVERY
    }

    /// The number of the current mark. 0 if there is none.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

fn marks(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut marks = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with(PREFIX)) {
            marks.push(path);
        }
    }
    Ok(marks)
}

/// Parses the number and the creation time in a mark's name.
fn read(path: &Path) -> Option<(u64, u128)> {
    let name = path.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    let (number, born) = name.split_once('-')?;
    Some((number.parse().ok()?, u128::from_str_radix(born, 16).ok()?))
}

/// The creation time of a file in nanoseconds, or else its inode number.
fn birth(metadata: &Metadata) -> u128 {
    let born = metadata.created().ok();
    let born = born.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    born.map_or_else(|| inode(metadata), |born| born.as_nanos())
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u128 {
    u128::from(std::os::unix::fs::MetadataExt::ino(metadata))
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u128 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for mark in marks(from).unwrap() {
            fs::copy(&mark, to.join(mark.file_name().unwrap())).unwrap();
        }
    }

    fn origin(folder: &Path) -> Origin {
        Mark::open(folder).unwrap().1
    }

    #[test]
    fn continued_store_is_distinguished_from_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (store, copied) = (dir.path().join("store"), dir.path().join("copy"));
        fs::create_dir(&store).unwrap();
        assert_eq!(origin(&store), Origin::Unmarked);
        let (mut mark, _) = Mark::open(&store).unwrap();
        mark.renew().unwrap();
        assert_eq!(origin(&store), Origin::Same);
        copy(&store, &copied);
        assert_eq!(origin(&copied), Origin::Copied);
        // With its own mark, the copy is a store of its own.
        Mark::open(&copied).unwrap().0.renew().unwrap();
        assert_eq!(origin(&copied), Origin::Same);
    }

    #[test]
    fn files_restored_over_store_are_detected() {
        let dir = tempfile::tempdir().unwrap();
        let (store, backup) = (dir.path().join("store"), dir.path().join("backup"));
        fs::create_dir(&store).unwrap();
        let (mut mark, _) = Mark::open(&store).unwrap();
        mark.renew().unwrap();
        copy(&store, &backup);
        mark.renew().unwrap();
        copy(&backup, &store);
        assert_eq!(origin(&store), Origin::Copied);
    }

    #[test]
    fn crash_between_marks_is_not_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (mut mark, _) = Mark::open(dir.path()).unwrap();
        mark.renew().unwrap();
        let kept = mark.present.clone().unwrap();
        let aside = dir.path().join("aside");
        fs::rename(&kept, &aside).unwrap();
        mark.renew().unwrap();
        fs::rename(&aside, &kept).unwrap();
        assert_eq!(marks(dir.path()).unwrap().len(), 2);
        assert_eq!(origin(dir.path()), Origin::Same, "a move keeps the birth");
    }
}
