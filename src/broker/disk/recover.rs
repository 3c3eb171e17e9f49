//! Recovery: opens the database after any end of the last process, and any change of its files.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::files;
use super::folder::Folder;
use super::journal::{self, Fault};
use super::record::Manifest;
use super::store::Store;
use super::trouble::Trouble;

/// What to do with a store that has lost acknowledged data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDamage {
    /// Do not open it.
    Refuse,
    /// Keep what is readable, move the rest away, and give every channel a new epoch.
    NewEpoch,
}

/// What is known of the last use of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastKnown {
    /// It was never used.
    Nothing,
    /// It was closed cleanly. The last batch had this number.
    Finished(u64),
    /// It was in use.
    Running,
}

/// An open database.
pub(super) struct Opened {
    pub(super) store: Store,
    /// Its manifest. `None` if it is new.
    pub(super) found: Option<Manifest>,
    /// True if acknowledged data is lost.
    pub(super) is_lossy: bool,
}

/// Opens the database of a store, and checks whether all acknowledged data is there.
pub(super) fn open(
    folder: &Folder,
    last: LastKnown,
    on_damage: OnDamage,
) -> Result<Opened, Trouble> {
    let synced = match last {
        LastKnown::Nothing => 0,
        LastKnown::Finished(last) => folder.synced.batch().max(last),
        LastKnown::Running => folder.synced.batch(),
    };
    let attempt = Attempt {
        folder,
        last,
        synced,
        on_damage,
    };
    let (opened, damage) = match attempt.open() {
        Err(trouble @ Trouble::Damaged(_)) if on_damage == OnDamage::NewEpoch => {
            (attempt.start_anew()?, Some(trouble))
        }
        opened => opened?,
    };
    if let Some(trouble) = &damage {
        tracing::warn!(
            %trouble,
            aside = %folder.path().join("damaged").display(),
            "the store is damaged: acknowledged events are lost, every channel gets a new epoch, and revocations may be lost: revoke such tokens again"
        );
    }
    let found = match opened.manifest()? {
        Some(found) if damage.is_some() => Some(Manifest {
            channels: count(&opened)?,
            ..found
        }),
        found => found,
    };
    Ok(Opened {
        store: opened,
        found,
        is_lossy: damage.is_some(),
    })
}

fn count(store: &Store) -> Result<u64, Trouble> {
    store
        .names()
        .try_fold(0, |count, name| Ok(count + u64::from(name.is_ok())))
}

struct Attempt<'f> {
    folder: &'f Folder,
    last: LastKnown,
    /// The newest batch that is known to be synced.
    synced: u64,
    on_damage: OnDamage,
}

impl Attempt<'_> {
    /// Opens the existing database. Also returns what is lost.
    fn open(&self) -> Result<(Store, Option<Trouble>), Trouble> {
        let log = self.folder.log();
        let mut lost = None;
        if self.last == LastKnown::Nothing {
            self.clear_unfinished()?;
        } else {
            lost = self.bear_missing_markers()?;
            if Store::missing_keyspaces(&log)? {
                return Err(Trouble::Damaged(
                    "files are missing under log/keyspaces".to_owned(),
                ));
            }
        }
        let mut oldest = None;
        if log.exists() {
            protect(&log)?;
            let report = journal::examine(&log, self.synced)?;
            oldest = report.first;
            if let Some(fault) = report.fault {
                if fault.is_damage {
                    lost.get_or_insert(self.tolerate(fault.trouble())?);
                }
                // If no earlier batch is in the journals, only the open database can tell what is
                // lost.
                let is_unclear = self.synced > 0 && report.newest.is_none();
                self.cut(&fault, fault.is_damage || is_unclear)?;
            }
        }
        let store = Store::open(&log)?;
        protect(&log)?;
        let found = store.manifest()?;
        if let Some(trouble) = self.missing(&store, found.as_ref(), oldest.as_ref()) {
            lost.get_or_insert(self.tolerate(trouble)?);
        }
        if self.on_damage == OnDamage::NewEpoch {
            // A channel that cannot be listed cannot be served.
            count(&store)?;
        }
        Ok((store, lost))
    }

    /// A database that a first process did not finish creating is moved away.
    fn clear_unfinished(&self) -> Result<(), Trouble> {
        let log = self.folder.log();
        if log.exists() && !log.join("version").exists() {
            fs::rename(&log, self.folder.aside()?.join("log"))?;
        }
        Ok(())
    }

    /// Recreates the files by which the database recognizes its directory, if they are missing.
    /// Without them it would treat the directory as new.
    fn bear_missing_markers(&self) -> Result<Option<Trouble>, Trouble> {
        let log = self.folder.log();
        if !log.exists() {
            return Err(Trouble::Damaged("the directory log is missing".to_owned()));
        }
        let mut lost = None;
        for (name, content) in [("version", b"FJL\x03".as_slice()), ("lock", b"")] {
            let path = log.join(name);
            if !path.exists() {
                let why = format!("the file log/{name} is missing");
                lost = Some(self.tolerate(Trouble::Damaged(why))?);
                let mut file = files::create_new(&path)?;
                file.write_all(content)?;
                file.sync_all()?;
            }
        }
        Ok(lost)
    }

    /// Acknowledged data that is missing in the open database.
    fn missing(
        &self,
        store: &Store,
        found: Option<&Manifest>,
        oldest: Option<&Manifest>,
    ) -> Option<Trouble> {
        if self.last == LastKnown::Nothing {
            return None;
        }
        let Some(found) = found else {
            return Some(Trouble::Damaged("the log is empty".to_owned()));
        };
        // Older versions had no watermark, and recorded less.
        let has_watermark = found.touches != 0 || found.previous != 0 || found.synced != 0;
        if has_watermark && self.folder.synced.is_missing() {
            return Some(Trouble::Damaged(
                "the file `synced` is missing or empty".to_owned(),
            ));
        }
        if found.batch < self.synced {
            return Some(Trouble::Damaged(format!(
                "writes that were finished are missing: the log ends with batch {}, but batch {} was acknowledged",
                found.batch, self.synced
            )));
        }
        // What the journals no longer contain must be in tables.
        let written = oldest.map_or_else(|| found.written_at(), Manifest::written_before);
        let keyspace = store.lost_tables(written)?;
        Some(Trouble::Damaged(format!(
            "a journal or tables of `{keyspace}` are missing"
        )))
    }

    /// Fails unless damage is tolerated.
    fn tolerate(&self, trouble: Trouble) -> Result<Trouble, Trouble> {
        match self.on_damage {
            OnDamage::Refuse => Err(trouble),
            OnDamage::NewEpoch => Ok(trouble),
        }
    }

    /// Truncates the journals where they become unreadable. Damaged parts are saved first.
    fn cut(&self, fault: &Fault, keep: bool) -> Result<(), Trouble> {
        let aside = if keep {
            Some(self.folder.aside()?)
        } else {
            None
        };
        if fault.path.exists() {
            if let Some(aside) = &aside {
                let written = journal::read(&fault.path)?;
                files::create_new(&aside.join(name(&fault.path)?))?.write_all(&written)?;
            }
            let file = files::open(&fault.path)?;
            if file.metadata()?.len() > fault.at {
                file.set_len(fault.at)?;
            }
            file.sync_all()?;
        }
        let log = self.folder.log();
        if let Some(aside) = &aside {
            let stem = |path: &Path| path.file_stem().and_then(|id| id.to_str()?.parse().ok());
            let at: Option<u64> = stem(&fault.path);
            for (id, path) in journal::list(&log)? {
                if at.is_some_and(|at| id > at) {
                    fs::rename(&path, aside.join(name(&path)?))?;
                }
            }
        }
        Ok(files::sync_directory(&log)?)
    }

    /// Moves the whole database away, and creates a new one.
    fn start_anew(&self) -> Result<Store, Trouble> {
        let log = self.folder.log();
        if log.exists() {
            fs::rename(&log, self.folder.aside()?.join("log"))?;
        }
        let store = Store::open(&log)?;
        protect(&log)?;
        Ok(store)
    }
}

fn name(path: &Path) -> Result<&std::ffi::OsStr, Trouble> {
    let nameless = || Trouble::Failed("a file has no name".to_owned());
    path.file_name().ok_or_else(nameless)
}

/// Only the owner may access the database's directory.
fn protect(log: &Path) -> Result<(), Trouble> {
    #[cfg(unix)]
    if log.exists() {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(log, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}
