//! A store that lies idle while the server keeps its events elsewhere.
//!
//! What is published meanwhile never comes to it. Should it be used again, a position of before
//! would look as if nothing were missing. So it is marked as a store whose last writes may be
//! lost, and every channel gets a new epoch when it is opened.

use std::io;
use std::path::Path;

use super::Durability;
use super::folder::{RUNNING, lock, write};

/// Marks the store in this directory; false where there is none, or another process uses it.
///
/// # Errors
/// Where the directory can't be written.
pub fn set_aside(path: &Path) -> io::Result<bool> {
    if !path.join("format").exists() || !path.join("state").exists() {
        return Ok(false);
    }
    let Ok(_lock) = lock(path) else {
        return Ok(false);
    };
    let state = format!("{RUNNING} {}\n", Durability::Async.name());
    write(path, "state", &state)?;
    Ok(true)
}
