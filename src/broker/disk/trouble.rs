//! Errors of the store.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::record::Unreadable;

/// Why the store could not do what was requested.
#[derive(Debug)]
pub(super) enum Trouble {
    /// There is no space left.
    Full,
    /// The device or file system failed, or an earlier failure prevents it.
    Failed(String),
    /// The read data is not what was written.
    Damaged(String),
}

impl Trouble {
    /// Why the database in this directory could not be opened. A missing or truncated file is
    /// damage here, not a failure of the device.
    pub(super) fn of_opening(error: fjall::Error, log: &Path) -> Self {
        use fjall::{Error, LsmError};
        use io::ErrorKind::{InvalidData, InvalidInput, NotFound, UnexpectedEof};
        if let Error::Io(io) | Error::Storage(LsmError::Io(io)) = &error
            && matches!(
                io.kind(),
                NotFound | InvalidInput | InvalidData | UnexpectedEof
            )
        {
            return unreadable(log, &io.to_string());
        }
        match Trouble::from(error) {
            Trouble::Damaged(why) => unreadable(log, &why),
            other @ (Trouble::Full | Trouble::Failed(_)) => other,
        }
    }

    /// The error as a problem of the store.
    pub(super) fn of_a_store(&self) -> String {
        match self {
            Trouble::Damaged(why) => format!("the store is damaged: {why}"),
            Trouble::Full | Trouble::Failed(_) => self.to_string(),
        }
    }
}

/// Locates damage in the database in this directory. The database does not name the file, so this
/// names the first file that is visibly wrong from outside.
pub(super) fn unreadable(log: &Path, why: &str) -> Trouble {
    let place = suspect(log).unwrap_or_else(|| log.join("keyspaces"));
    let store = log.parent().unwrap_or(log);
    let place = place.strip_prefix(store).unwrap_or(&place);
    Trouble::Damaged(format!("{} can't be read: {why}", place.display()))
}

/// A file that is empty or missing.
fn suspect(log: &Path) -> Option<PathBuf> {
    let mut keyspaces = list(&log.join("keyspaces"));
    keyspaces.sort();
    keyspaces.iter().find_map(|keyspace| {
        let current = keyspace.join("current");
        let Some(number) = fs::read(&current).ok().and_then(|number| {
            let number = number.first_chunk().copied();
            number.map(u64::from_le_bytes)
        }) else {
            return Some(current);
        };
        let version = keyspace.join(format!("v{number}"));
        if !version.exists() {
            return Some(current);
        }
        let mut tables = list(&keyspace.join("tables"));
        tables.insert(0, version);
        let is_empty = |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.len() == 0);
        tables.into_iter().find(is_empty)
    })
}

fn list(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Full => f.write_str("no space left on the device"),
            Trouble::Failed(what) | Trouble::Damaged(what) => f.write_str(what),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        if matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ) {
            Trouble::Full
        } else {
            Trouble::Failed(error.to_string())
        }
    }
}

impl From<Unreadable> for Trouble {
    fn from(why: Unreadable) -> Self {
        Trouble::Damaged(why.to_string())
    }
}

impl From<fjall::Error> for Trouble {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else there is or will be is about what stands on disk"
    )]
    fn from(error: fjall::Error) -> Self {
        use fjall::{Error, LsmError};
        let text = error.to_string();
        match error {
            Error::Io(error) | Error::Storage(LsmError::Io(error)) => error.into(),
            Error::Poisoned => Trouble::Failed("an earlier write failed".to_owned()),
            Error::Locked => Trouble::Failed("another process has it open".to_owned()),
            _ => Trouble::Damaged(text),
        }
    }
}
