//! The cost of the measured server, as the operating system counts it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};

/// Processor time since a process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    /// In the program.
    pub user: Duration,
    /// In the kernel on its behalf. On loopback this includes the receiver's TCP work.
    pub system: Duration,
}

impl Cpu {
    /// Both together.
    #[must_use]
    pub fn total(self) -> Duration {
        self.user + self.system
    }

    /// What was used since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Cpu) -> Cpu {
        Cpu {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

/// A running process, read through Linux's `/proc`.
#[derive(Debug, Clone)]
pub struct Process {
    directory: PathBuf,
}

impl Process {
    /// The process with this id.
    ///
    /// # Errors
    ///
    /// If there is none that this process may read.
    pub fn new(pid: u32) -> Result<Self> {
        let process = Self {
            directory: PathBuf::from(format!("/proc/{pid}")),
        };
        process
            .cpu()
            .map_err(|_| Error::field("pid", "a running process on this machine"))?;
        Ok(process)
    }

    /// Its processor time so far, in steps of 10 ms: measure over ten seconds or more.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn cpu(&self) -> Result<Cpu> {
        let stat = self.read("stat")?;
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        parse_stat(&stat, ticks).ok_or_else(|| Error::new("/proc/PID/stat can't be read"))
    }

    /// Its resident memory, in bytes.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn rss(&self) -> Result<u64> {
        // Exact if it is readable; `status` can be off by some pages for each thread.
        let text = match self.read("smaps_rollup") {
            Ok(text) => text,
            Err(_) => self.read("status")?,
        };
        parse_rss(&text).ok_or_else(|| Error::new("the process has no resident memory"))
    }

    fn read(&self, file: &str) -> Result<String> {
        fs::read_to_string(self.directory.join(file))
            .map_err(|error| Error::new(format!("the measured process is gone: {error}")))
    }
}

fn parse_stat(stat: &str, ticks_per_second: u64) -> Option<Cpu> {
    // The program's name, in parentheses, may contain anything: count from its end.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut time = || {
        let ticks: u64 = fields.next()?.parse().ok()?;
        Some(Duration::from_micros(
            ticks.saturating_mul(1_000_000) / ticks_per_second,
        ))
    };
    Some(Cpu {
        user: time()?,
        system: time()?,
    })
}

fn parse_rss(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| {
        line.strip_prefix("Rss:")
            .or_else(|| line.strip_prefix("VmRSS:"))
    })?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_after_any_name() {
        let stat = "42 (a ) b) S 1 2 3 4 5 6 7 8 9 10 1234 567 0 0 20 0 4";
        let cpu = parse_stat(stat, 100).unwrap();
        assert_eq!(cpu.user, Duration::from_millis(12_340));
        assert_eq!(cpu.system, Duration::from_millis(5_670));
        assert_eq!(cpu.since(cpu), Cpu::default());
    }

    #[test]
    fn resident_memory_is_found_in_either_file() {
        assert_eq!(parse_rss("Name:\tx\nVmRSS:\t    12 kB\n"), Some(12 * 1024));
        assert_eq!(
            parse_rss("0-1 [rollup]\nRss:    1804 kB\nPss: 3 kB\n"),
            Some(1804 * 1024)
        );
        assert_eq!(parse_rss("nothing"), None);
    }

    #[test]
    fn missing_process_cannot_be_measured() {
        let own = Process::new(std::process::id()).unwrap();
        assert!(own.rss().unwrap() > 100_000);
        assert_eq!(
            Process::new(u32::MAX).unwrap_err().field_name(),
            Some("pid")
        );
    }
}
