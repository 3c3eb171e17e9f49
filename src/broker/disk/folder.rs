//! The store's directory: its lock, its contents, and how the last process left it.
//!
//! Besides the database in `log/` it contains a few small files. `lock` is held by the process that
//! uses the store. `format` is the version. `state` says whether the last process finished.
//! `refused` is the number of the last batch whose write failed: if parts of it reached the disk
//! nevertheless, they are reverted. `synced` is the [`Watermark`]. `mark-…` distinguishes the store
//! from a copy ([`Mark`]). `damaged` contains damaged files that were moved away.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::Durability;
use super::files;
use super::journal;
use super::mark::{Mark, Origin};
use super::recover::OnDamage;
use super::trouble::Trouble;
use super::watermark::{self, Watermark};

/// The contents of `format`.
const FORMAT: &str = "tidings";
/// The newest version that this program reads, which is the one that it writes.
const VERSION: u32 = 1;
/// The contents of `state` while a process uses the store, followed by its durability.
const RUNNING: &str = "running";
/// The contents of `state` until the first process has created the whole store.
pub(super) const NEW: &str = "new\n";
/// The free space that is required before retrying.
const PROBE: usize = 64 * 1024;
/// The unit in which journals are rewritten.
const PAGE: usize = 4096;

/// Why a store is unusable.
#[derive(Debug)]
pub struct OpenError(String);

impl OpenError {
    /// The store in this directory is unusable.
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
    /// It finished. The last batch had this number.
    Clean(u64),
    /// It ended uncleanly.
    Running(Durability),
}

/// The store's directory, locked for the lifetime of this value.
pub(super) struct Folder {
    path: PathBuf,
    refused: File,
    /// How far the store was synced.
    pub(super) synced: Watermark,
    /// Distinguishes the store from a copy of it.
    pub(super) mark: Mark,
    /// True if these files were copied or restored since the last process used them.
    pub(super) is_copy: bool,
    _lock: File,
}

impl Folder {
    /// Locks the directory, and creates it if necessary. Damage is tolerated as `on_damage` says.
    /// The store then counts as unclean, so that it gets new epochs.
    pub(super) fn open(path: &Path, on_damage: OnDamage) -> Result<(Self, LeftAs), OpenError> {
        let failed = |error: io::Error| OpenError::new(path, error);
        files::create_directory(path).map_err(failed)?;
        let lock = lock(path)?;
        let mut damage = Damage::new(path, on_damage);
        let (mut synced, mut left) = read_notes(path, &mut damage)?;
        let (mark, origin) = Mark::open(path).map_err(failed)?;
        if left == LeftAs::New {
            // Each file precedes the one that relies on it, so that an end between two is not
            // damage.
            let format = format!("{FORMAT} {VERSION}\n");
            files::replace(path, "format", &format).map_err(failed)?;
            synced.create().map_err(failed)?;
            files::replace(path, "state", NEW).map_err(failed)?;
        }
        if damage.is_borne {
            left = LeftAs::Running(Durability::Async);
            let state = running(Durability::Async);
            files::replace(path, "state", &state).map_err(failed)?;
            let format = format!("{FORMAT} {VERSION}\n");
            files::replace(path, "format", &format).map_err(failed)?;
        }
        let is_expected = synced.expects_mark(mark.number()).map_err(failed)?;
        let is_copy = match origin {
            // Older versions had no watermark, and no marks.
            Origin::Unmarked => !synced.is_missing() && left != LeftAs::New,
            Origin::Same => !is_expected,
            Origin::Copied => true,
        };
        let folder = Folder {
            path: path.to_owned(),
            refused: files::open(&path.join("refused")).map_err(failed)?,
            synced,
            mark,
            is_copy,
            _lock: lock,
        };
        let number = match folder.refused() {
            Err(_) if damage.is_borne => 0,
            number => number.map_err(|trouble| OpenError::new(path, trouble.of_a_store()))?,
        };
        // Written in advance, so that it needs no space later.
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

    /// The number of the last refused batch. 0 if there is none.
    pub(super) fn refused(&self) -> Result<u64, Trouble> {
        refused(&self.refused)
    }

    /// Records that a batch was refused. Written in place, so that it works on a full disk.
    pub(super) fn refuse(&self, batch: u64) -> io::Result<()> {
        let mut file = &self.refused;
        file.seek(SeekFrom::Start(0))?;
        let note = [batch.to_be_bytes(), checksum(batch)].concat();
        file.write_all(&note)?;
        file.sync_all()
    }

    /// Records that a process uses the store.
    pub(super) fn running(&self, durability: Durability) -> io::Result<()> {
        files::replace(&self.path, "state", &running(durability))
    }

    /// Records that the process finished, with this as the last batch.
    pub(super) fn finished(&mut self, batch: u64) -> io::Result<()> {
        if let Err(error) = self.renew_mark() {
            // This may fail on a full disk. Then only a copy that is restored over the files goes
            // undetected.
            tracing::debug!(%error, "the mark of the store could not be renewed");
        }
        self.synced.note(batch);
        self.synced.sync()?;
        files::replace(&self.path, "state", &format!("clean {batch}\n"))
    }

    /// Replaces the mark. Advances its number if restored files have a different one.
    pub(super) fn renew_mark(&mut self) -> io::Result<()> {
        let (present, next) = (self.mark.number(), self.mark.number() + 1);
        self.synced.expect_mark(present, next)?;
        // Before the mark, so that a crash between the two does not look like a copy.
        self.synced.sync()?;
        self.mark.renew()?;
        self.synced.expect_mark(next, next)
    }

    /// Replaces the mark, if it is due.
    pub(super) fn renew_mark_if_due(&mut self) {
        if self.mark.is_due()
            && let Err(error) = self.renew_mark()
        {
            tracing::debug!(%error, "the mark of the store could not be renewed");
        }
    }

    /// A new directory for damaged files.
    pub(super) fn aside(&self) -> io::Result<PathBuf> {
        let now = crate::event::Timestamp::now().as_millis();
        let path = self.path.join("damaged").join(now.to_string());
        files::create_directory(&path)?;
        Ok(path)
    }

    /// Checks whether the directory can be written.
    pub(super) fn probe(&self) -> io::Result<()> {
        let path = self.path.join("probe");
        let written = files::create(&path).and_then(|mut file| {
            // Not zeros, which some file systems store without allocating space.
            file.write_all(&vec![0xA5; PROBE])?;
            file.sync_all()
        });
        let removed = fs::remove_file(&path);
        written.and(removed)
    }

    /// Rewrites the journals with their own contents. After a failed sync, the kernel may mark
    /// pages as clean that are not on the device. Rewriting
    /// makes them dirty again.
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

/// Describes why a store cannot be opened in this directory, as far as that can be determined
/// without opening it or creating the directory.
///
/// # Errors
/// The reason.
pub fn check_path(path: &Path, on_damage: OnDamage) -> Result<(), String> {
    let mut there = path;
    while !there.exists() {
        match there.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => there = parent,
            _ => there = Path::new("."),
        }
    }
    if !there.is_dir() {
        return Err(format!("{} is not a directory", there.display()));
    }
    if there == path {
        let reason = |error: OpenError| {
            let why = error.0.split_once(": ").map(|(_, why)| why.to_owned());
            why.unwrap_or(error.0)
        };
        let mut damage = Damage::new(path, on_damage);
        match read(&path.join("format")).map_err(|error| error.to_string())? {
            Some(format) => check_format(path, &format, &mut damage).map_err(reason)?,
            None => check_foreign(path, &mut damage).map_err(reason)?,
        }
    }
    let probe = there.join(format!(".tidings-{}", std::process::id()));
    match files::create_new(&probe) {
        Ok(_) => fs::remove_file(&probe).map_err(|error| error.to_string()),
        // A full disk is temporary: the server starts, and can write once there is space.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(format!("{} can't be written to: {error}", there.display())),
    }
}

/// A directory without a store must not contain anything that looks like one.
fn check_foreign(path: &Path, damage: &mut Damage<'_>) -> Result<(), OpenError> {
    let has = |name: &str| path.join(name).exists();
    if !has("log") && !has("state") && !has(watermark::NAME) {
        return Ok(());
    }
    if looks_like_a_store(path) {
        return damage.bear("the file `format` is missing");
    }
    Err(OpenError::new(
        path,
        "not a store of Tidings, or a damaged one: it has no file `format`",
    ))
}

/// True if this is a store, regardless of its file `format`.
fn looks_like_a_store(path: &Path) -> bool {
    let state = read(&path.join("state")).ok().flatten();
    let is_understood = state.is_some_and(|state| understood(&state).is_some());
    is_understood && path.join(watermark::NAME).exists()
}

pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let file = files::open(&path.join("lock")).map_err(|error| OpenError::new(path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(OpenError::new(path, "another process is using this store"))
        }
        Err(TryLockError::Error(error)) => Err(OpenError::new(path, error)),
    }
}

fn check_format(path: &Path, format: &str, damage: &mut Damage<'_>) -> Result<(), OpenError> {
    let version = format.trim_end().strip_prefix(FORMAT);
    match version.and_then(|version| version.trim().parse::<u32>().ok()) {
        Some(VERSION) => Ok(()),
        Some(newer) if newer > VERSION => Err(OpenError::new(
            path,
            format!(
                "the store has format {newer}, and this version of Tidings reads up to {VERSION}: use a newer one"
            ),
        )),
        // The file is recreated only if everything else is a store.
        _ if !looks_like_a_store(path) => Err(OpenError::new(
            path,
            "the store is damaged: the file `format` can't be understood",
        )),
        _ => damage.bear("the file `format` can't be understood"),
    }
}

/// Reads the small files. Changes nothing.
fn read_notes(path: &Path, damage: &mut Damage<'_>) -> Result<(Watermark, LeftAs), OpenError> {
    let failed = |error: io::Error| OpenError::new(path, error);
    let synced = match Watermark::open(path) {
        Err(trouble @ Trouble::Damaged(_)) => {
            damage.bear(&trouble.to_string())?;
            Watermark::missing(path)
        }
        synced => synced.map_err(|trouble| OpenError::new(path, trouble))?,
    };
    let state = read(&path.join("state")).map_err(failed)?;
    match read(&path.join("format")).map_err(failed)? {
        Some(format) => check_format(path, &format, damage)?,
        None => check_foreign(path, damage)?,
    }
    let left = match state {
        Some(state) => understood(&state),
        // The first process did not write anything.
        None if !is_used(path, &synced).map_err(failed)? => Some(LeftAs::New),
        None => {
            damage.bear("the file `state` is missing")?;
            Some(LeftAs::Running(Durability::Async))
        }
    };
    if left.is_none() {
        damage.bear("the file `state` can't be understood")?;
    }
    if path.join("refused").exists() {
        let file = OpenOptions::new().read(true).open(path.join("refused"));
        match refused(&file.map_err(failed)?) {
            Err(trouble @ Trouble::Damaged(_)) => damage.bear(&trouble.to_string())?,
            Err(trouble) => return Err(OpenError::new(path, trouble)),
            Ok(_) => {}
        }
    }
    Ok((synced, left.unwrap_or(LeftAs::Running(Durability::Async))))
}

/// True if the directory contains a file that is only written to a store in use.
fn is_used(path: &Path, synced: &Watermark) -> io::Result<bool> {
    let log = path.join("log");
    let has_journals = log.exists() && !journal::list(&log)?.is_empty();
    let has_keyspaces = match fs::read_dir(log.join("keyspaces")) {
        Ok(mut keyspaces) => keyspaces.next().is_some(),
        Err(_) => false,
    };
    let is_marked = Mark::open(path)?.1 != Origin::Unmarked;
    Ok(has_journals || has_keyspaces || is_marked || synced.batch() > 0)
}

/// Parses `state`.
fn understood(state: &str) -> Option<LeftAs> {
    if state == NEW {
        return Some(LeftAs::New);
    }
    match state.trim_end().split_once(' ') {
        Some(("clean", number)) => number.parse().ok().map(LeftAs::Clean),
        Some((RUNNING, name)) => Durability::named(name).map(LeftAs::Running),
        _ => None,
    }
}

/// The contents of `state` for a store in use.
pub(super) fn running(durability: Durability) -> String {
    format!("{RUNNING} {}\n", durability.name())
}

/// The number in the file `refused`.
fn refused(mut file: &File) -> Result<u64, Trouble> {
    let mut note = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(16).read_to_end(&mut note)?;
    let number = note.first_chunk().copied().map(u64::from_be_bytes);
    // Older versions wrote no checksum.
    let sum = note.get(8..).filter(|sum| !sum.is_empty());
    let sound = number.is_some_and(|number| sum.is_none_or(|sum| sum == checksum(number)));
    match number {
        None if note.is_empty() => Ok(0),
        Some(number) if sound => Ok(number),
        _ => Err(Trouble::Damaged(
            "the file `refused` can't be understood".to_owned(),
        )),
    }
}

/// How damage of the small files is handled.
struct Damage<'p> {
    path: &'p Path,
    policy: OnDamage,
    /// True if there is damage, and it is tolerated.
    is_borne: bool,
}

impl<'p> Damage<'p> {
    fn new(path: &'p Path, policy: OnDamage) -> Self {
        Damage {
            path,
            policy,
            is_borne: false,
        }
    }

    /// Fails unless damage is tolerated.
    fn bear(&mut self, why: &str) -> Result<(), OpenError> {
        if self.policy == OnDamage::Refuse {
            let why = format!("the store is damaged: {why}");
            return Err(OpenError::new(self.path, why));
        }
        tracing::warn!(
            "the store is damaged: {why}; the file is recreated, and every channel gets a new epoch"
        );
        self.is_borne = true;
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn checksum(batch: u64) -> [u8; 8] {
    xxh3_64(&batch.to_be_bytes()).to_be_bytes()
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
        // Pages that were never written are sparse, and stay so.
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
