//! Counters by name, with a limit on the number of names.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

/// Longer names are counted as [`OTHER`], in bytes.
const MAX_NAME: usize = 128;

/// The label of all names beyond the limit.
pub(super) const OTHER: &str = "other";

/// A monotonic counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The current value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A gauge.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `delta` and returns the new value.
    pub fn add(&self, delta: i64) -> i64 {
        self.0.fetch_add(delta, Relaxed).wrapping_add(delta)
    }

    /// Sets the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Raises the value to at least `value`.
    pub fn raise(&self, value: i64) {
        if self.get() < value {
            self.0.fetch_max(value, Relaxed);
        }
    }

    /// The current value.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }

    /// The current value, or zero if concurrent changes were observed out of order.
    #[must_use]
    pub fn level(&self) -> u64 {
        u64::try_from(self.get()).unwrap_or(0)
    }
}

/// One [`Counter`] or [`Gauge`] per name. A known name costs a shared lock. Names are never
/// removed, so names that were counted as [`OTHER`] stay there.
#[derive(Debug)]
pub(super) struct Names<T> {
    known: RwLock<HashMap<Box<str>, Arc<T>>>,
    other: Arc<T>,
    limit: usize,
}

impl<T: Default> Names<T> {
    /// A table for at most `limit` names.
    pub(super) fn new(limit: usize) -> Self {
        Names {
            known: RwLock::default(),
            other: Arc::default(),
            limit,
        }
    }

    /// The value of this name, or of [`OTHER`] if the table is full.
    pub(super) fn of(&self, name: &str) -> Arc<T> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = known.get(name) {
            return Arc::clone(number);
        }
        if known.len() >= self.limit || name.len() > MAX_NAME || name == OTHER {
            return Arc::clone(&self.other);
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have inserted this name, or taken the last slot.
        if known.len() >= self.limit && !known.contains_key(name) {
            return Arc::clone(&self.other);
        }
        Arc::clone(known.entry(Box::from(name)).or_default())
    }

    /// Every name with its value, sorted. [`OTHER`] is last, if `keep` accepts it.
    pub(super) fn read<V>(
        &self,
        value: impl Fn(&T) -> V,
        keep: impl Fn(&V) -> bool,
    ) -> Vec<(String, V)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<(String, V)> = known
            .iter()
            .map(|(name, number)| (name.to_string(), value(number)))
            .collect();
        drop(known);
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.push((OTHER.to_owned(), value(&self.other)));
        all.retain(|(_, value)| keep(value));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_limit_are_counted_as_other() {
        let names: Names<Counter> = Names::new(2);
        for name in ["a", "b", "c", "d", "a", &"x".repeat(MAX_NAME + 1)] {
            names.of(name).add(1);
        }
        let all = names.read(Counter::get, |_| true);
        let expected = [("a", 2), ("b", 1), (OTHER, 3)].map(|(name, n)| (name.to_owned(), n));
        assert_eq!(all, expected);
    }

    #[test]
    fn concurrent_names_stay_within_limit() {
        let names: Names<Counter> = Names::new(10);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|n| names.of(&format!("name{n}")).add(1)));
            }
        });
        let all = names.read(Counter::get, |_| true);
        assert_eq!(all.len(), 11);
        assert_eq!(all.iter().map(|(_, n)| n).sum::<u64>(), 400);
    }
}
