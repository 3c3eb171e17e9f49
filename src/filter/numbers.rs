//! Numbers for distinct filters, shared by all shards.
//!
//! Shards share the result of a filter for an event under the filter's number. A number is never
//! reused, because an event in flight must not return the result of another filter.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::FilterKey;

/// The numbers of all filters in use.
#[derive(Debug, Default)]
pub(crate) struct FilterNumbers(Mutex<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    known: HashMap<FilterKey, Known>,
    last: u64,
}

#[derive(Debug)]
struct Known {
    number: u64,
    shards: u32,
}

impl FilterNumbers {
    /// The filter's number. Counts one more shard that uses it.
    pub(crate) fn acquire(&self, key: &FilterKey) -> u64 {
        let mut numbers = self.lock();
        if let Some(known) = numbers.known.get_mut(key) {
            known.shards += 1;
            return known.number;
        }
        numbers.last += 1;
        let number = numbers.last;
        numbers
            .known
            .insert(key.clone(), Known { number, shards: 1 });
        number
    }

    /// Counts one fewer shard that uses it.
    pub(crate) fn release(&self, key: &FilterKey) {
        let mut numbers = self.lock();
        if let Some(known) = numbers.known.get_mut(key) {
            known.shards -= 1;
            if known.shards == 0 {
                numbers.known.remove(key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::TypePattern;
    use crate::filter::EventFilter;

    #[test]
    fn filter_numbers_are_stable_and_never_reused() {
        let numbers = FilterNumbers::default();
        let filter = |name| {
            let types = [TypePattern::parse(name).unwrap()];
            EventFilter::new(types, None).unwrap().unwrap()
        };
        let (a, b) = (filter("a"), filter("b"));
        let first = numbers.acquire(a.key());
        assert_eq!(numbers.acquire(a.key()), first);
        assert_ne!(numbers.acquire(b.key()), first);
        numbers.release(a.key());
        assert_eq!(numbers.acquire(a.key()), first);
        numbers.release(a.key());
        numbers.release(a.key());
        let again = numbers.acquire(a.key());
        assert!(again > first, "{again} after {first}");
    }
}
