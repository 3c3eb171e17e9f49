//! A store that lies idle while the server keeps its events elsewhere.
//!
//! What is published meanwhile never comes to it. Should it be used again, a position of before
//! would look as if nothing were missing. So it is marked as a store whose last writes may be
//! lost, and every channel gets a new epoch when it is opened.

use std::io;
use std::path::Path;

use super::Durability;
use super::files;
use super::folder::{NEW, lock, running};

/// Marks the store in this directory; false where there is none, or another process uses it.
///
/// # Errors
/// Where the directory can't be written.
pub fn set_aside(path: &Path) -> io::Result<bool> {
    if !path.join("format").exists() || !path.join("state").exists() {
        return Ok(false);
    }
    // A store that no process came to use holds nothing.
    if std::fs::read_to_string(path.join("state")).is_ok_and(|state| state == NEW) {
        return Ok(false);
    }
    let Ok(_lock) = lock(path) else {
        return Ok(false);
    };
    files::replace(path, "state", &running(Durability::Async))?;
    Ok(true)
}
