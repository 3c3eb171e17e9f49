//! How many records may get an idempotency key of their own.
//!
//! A key makes the repeat of a record after a crash a duplicate. It takes memory for five minutes, so
//! a fast source would fill the table, and refuse the keys of other publishers.

use std::time::{Duration, Instant};

/// How long a broker keeps a key.
const KEPT: Duration = Duration::from_mins(5);

/// A token bucket: `capacity` keys in each five minutes.
#[derive(Debug)]
pub(super) struct KeyBudget {
    capacity: f64,
    left: f64,
    filled: Instant,
}

impl KeyBudget {
    /// A budget of this many keys that live at the same time.
    pub(super) fn new(keys: usize, now: Instant) -> Self {
        let capacity = f64::from(u32::try_from(keys).unwrap_or(u32::MAX));
        KeyBudget {
            // After a full bucket, as many again are filled in while the first ones are still kept.
            capacity: capacity / 2.0,
            left: capacity / 2.0,
            filled: now,
        }
    }

    /// Takes one key; false if there is none left at present.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled);
        self.filled = now;
        let refill = self.capacity * passed.as_secs_f64() / KEPT.as_secs_f64();
        self.left = (self.left + refill).min(self.capacity);
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_live_at_once_stay_within_the_budget() {
        let begun = Instant::now();
        let mut budget = KeyBudget::new(1000, begun);
        let mut taken = Vec::new();
        for second in 0..1200_u64 {
            let now = begun + Duration::from_secs(second);
            taken.push((0..20).filter(|_| budget.take(now)).count());
            let kept: usize = taken.iter().rev().take(300).sum();
            assert!(kept <= 1000, "{kept} after {second} s");
        }
        let total: usize = taken.iter().sum();
        assert!(total >= 2400, "{total}");
    }
}
