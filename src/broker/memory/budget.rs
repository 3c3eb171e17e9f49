//! The memory budget of history, over all channels.
//!
//! When it is exceeded, the oldest events of the largest channels are evicted first, so that a
//! flood to some channels does not evict the history of small ones. There is no sorted list of
//! channels. Each stripe groups its channels by the power of two that their bytes reach, which
//! rarely changes, and publishes the largest group as an atomic. Hence, a publisher finds a victim
//! without a lock, and holds one stripe's lock for a bounded step.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use super::STRIPES;
use super::channel::Trimmed;
use crate::event::ChannelName;
use crate::telemetry::Metrics;

/// The size class: the power of two that a number of bytes reaches, from 1. 0 means no bytes.
pub(super) fn class(bytes: usize) -> u8 {
    let class = bytes.checked_ilog2().map_or(0, |log| log + 1);
    u8::try_from(class).unwrap_or(u8::MAX)
}

/// The current use and the limit.
pub(super) struct Budget {
    most: usize,
    /// Bytes of events and channels.
    held: AtomicUsize,
    /// Bytes of channels alone, which cannot be evicted.
    channels: AtomicUsize,
    /// The size class of each stripe's largest channel.
    largest: [AtomicU8; STRIPES],
    metrics: Arc<Metrics>,
}

impl Budget {
    pub(super) fn new(most: usize, metrics: Arc<Metrics>) -> Self {
        Budget {
            most,
            held: AtomicUsize::new(0),
            channels: AtomicUsize::new(0),
            largest: std::array::from_fn(|_| AtomicU8::new(0)),
            metrics,
        }
    }

    /// The bytes over the limit.
    pub(super) fn excess(&self) -> usize {
        self.held.load(Ordering::Relaxed).saturating_sub(self.most)
    }

    /// A stripe with one of the largest channels. `None` if no channel holds an event.
    pub(super) fn richest(&self) -> Option<usize> {
        let classes = self
            .largest
            .iter()
            .map(|class| class.load(Ordering::Relaxed));
        let (stripe, class) = classes.enumerate().max_by_key(|(_, class)| *class)?;
        (class > 0).then_some(stripe)
    }

    /// Adds the bytes of a new channel. False if channels alone would exceed the limit.
    pub(super) fn admit_channel(&self, bytes: usize) -> bool {
        let before = self.channels.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.most {
            self.channels.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.hold(bytes);
        true
    }

    /// Subtracts the bytes of a removed channel.
    pub(super) fn forget_channel(&self, bytes: usize) {
        self.channels.fetch_sub(bytes, Ordering::Relaxed);
        self.release(bytes);
    }

    /// Adds the bytes of a stored event.
    pub(super) fn hold(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        self.metrics.history().held(signed(bytes));
    }

    /// Subtracts evicted events.
    pub(super) fn trimmed(&self, trimmed: &Trimmed) {
        if trimmed.bytes == 0 {
            return;
        }
        self.release(trimmed.bytes);
        self.metrics.history().evicted(&trimmed.events);
    }

    fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.metrics.history().held(-signed(bytes));
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The channels of one stripe that hold events, by size class.
#[derive(Default)]
pub(super) struct Shelf(BTreeSet<(u8, ChannelName)>);

impl Shelf {
    /// Moves a channel to another size class.
    pub(super) fn move_to(
        &mut self,
        name: &ChannelName,
        (from, to): (u8, u8),
        budget: &Budget,
        stripe: usize,
    ) {
        if from == to {
            return;
        }
        if from > 0 {
            self.0.remove(&(from, name.clone()));
        }
        if to > 0 {
            self.0.insert((to, name.clone()));
        }
        let largest = self.0.last().map_or(0, |(class, _)| *class);
        if let Some(class) = budget.largest.get(stripe) {
            class.store(largest, Ordering::Relaxed);
        }
    }

    /// One of the largest channels.
    pub(super) fn largest(&self) -> Option<&ChannelName> {
        self.0.last().map(|(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_class_is_between_powers_of_two() {
        assert_eq!(
            [0, 1, 2, 3, 4, 1023, 1024].map(class),
            [0, 1, 2, 2, 3, 10, 11]
        );
        assert_eq!(class(usize::MAX), 64);
    }

    #[test]
    fn richest_stripe_has_highest_class() {
        let budget = Budget::new(100, Metrics::new("test"));
        let name = |name: &str| ChannelName::new(name).unwrap();
        let (mut one, mut other) = (Shelf::default(), Shelf::default());
        assert_eq!(budget.richest(), None);
        one.move_to(&name("a"), (0, 3), &budget, 1);
        other.move_to(&name("b"), (0, 5), &budget, 7);
        one.move_to(&name("c"), (0, 4), &budget, 1);
        assert_eq!(budget.richest(), Some(7));
        other.move_to(&name("b"), (5, 2), &budget, 7);
        assert_eq!(budget.richest(), Some(1));
        assert_eq!(one.largest(), Some(&name("c")));
        one.move_to(&name("c"), (4, 0), &budget, 1);
        one.move_to(&name("a"), (3, 0), &budget, 1);
        other.move_to(&name("b"), (2, 0), &budget, 7);
        assert_eq!((budget.richest(), one.largest()), (None, None));
    }
}
