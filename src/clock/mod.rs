//! Time that survives clock steps and process stalls.
//!
//! Three things go wrong with time on a real machine. The system's clock is *stepped* forwards or
//! backwards. The process is *stopped* (SIGSTOP, a debugger, a suspended virtual machine, overload)
//! and continues much later. A *restart* lies between two readings. Hence, durations are measured
//! with [`uptime`]. The calendar is read with [`wall_micros`], which ignores a step until it has
//! lasted. Deadlines of peers are kept with [`RunTimer`], which does not count time in which this
//! process could not run.

pub mod duration;
mod run_timer;
mod wall;

use std::time::Duration;

pub use run_timer::{Elapsed, HyperTimer, RunTimer, timeout};
pub use wall::wall_micros;

/// How long the machine has been up, including time suspended (`CLOCK_BOOTTIME`). Monotonic, and
/// not settable.
#[cfg(target_os = "linux")]
#[must_use]
pub fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// How long this process has been reading the time. Monotonic, and not settable.
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
