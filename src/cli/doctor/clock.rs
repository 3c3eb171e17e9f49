//! The system clock, which decides when tokens expire.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::finding::Finding;

const CHECK: &str = "clock";

/// Clock sources whose reads cost a system call or more.
const SLOW: [&str; 4] = ["hpet", "acpi_pm", "jiffies", "refined-jiffies"];

pub(super) fn findings() -> Vec<Finding> {
    let mut findings = vec![synchronised(synchronisation())];
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    if let Ok(source) = fs::read_to_string(source) {
        findings.extend(slow_source(source.trim()));
    }
    findings
}

/// Whether the clock is synchronised; `None` if the system does not show it.
fn synchronisation() -> Option<bool> {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Some(true);
    }
    let output = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    match output.stdout.trim_ascii() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}

fn synchronised(state: Option<bool>) -> Finding {
    match state {
        Some(true) => Finding::ok(CHECK, "synchronised by NTP"),
        Some(false) => Finding::warn(
            CHECK,
            "not synchronised: it decides when tokens expire, and auth.leeway covers only 5 s",
            "timedatectl set-ntp true, or run chrony",
        ),
        None => Finding::ok(
            CHECK,
            "it is unknown whether the clock is synchronised; a container has the clock of its host",
        ),
    }
}

fn slow_source(source: &str) -> Option<Finding> {
    SLOW.contains(&source).then(|| {
        Finding::warn(
            CHECK,
            format!("the clock source is {source}: each reading of the time is slow"),
            "boot with clocksource=tsc if the processor's is stable, or ask the provider of the virtual machine",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn unsynchronised_clock_and_slow_source_warn() {
        assert_eq!(synchronised(Some(false)).level, Level::Warn);
        assert_eq!(synchronised(None).level, Level::Ok);
        assert!(slow_source("hpet").is_some() && slow_source("tsc").is_none());
    }
}
