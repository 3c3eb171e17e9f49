//! The time by which events expire: the system's, which goes on while the process is down.

use std::time::Duration;

use crate::event::Timestamp;

#[cfg(test)]
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Milliseconds since 1970. Tests can put it forward.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock {
    #[cfg(test)]
    ahead: Arc<AtomicU64>,
}

impl Clock {
    /// The time.
    #[cfg_attr(
        not(test),
        expect(clippy::unused_self, reason = "in tests the clock can be ahead")
    )]
    pub(super) fn now(&self) -> u64 {
        let now = u64::try_from(Timestamp::now().as_millis()).unwrap_or(0);
        #[cfg(test)]
        let now = now + self.ahead.load(Ordering::Relaxed);
        now
    }

    /// Puts the clock forward.
    #[cfg(test)]
    pub(super) fn advance(&self, by: Duration) {
        self.ahead.fetch_add(millis(by), Ordering::Relaxed);
    }
}

/// A duration in milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
