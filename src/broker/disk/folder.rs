//! The store's directory: who may use it, what it holds, and how the last process left it.
//!
//! Beside the database in `log/` stand a few small files. `lock` is held by the process that uses
//! the store. `format` names the version of the whole. `state` says whether the last process
//! finished, and `refused` holds the number of the last batch that was refused because it could not
//! be written: should parts of it have come to the disk after all, they are taken back.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::Durability;

/// What `format` holds.
const FORMAT: &str = "tidings";
/// The newest version that this program can read, and the one that it writes.
const VERSION: u32 = 1;
/// What `state` says of a store that a process uses, before the name of its durability.
pub(super) const RUNNING: &str = "running";
/// How much must fit for the store to be tried again.
const PROBE: usize = 64 * 1024;
/// The database rewrites journals by these units.
const PAGE: usize = 4096;

/// Why a store can't be used.
#[derive(Debug)]
pub struct OpenError(String);

impl OpenError {
    /// A store in this directory can't be used.
    pub(super) fn new(path: &Path, why: impl std::fmt::Display) -> Self {
        OpenError(format!("history.path = {}: {why}", path.display()))
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OpenError {}

/// How the last process left the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeftAs {
    /// There is no store yet.
    New,
    /// It finished; the last batch had this number.
    Clean(u64),
    /// It ended in the midst of things.
    Running(Durability),
}

/// The store's directory, locked for as long as this value lives.
pub(super) struct Folder {
    path: PathBuf,
    refused: File,
    _lock: File,
}

impl Folder {
    /// Takes the directory, making it if need be.
    pub(super) fn open(path: &Path) -> Result<(Self, LeftAs), OpenError> {
        let failed = |error: io::Error| OpenError::new(path, error);
        fs::create_dir_all(path).map_err(failed)?;
        let lock = lock(path)?;
        let format = read(&path.join("format")).map_err(failed)?;
        let left = match format {
            None => {
                if path.join("log").exists() || path.join("state").exists() {
                    return Err(OpenError::new(
                        path,
                        "not a store of Tidings, or a damaged one: it has no file `format`",
                    ));
                }
                write(path, "format", &format!("{FORMAT} {VERSION}\n")).map_err(failed)?;
                LeftAs::New
            }
            Some(format) => {
                check_format(path, &format)?;
                left_as(path)?
            }
        };
        if left != LeftAs::New && !path.join("log").join("version").exists() {
            return Err(OpenError::new(
                path,
                "the store is damaged: its log is missing",
            ));
        }
        let refused = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path.join("refused"))
            .map_err(failed)?;
        let folder = Folder {
            path: path.to_owned(),
            refused,
            _lock: lock,
        };
        // Written now, so that it needs no more space later.
        let number = folder.refused();
        folder.refuse(number).map_err(failed)?;
        Ok((folder, left))
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The database's directory.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// The number of the last batch that was refused; 0 where none was.
    pub(super) fn refused(&self) -> u64 {
        let mut number = [0; 8];
        let mut file = &self.refused;
        let read = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| file.read_exact(&mut number));
        read.map_or(0, |()| u64::from_be_bytes(number))
    }

    /// Notes that a batch was refused. In place, so that it works on a full disk.
    pub(super) fn refuse(&self, batch: u64) -> io::Result<()> {
        let mut file = &self.refused;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&batch.to_be_bytes())?;
        file.sync_all()
    }

    /// Notes that a process is using the store.
    pub(super) fn running(&self, durability: Durability) -> io::Result<()> {
        write(
            &self.path,
            "state",
            &format!("running {}\n", durability.name()),
        )
    }

    /// Notes that the process has finished, with this as the last batch.
    pub(super) fn finished(&self, batch: u64) -> io::Result<()> {
        write(&self.path, "state", &format!("clean {batch}\n"))
    }

    /// Finds out whether the directory takes writes.
    pub(super) fn probe(&self) -> io::Result<()> {
        let path = self.path.join("probe");
        let written = File::create(&path).and_then(|mut file| {
            // Not zeros: some file systems take those for free.
            file.write_all(&vec![0xA5; PROBE])?;
            file.sync_all()
        });
        let removed = fs::remove_file(&path);
        written.and(removed)
    }

    /// Writes the journals again, byte by byte what they hold. After a failed sync the system may
    /// count pages as written that are not; this makes it write them.
    pub(super) fn rewrite_journals(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.log())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "jnl") {
                rewrite(&path)?;
            }
        }
        Ok(())
    }
}

pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join("lock"))
        .map_err(|error| OpenError::new(path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(OpenError::new(path, "another process is using this store"))
        }
        Err(TryLockError::Error(error)) => Err(OpenError::new(path, error)),
    }
}

fn check_format(path: &Path, format: &str) -> Result<(), OpenError> {
    let version = format.trim_end().strip_prefix(FORMAT);
    match version.and_then(|version| version.trim().parse::<u32>().ok()) {
        Some(VERSION) => Ok(()),
        Some(newer) if newer > VERSION => Err(OpenError::new(
            path,
            format!(
                "the store has format {newer}, and this version of Tidings reads up to {VERSION}: use a newer one"
            ),
        )),
        _ => Err(OpenError::new(
            path,
            "the store is damaged: the file `format` can't be understood",
        )),
    }
}

fn left_as(path: &Path) -> Result<LeftAs, OpenError> {
    let Some(state) = read(&path.join("state")).map_err(|error| OpenError::new(path, error))?
    else {
        // The first process did not come to write anything.
        return Ok(LeftAs::New);
    };
    let state = match state.trim_end().split_once(' ') {
        Some(("clean", number)) => number.parse().ok().map(LeftAs::Clean),
        Some(("running", name)) => Durability::named(name).map(LeftAs::Running),
        _ => None,
    };
    let why = "the store is damaged: the file `state` can't be understood";
    state.ok_or_else(|| OpenError::new(path, why))
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces a file so that after a crash the old text is there, or the new one.
pub(super) fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let beside = folder.join(format!("{name}.new"));
    let mut file = File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(name))?;
    File::open(folder)?.sync_all()
}

fn rewrite(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let (mut page, mut at) = ([0; PAGE], 0);
    loop {
        file.seek(SeekFrom::Start(at))?;
        let length = fill(&mut file, &mut page)?;
        let Some(bytes) = page.get(..length).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        // Pages that were never written need no space, and are not given any.
        if bytes.iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start(at))?;
            file.write_all(bytes)?;
        }
        at += u64::try_from(length).unwrap_or(0);
    }
    file.sync_all()
}

fn fill(file: &mut File, page: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = page.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}
