//! Time that survives what happens to clocks and processes.
//!
//! Three things go wrong with time on a real machine. The system's clock is *set*, ahead or back.
//! The process is *stopped* (SIGSTOP, a debugger, a suspended virtual machine, a machine that is
//! overloaded) and goes on much later. And a *restart* lies between two readings. So durations are
//! measured with [`uptime`], the calendar is read with [`wall_micros`], which does not believe a
//! step at once, and deadlines of other parties are kept with [`RunTimer`], which does not count
//! the time in which this process could not have served them.

mod run_timer;
mod wall;

use std::time::Duration;

pub use run_timer::{Elapsed, HyperTimer, RunTimer, timeout};
pub use wall::wall_micros;

/// How long the machine has been up, the time in which it was suspended included
/// (`CLOCK_BOOTTIME`). Never goes back, and nobody can set it.
#[cfg(target_os = "linux")]
#[must_use]
pub fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// How long this process has been asked for the time. Never goes back, and nobody can set it.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn uptime() -> Duration {
    use std::sync::LazyLock;
    use std::time::Instant;
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    FIRST.elapsed()
}

/// [`uptime`] in milliseconds.
#[must_use]
pub fn uptime_ms() -> u64 {
    u64::try_from(uptime().as_millis()).unwrap_or(u64::MAX)
}
