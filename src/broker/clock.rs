//! The time by which events and keys expire.
//!
//! During the process it follows the machine's uptime, which cannot be set, so a step of the
//! system's clock does not change any age. A start initializes it from the system's clock, which
//! includes the time since the last process, but never to before the last time in the store. Events
//! written while the clock was ahead keep their age, and times on disk never decrease.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::uptime_ms;
use crate::event::Timestamp;

/// Milliseconds since 1970, by the store's clock. Tests can advance it.
#[derive(Debug, Clone)]
pub(in crate::broker) struct Clock {
    /// Its value when the machine started.
    base: Arc<AtomicU64>,
}

impl Default for Clock {
    /// Starts at the system's time.
    fn default() -> Self {
        Clock::starting_at(u64::try_from(Timestamp::now().as_millis()).unwrap_or(0))
    }
}

impl Clock {
    /// Starts at this time.
    pub(in crate::broker) fn starting_at(now: u64) -> Self {
        // The uptime may exceed the clock's value.
        let base = now.saturating_sub(uptime_ms());
        Clock {
            base: Arc::new(AtomicU64::new(base)),
        }
    }

    /// The current time.
    pub(in crate::broker) fn now(&self) -> u64 {
        self.base
            .load(Ordering::Relaxed)
            .saturating_add(uptime_ms())
    }

    /// This time was observed: the clock is at least as late now.
    pub(in crate::broker) fn not_before(&self, at: u64) {
        let base = at.saturating_sub(uptime_ms());
        self.base.fetch_max(base, Ordering::Relaxed);
    }

    /// Advances the clock.
    #[cfg(test)]
    pub(in crate::broker) fn advance(&self, by: Duration) {
        self.base.fetch_add(millis(by), Ordering::Relaxed);
    }
}

/// A duration in milliseconds.
pub(in crate::broker) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_continues_from_last_known_time() {
        let clock = Clock::starting_at(1_000_000_000_000);
        clock.not_before(999_999_999_999);
        assert!(clock.now() >= 1_000_000_000_000 && clock.now() < 1_000_000_100_000);
        clock.not_before(1_000_002_000_000);
        assert!(clock.now() >= 1_000_002_000_000 && clock.now() < 1_000_002_100_000);
    }
}
