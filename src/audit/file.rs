//! The file of the audit log, which survives log rotation.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Only the owner may read it, because it lists users and addresses.
const MODE: u32 = 0o600;

/// A file that is appended to by its path. If it was moved or removed, the file at the path is
/// opened or created.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// The last write ended in the middle of a line.
    torn: bool,
}

impl LogFile {
    /// Opens or creates it.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(LogFile {
            path: path.to_owned(),
            file: append_to(path)?,
            torn: false,
        })
    }

    /// True if another file, or none, is at the path.
    pub(super) fn was_moved(&self) -> bool {
        let here = self.file.metadata().map(|file| (file.dev(), file.ino()));
        let there = std::fs::metadata(&self.path).map(|file| (file.dev(), file.ino()));
        match (here, there) {
            (Ok(here), Ok(there)) => here != there,
            (Err(_), _) | (_, Err(_)) => true,
        }
    }

    /// Opens what is at the path.
    ///
    /// # Errors
    /// The file cannot be opened. The old one stays open.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.file = append_to(&self.path)?;
        self.torn = false;
        Ok(())
    }

    /// Appends complete lines.
    ///
    /// # Errors
    /// Not all of them could be written. A torn line is terminated before the next one.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        let written = self.file.write_all(lines);
        self.torn = written.is_err();
        written
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(MODE).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn moved_file_is_recreated_with_owner_permissions() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("audit.log");
        let mut log = LogFile::open(&path).expect("opened");
        log.append(b"1\n").expect("written");
        assert!(!log.was_moved());
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        for change in ["moved", "removed"] {
            if change == "moved" {
                std::fs::rename(&path, directory.path().join("audit.log.1")).expect("moved");
            } else {
                std::fs::remove_file(&path).expect("removed");
            }
            assert!(log.was_moved(), "{change}");
            log.reopen().expect("opened");
            log.append(b"2\n").expect("written");
            assert_eq!(std::fs::read(&path).expect("there"), b"2\n", "{change}");
        }
        let old = std::fs::read(directory.path().join("audit.log.1")).expect("there");
        assert_eq!(old, b"1\n");
    }
}
