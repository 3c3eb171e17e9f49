//! Counters by name, with a bound on how many names there may be.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

/// Names longer than this are counted as [`OTHER`]; in bytes.
const MAX_NAME: usize = 128;

/// The label of everything beyond the bound.
pub(super) const OTHER: &str = "other";

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// What was added so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `delta` and returns the new value.
    pub fn add(&self, delta: i64) -> i64 {
        self.0.fetch_add(delta, Relaxed).wrapping_add(delta)
    }

    /// Makes it `value`.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Makes it at least `value`.
    pub fn raise(&self, value: i64) {
        if self.get() < value {
            self.0.fetch_max(value, Relaxed);
        }
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }

    /// The value now; zero where opposite changes were seen in the wrong order.
    #[must_use]
    pub fn level(&self) -> u64 {
        u64::try_from(self.get()).unwrap_or(0)
    }
}

/// One [`Counter`] or [`Gauge`] per name. A name that is known costs a shared lock; names are
/// never forgotten, so that whoever beyond the bound fell to [`OTHER`] stays there.
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

    /// The number of this name, or of [`OTHER`] where the table is full.
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
        // Another thread may have been first, with this name or with the last free place.
        if known.len() >= self.limit && !known.contains_key(name) {
            return Arc::clone(&self.other);
        }
        Arc::clone(known.entry(Box::from(name)).or_default())
    }

    /// Every name with its number, sorted; [`OTHER`] last, where `keep` wants it.
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
    fn many_threads_with_new_names_never_pass_the_limit() {
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
