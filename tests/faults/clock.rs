//! The server's system clock, set through libfaketime.

use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;

/// A clock that can be set while the server runs.
#[derive(Debug, Clone)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// A correct clock. `None` if libfaketime is missing.
    pub fn new(directory: &Path) -> Option<Self> {
        let clock = Clock {
            library: find_library()?,
            file: directory.join("clock"),
        };
        clock.set("+0");
        Some(clock)
    }

    /// Sets it to an offset such as `+30d`. The file is replaced atomically.
    pub fn set(&self, offset: &str) {
        let beside = self.file.with_extension("next");
        fs::write(&beside, offset).unwrap();
        fs::rename(beside, &self.file).unwrap();
    }

    /// The environment of the server. Monotonic clocks are not affected.
    pub fn environment(&self) -> [(&'static str, &Path); 5] {
        [
            ("LD_PRELOAD", &self.library),
            ("FAKETIME_TIMESTAMP_FILE", &self.file),
            ("FAKETIME_NO_CACHE", Path::new("1")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
            ("DONT_FAKE_MONOTONIC", Path::new("1")),
        ]
    }
}

/// A random offset.
pub fn offset(rng: &mut Rng) -> &'static str {
    rng.choice(["+30d", "-1d", "+1h", "-1h", "+400d"]).unwrap()
}

/// Debian's path contains the architecture.
fn find_library() -> Option<PathBuf> {
    let machines = fs::read_dir("/usr/lib").ok()?;
    let mut positions: Vec<PathBuf> = machines.flatten().map(|entry| entry.path()).collect();
    positions.extend(["/usr/lib".into(), "/usr/local/lib".into()]);
    let files = positions
        .iter()
        .map(|position| position.join("faketime/libfaketime.so.1"));
    files.into_iter().find(|file| file.exists())
}
