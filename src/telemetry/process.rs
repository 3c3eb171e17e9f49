//! Resource usage of the process, from `/proc/self` on Linux (proc(5)).

use std::fs;
use std::time::Duration;

/// The unit of processor time in `/proc` (`USER_HZ`), which is 100 on all supported systems.
const TICKS_PER_SECOND: u64 = 100;

/// What the process uses. `None` if the system does not report it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessFigures {
    /// Resident memory.
    pub resident_bytes: Option<u64>,
    /// Processor time, user and system, since the start.
    pub cpu: Option<Duration>,
    /// Threads.
    pub threads: Option<u64>,
    /// The most descriptors that may be open (`RLIMIT_NOFILE`, the soft limit).
    pub open_files_limit: Option<u64>,
}

/// Reads three small files.
#[must_use]
pub fn figures() -> ProcessFigures {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ProcessFigures {
        resident_bytes: resident(&status),
        cpu: fs::read_to_string("/proc/self/stat")
            .ok()
            .and_then(|text| cpu(&text)),
        threads: threads(&status),
        open_files_limit: fs::read_to_string("/proc/self/limits")
            .ok()
            .and_then(|text| open_files_limit(&text)),
    }
}

/// Open descriptors. The cost grows with their number.
#[must_use]
pub fn open_files() -> Option<u64> {
    // The directory listing itself holds one open descriptor.
    fs::read_dir("/proc/self/fd")
        .ok()
        .and_then(|files| u64::try_from(files.count()).ok())
        .map(|files| files.saturating_sub(1))
}

fn threads(status: &str) -> Option<u64> {
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("Threads:"))?;
    line.trim().parse().ok()
}

/// The soft limit is the first number (proc(5)); `unlimited` is no number.
fn open_files_limit(limits: &str) -> Option<u64> {
    let mut lines = limits.lines();
    let line = lines.find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// User and system time are the fields 14 and 15. Field 2 is a name in parentheses, which may
/// contain spaces and parentheses.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut times = after_name.split_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(Duration::from_millis(
        (user + system).saturating_mul(1_000 / TICKS_PER_SECOND),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_name_cannot_shift_fields() {
        let stat = "7 (a) R 1 (x) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 9 1 1";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
        assert_eq!(resident("Name:\tx\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_reports_all_values() {
        let usage = figures();
        assert!(
            usage.resident_bytes.is_some_and(|bytes| bytes > 1 << 20),
            "{usage:?}"
        );
        assert!(open_files().is_some_and(|files| files >= 3));
        assert!(usage.threads.is_some_and(|n| n >= 1), "{usage:?}");
        assert!(usage.open_files_limit.is_some_and(|n| n >= 3), "{usage:?}");
        assert!(usage.cpu.is_some(), "{usage:?}");
    }
}
