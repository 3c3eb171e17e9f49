//! The store's directory: permissions, free space and the time of an fsync.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::statvfs;

use super::finding::Finding;
use crate::config::{Config, Durability, Storage};

const CHECK: &str = "store";
/// The number of measured syncs.
const SYNCS: usize = 5;
/// A slower sync noticeably bounds the publish rate of a connection.
const SLOW: Duration = Duration::from_millis(20);
/// Less free space than this is soon used up.
const LEAST_SPACE: u64 = 1 << 30;

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    if !config.cluster.is_alone() {
        return vec![Finding::ok(
            CHECK,
            "history is kept by the engine of the cluster",
        )];
    }
    if config.history.storage != Storage::Disk {
        return vec![Finding::ok(
            CHECK,
            "history is in memory: a restart loses it",
        )];
    }
    let path = config.history.path.as_path();
    let Some(folder) = path.ancestors().find(|folder| folder.is_dir()) else {
        let message = format!("history.path ({}): no such directory", path.display());
        return vec![Finding::fail(
            CHECK,
            message,
            "create it for the user of the server",
        )];
    };
    let mut findings = vec![space(path, folder, config.history.disk_bytes)];
    findings.push(match sync_time(folder) {
        Ok(time) => sync(time, config.history.durability),
        Err(error) => Finding::fail(
            CHECK,
            format!(
                "history.path ({}): can't be written: {error}",
                path.display()
            ),
            "run this as the user of the server, and give that user the directory",
        ),
    });
    findings
}

fn space(path: &Path, folder: &Path, bound: u64) -> Finding {
    let free = match statvfs(folder) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
        Err(error) => {
            let message = format!("history.path ({}): {error}", path.display());
            return Finding::fail(CHECK, message, "name a directory of this machine");
        }
    };
    enough(&path.display().to_string(), free, bound)
}

fn enough(path: &str, free: u64, bound: u64) -> Finding {
    let mebibytes = |bytes: u64| bytes >> 20;
    let message = format!("history.path ({path}): {} MiB free", mebibytes(free));
    if free < LEAST_SPACE || free < bound {
        let advice = match bound {
            0 => String::from("free some, and bound the store with history.disk_bytes"),
            bound => format!(
                "free some, or lower history.disk_bytes ({} MiB)",
                mebibytes(bound)
            ),
        };
        return Finding::warn(CHECK, message, &advice);
    }
    Finding::ok(CHECK, message)
}

/// The median time of a small write with a sync.
fn sync_time(folder: &Path) -> io::Result<Duration> {
    let path = folder.join(format!(".tidings-doctor-{}", std::process::id()));
    let mut file = File::create_new(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    let mut measure = || {
        for _ in 0..SYNCS {
            let began = Instant::now();
            file.write_all(&[0; 512])?;
            file.sync_data()?;
            times.push(began.elapsed());
        }
        Ok(())
    };
    let measured = measure();
    fs::remove_file(&path)?;
    measured.map(|()| {
        times.sort_unstable();
        times.get(SYNCS / 2).copied().unwrap_or_default()
    })
}

fn sync(time: Duration, durability: Durability) -> Finding {
    let message = format!("a sync takes {time:.1?}");
    if time > SLOW && durability == Durability::Fsync {
        let advice = "each publish waits for one: use a local SSD, publish in batches or streams, or set \
                      history.durability = \"async\"";
        return Finding::warn(CHECK, message, advice);
    }
    Finding::ok(CHECK, message)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn little_space_and_slow_syncs_warn() {
        assert_eq!(enough("d", 10 << 30, 0).level, Level::Ok);
        assert_eq!(enough("d", 10 << 30, 11 << 30).level, Level::Warn);
        assert_eq!(enough("d", 1 << 20, 0).level, Level::Warn);
        let slow = Duration::from_millis(50);
        assert_eq!(sync(slow, Durability::Fsync).level, Level::Warn);
        assert_eq!(sync(slow, Durability::Async).level, Level::Ok);
    }

    #[test]
    fn measuring_a_sync_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a directory");
        sync_time(folder.path()).expect("measured");
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 0);
        assert!(sync_time(&folder.path().join("missing")).is_err());
    }
}
