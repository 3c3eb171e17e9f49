//! The total stored bytes, and how many each channel may store so that everything fits.
//!
//! If all channels together exceed the limit, the largest are reduced first. No channel may store
//! more than a common level, which is the highest at which everything fits. Hence, a publisher that
//! floods a few channels loses their oldest events, and small channels lose nothing. Channels are
//! counted by size class, so the level is found without visiting each.

use std::sync::atomic::{AtomicU64, Ordering};

/// The number of size classes: one per bit.
const CLASSES: usize = 65;

/// The stored bytes. Only the committer changes them.
#[derive(Debug)]
pub(super) struct Usage {
    /// The limit in bytes. 0 means none.
    most: u64,
    classes: Box<[Class; CLASSES]>,
    all: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Class {
    channels: u64,
    bytes: u64,
}

/// The most that each channel may store now, readable by all threads.
#[derive(Debug)]
pub(super) struct Level(AtomicU64);

impl Default for Level {
    fn default() -> Self {
        Level(AtomicU64::new(u64::MAX))
    }
}

impl Level {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets it. True if the limit has just become effective.
    pub(super) fn set(&self, level: u64) -> bool {
        self.0.swap(level, Ordering::Relaxed) == u64::MAX && level != u64::MAX
    }
}

impl Usage {
    /// Nothing stored, with this limit in bytes.
    pub(super) fn new(most: u64) -> Self {
        Usage {
            most,
            classes: Box::new([Class::default(); CLASSES]),
            all: 0,
        }
    }

    /// Updates the bytes of a channel from the old to the new number.
    pub(super) fn change(&mut self, before: u64, now: u64) {
        if let Some(class) = self.classes.get_mut(class(before)) {
            class.channels = class.channels.saturating_sub(u64::from(before > 0));
            class.bytes = class.bytes.saturating_sub(before);
        }
        if let Some(class) = self.classes.get_mut(class(now)) {
            class.channels += u64::from(now > 0);
            class.bytes += now;
        }
        self.all = self.all.saturating_sub(before) + now;
    }

    /// The total stored bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.all
    }

    /// The most that each channel may store. `u64::MAX` if everything fits.
    pub(super) fn level(&self) -> u64 {
        if self.most == 0 || self.all <= self.most {
            return u64::MAX;
        }
        // Invariant: at `low` everything fits, at `high` it does not.
        let (mut low, mut high) = (0, self.most.saturating_add(1));
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.at_level(middle) <= u128::from(self.most) {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    }

    /// An upper bound of the stored bytes at this level.
    fn at_level(&self, level: u64) -> u128 {
        let kept = self.classes.iter().map(|class| {
            let held = u128::from(class.channels) * u128::from(level);
            held.min(u128::from(class.bytes))
        });
        kept.sum()
    }
}

fn class(bytes: u64) -> usize {
    usize::try_from(u64::BITS - bytes.leading_zeros()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_largest_channels_are_evicted() {
        let mut usage = Usage::new(1000);
        for _ in 0..10 {
            usage.change(0, 20);
        }
        usage.change(0, 600);
        assert_eq!((usage.bytes(), usage.level()), (800, u64::MAX));
        usage.change(0, 700);
        assert_eq!(
            usage.level(),
            400,
            "200 for the small, and half of the rest for each"
        );
        usage.change(600, 400);
        usage.change(700, 400);
        assert_eq!((usage.bytes(), usage.level()), (1000, u64::MAX));
        assert_eq!(Usage::new(0).level(), u64::MAX);
    }

    proptest! {
        #[test]
        fn everything_fits_at_the_level(
            sizes in proptest::collection::vec(0_u64..100_000, 1..200),
            most in 1_u64..2_000_000,
        ) {
            let mut usage = Usage::new(most);
            for size in &sizes {
                usage.change(0, *size);
            }
            let level = usage.level();
            let kept: u64 = sizes.iter().map(|size| (*size).min(level)).sum();
            prop_assert!(kept <= most, "{kept} at level {level}");
            for size in sizes {
                usage.change(size, size.min(level));
            }
            prop_assert_eq!(usage.bytes(), kept);
            prop_assert_eq!(usage.level(), u64::MAX);
        }
    }
}
