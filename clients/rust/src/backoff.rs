//! Reconnect delays.

use std::time::Duration;

/// The longest delay, whether advised by the server or our own.
const LONGEST_ADVICE: Duration = Duration::from_secs(24 * 3600);

/// Exponential backoff with full jitter: a random part of a time that doubles with each consecutive
/// failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The upper bound of the first delay.
    pub first: Duration,
    /// The upper bound of every delay.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(15),
        }
    }
}

impl Backoff {
    /// The delay after this many consecutive failures, at least what the server advised.
    pub(crate) fn pause(self, failures: u32, advised: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.min(16));
        let longest = self.longest.min(LONGEST_ADVICE);
        let jitter = doubled.min(longest).mul_f64(fastrand::f64());
        // A longer one is surely not intended, and would overflow timers.
        let advised = advised.unwrap_or_default().min(LONGEST_ADVICE);
        advised.saturating_add(jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_limit_and_respects_advice() {
        let backoff = Backoff::default();
        let longest = |failures| {
            let pauses = (0..1000).map(|_| backoff.pause(failures, None));
            pauses.max().unwrap_or_default()
        };
        assert!(longest(0) <= backoff.first);
        assert!(longest(2) > backoff.first && longest(2) <= backoff.first * 4);
        assert!(longest(u32::MAX) > backoff.first * 4 && longest(40) <= backoff.longest);
        let advice = Duration::from_secs(60);
        assert!(backoff.pause(0, Some(advice)) >= advice);
    }

    #[test]
    fn extreme_retry_advice_is_clamped() {
        let endless = Backoff {
            first: Duration::MAX,
            longest: Duration::MAX,
        };
        for advice in [None, Some(Duration::MAX)] {
            let pause = endless.pause(3, advice);
            assert!(std::time::Instant::now().checked_add(pause).is_some());
            assert!(pause <= LONGEST_ADVICE * 2);
        }
    }
}
