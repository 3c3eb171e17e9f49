//! How many sockets may be made to leave for those of one address.

use std::time::Duration;

use tokio::time::Instant;

/// How many sockets may be made to leave at once for those of one address, and after how long another
/// one may. A flood of sockets costs an eviction, a wake-up and a close each beyond that; it is refused.
pub(super) const EVICTIONS: u32 = 64;
pub(super) const EVICTION_INTERVAL: Duration = Duration::from_millis(10);

/// How many sockets may leave for those of one address: a token bucket.
pub(super) struct Evictions {
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
    /// How many are left.
    pub(super) fn refill(&mut self) -> u32 {
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

    pub(super) fn take(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}
