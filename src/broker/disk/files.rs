//! Files that only the server's own user may read: they hold what was published.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

/// Opens a file to read and write, making it if need be.
pub(super) fn open(path: &Path) -> io::Result<File> {
    private().create(true).truncate(false).open(path)
}

/// Makes a file, empty even where there was one.
pub(super) fn create(path: &Path) -> io::Result<File> {
    private().create(true).truncate(true).open(path)
}

/// Makes a file where there is nothing, not even a link.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    private().create_new(true).open(path)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    options.mode(0o600);
    options
}

/// Makes a directory, and those above it, for this user only. One that is there stays as it is.
pub(super) fn create_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    builder.mode(0o700);
    builder.create(path)
}

/// Replaces a file so that after a crash the old text is there, or the new one.
pub(super) fn replace(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let beside = folder.join(format!("{name}.new"));
    let mut file = create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(name))?;
    sync_directory(folder)
}

/// Brings the names in a directory to the device.
pub(super) fn sync_directory(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
