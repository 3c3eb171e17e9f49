//! Files that hold secrets: only their owner can read them.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

/// Creates a file with mode 0600. It must not exist.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Creates a folder with mode 0700, unless it exists.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Whether users other than the owner and the group can read it.
pub(super) fn is_readable_by_all(metadata: &Metadata) -> bool {
    mode(metadata) & 0o004 != 0
}

/// Whether users other than the owner can read or change it.
pub(super) fn is_open_to_others(metadata: &Metadata) -> bool {
    mode(metadata) & 0o077 != 0
}

#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions())
}

#[cfg(not(unix))]
fn mode(_: &Metadata) -> u32 {
    0
}
