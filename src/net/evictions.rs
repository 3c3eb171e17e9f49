//! The rate limit on evictions that one address may cause.

use std::time::Duration;

use tokio::time::Instant;

/// The burst and the refill interval of evictions that one address may cause. Beyond them, new
/// sockets are refused: otherwise, a flood of sockets would cost an eviction, a wake-up and a close
/// each.
pub(crate) const EVICTIONS: u32 = 64;
pub(crate) const EVICTION_INTERVAL: Duration = Duration::from_millis(10);

/// A token bucket of evictions for one address.
pub(crate) struct Evictions {
    left: u32,
    filled: Instant,
}

impl Default for Evictions {
    fn default() -> Self {
        Evictions {
            left: EVICTIONS,
            filled: Instant::now(),
        }
    }
}

impl Evictions {
    /// Refills the bucket, and returns how many are left.
    pub(crate) fn refill(&mut self) -> u32 {
        let intervals = self.filled.elapsed().as_micros() / EVICTION_INTERVAL.as_micros();
        if let Ok(more) = u32::try_from(intervals)
            && self.left.saturating_add(more) < EVICTIONS
        {
            self.left += more;
            self.filled += EVICTION_INTERVAL * more;
        } else {
            *self = Evictions::default();
        }
        self.left
    }

    pub(crate) fn take(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}
