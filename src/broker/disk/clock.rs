//! The time by which events and keys expire.
//!
//! While the process runs, it goes on as the machine's uptime does: nobody can set it, so a step of
//! the system's clock makes nothing older or younger than it is. A start takes it up from the
//! system's clock, so that the time in which the process was down counts as well, but never before
//! the last time that stands in the store: what was written while the clock was ahead has the age
//! that it has, and times on disk never go back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::uptime_ms;
use crate::event::Timestamp;

/// Milliseconds since 1970, by the store's own reckoning. Tests can put it forward.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    /// What it was when the machine started.
    base: Arc<AtomicU64>,
}

impl Default for Clock {
    /// A clock that starts at the system's time.
    fn default() -> Self {
        Clock::starting_at(u64::try_from(Timestamp::now().as_millis()).unwrap_or(0))
    }
}

impl Clock {
    /// A clock that starts at this time.
    pub(super) fn starting_at(now: u64) -> Self {
        // The machine may be up for longer than the clock says that time exists.
        let base = now.saturating_sub(uptime_ms());
        Clock {
            base: Arc::new(AtomicU64::new(base)),
        }
    }

    /// The time.
    pub(super) fn now(&self) -> u64 {
        self.base
            .load(Ordering::Relaxed)
            .saturating_add(uptime_ms())
    }

    /// It has been this time before: it is at least as late now.
    pub(super) fn not_before(&self, at: u64) {
        let base = at.saturating_sub(uptime_ms());
        self.base.fetch_max(base, Ordering::Relaxed);
    }

    /// Puts the clock forward.
    #[cfg(test)]
    pub(super) fn advance(&self, by: Duration) {
        self.base.fetch_add(millis(by), Ordering::Relaxed);
    }
}

/// A duration in milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_the_last_time_that_is_known_but_never_back() {
        let clock = Clock::starting_at(1_000_000_000_000);
        clock.not_before(999_999_999_999);
        assert!(clock.now() >= 1_000_000_000_000 && clock.now() < 1_000_000_100_000);
        clock.not_before(1_000_002_000_000);
        assert!(clock.now() >= 1_000_002_000_000 && clock.now() < 1_000_002_100_000);
    }
}
