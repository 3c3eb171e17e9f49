//! How much memory this process may use.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// The value used if the system does not report it.
const UNKNOWN: usize = 1 << 30;

/// The memory of the machine, or the limit of the process's control group, if that is less.
#[must_use]
pub fn available_memory() -> usize {
    static READ: OnceLock<usize> = OnceLock::new();
    *READ.get_or_init(|| {
        let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let limits = limit_files(&group);
        let limits = limits.iter().filter_map(|file| limit(&read(file)?));
        let machine = read("/proc/meminfo").and_then(|text| total(&text));
        limits.chain(machine).min().unwrap_or(UNKNOWN)
    })
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The files with the limits of the control groups in `/proc/self/cgroup`, and of all their
/// ancestors. In a container the group's own files are at the root.
fn limit_files(groups: &str) -> Vec<String> {
    let mut files = vec![
        "/sys/fs/cgroup/memory.max".to_owned(),
        "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned(),
    ];
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        // Version 2 has one hierarchy and names no controllers.
        let (root, file) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let groups = Path::new(path).ancestors().filter_map(Path::to_str);
        let groups = groups.filter(|group| *group != "/");
        files.extend(groups.map(|group| format!("{root}{group}/{file}")));
    }
    files
}

/// The limit in such a file; `None` for `max`.
fn limit(text: &str) -> Option<usize> {
    let bytes: u64 = text.trim().parse().ok()?;
    Some(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// The machine's memory from `/proc/meminfo`, which has it in KiB.
fn total(text: &str) -> Option<usize> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_and_cgroup_limits_are_parsed() {
        assert_eq!(
            total("MemTotal:       24576 kB\nMemFree: 1 kB"),
            Some(24576 * 1024)
        );
        assert_eq!(total("MemFree: 1 kB"), None);
        assert_eq!(limit("536870912\n"), Some(512 << 20));
        assert_eq!(limit("max\n"), None);
        let files = limit_files("0::/system.slice/tidings.service\n");
        for file in [
            "/sys/fs/cgroup/memory.max",
            "/sys/fs/cgroup/system.slice/tidings.service/memory.max",
            "/sys/fs/cgroup/system.slice/memory.max",
        ] {
            assert!(files.iter().any(|found| found == file), "{files:?}");
        }
        let files = limit_files("9:cpu:/a\n4:memory,hugetlb:/docker/b\n");
        let own = "/sys/fs/cgroup/memory/docker/b/memory.limit_in_bytes";
        assert!(files.iter().any(|found| found == own), "{files:?}");
        assert!(!files.iter().any(|found| found.contains("/a/")));
        assert!(available_memory() > 0);
    }
}
