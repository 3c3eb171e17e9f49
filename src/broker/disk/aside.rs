//! Marks a store that is not used while the server keeps its events elsewhere.
//!
//! Events published meanwhile are missing from it. If it is used again, an earlier position must
//! not appear to be complete. Hence, it is marked as a store that may have lost its last writes,
//! and every channel gets a new epoch when it is opened.

use std::io;
use std::path::Path;

use super::Durability;
use super::files;
use super::folder::{NEW, lock, running};

/// Marks the store in this directory. False if there is none, or if another process uses it.
///
/// # Errors
/// The directory cannot be written.
pub fn set_aside(path: &Path) -> io::Result<bool> {
    if !path.join("format").exists() || !path.join("state").exists() {
        return Ok(false);
    }
    // A store that no process has started to use is empty.
    if std::fs::read_to_string(path.join("state")).is_ok_and(|state| state == NEW) {
        return Ok(false);
    }
    let Ok(_lock) = lock(path) else {
        return Ok(false);
    };
    files::replace(path, "state", &running(Durability::Async))?;
    Ok(true)
}
