//! Published events by type. Every declared type has a label, and a limited number of others.
//!
//! Publishers may invent types. Undeclared types share a limited number of labels, and release them
//! when they are not published any more.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::names::{Counter, OTHER};

/// Counters by event type.
#[derive(Debug)]
pub(super) struct EventTypes {
    known: RwLock<Known>,
    /// The count of types without a label, including released ones.
    other: Counter,
    /// How many undeclared types have a label.
    limit: usize,
}

#[derive(Debug, Default)]
struct Known {
    types: HashMap<Box<str>, Entry>,
    undeclared: usize,
}

#[derive(Debug, Default)]
struct Entry {
    published: Counter,
    declared: bool,
    /// The value of `published` at the last cleanup.
    seen: u64,
}

impl EventTypes {
    /// No type is declared.
    pub(super) fn new(limit: usize) -> Self {
        EventTypes {
            known: RwLock::default(),
            other: Counter::default(),
            limit,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an event of this type. Counted under the lock, so that no count is lost during a
    /// cleanup.
    pub(super) fn count(&self, name: &str) {
        let known = self.read();
        if let Some(entry) = known.types.get(name) {
            return entry.published.add(1);
        }
        if known.undeclared >= self.limit || name == OTHER {
            return self.other.add(1);
        }
        drop(known);
        let mut known = self.write();
        // Another thread may have inserted this type, or taken the last label.
        if let Some(entry) = known.types.get(name) {
            return entry.published.add(1);
        }
        if known.undeclared >= self.limit {
            return self.other.add(1);
        }
        known.undeclared += 1;
        known
            .types
            .entry(Box::from(name))
            .or_default()
            .published
            .add(1);
    }

    /// Replaces the declared types.
    pub(super) fn declare<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let mut known = self.write();
        for entry in known.types.values_mut() {
            entry.declared = false;
        }
        for name in names.filter(|name| *name != OTHER) {
            known.types.entry(Box::from(name)).or_default().declared = true;
        }
        known.undeclared = known.types.values().filter(|entry| !entry.declared).count();
    }

    /// Releases the label of every undeclared type that was not published since the last cleanup.
    /// Its count moves to the rest.
    pub(super) fn turn_over(&self) {
        let mut known = self.write();
        known.types.retain(|_, entry| {
            let now = entry.published.get();
            let kept = entry.declared || now != entry.seen;
            if !kept {
                self.other.add(now);
            }
            entry.seen = now;
            kept
        });
        known.types.shrink_to_fit();
        known.undeclared = known.types.values().filter(|entry| !entry.declared).count();
    }

    /// All types with published events, sorted, [`OTHER`] last.
    pub(super) fn all(&self) -> Vec<(String, u64)> {
        let known = self.read();
        let types = known.types.iter();
        let mut all: Vec<(String, u64)> = types
            .map(|(name, entry)| (name.to_string(), entry.published.get()))
            .filter(|(_, published)| *published > 0)
            .collect();
        let other = self.other.get();
        drop(known);
        all.sort();
        all.push((OTHER.to_owned(), other));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flood(types: &EventTypes, name: &str) {
        for n in 0..50 {
            types.count(&format!("{name}{n}"));
        }
    }

    fn of(types: &EventTypes, name: &str) -> Option<u64> {
        let all = types.all();
        all.iter().find(|(known, _)| known == name).map(|(_, n)| *n)
    }

    #[test]
    fn declared_types_keep_label_after_flood() {
        let types = EventTypes::new(10);
        types.declare(["order.paid"].into_iter());
        flood(&types, "junk");
        types.count("order.paid");
        assert_eq!(of(&types, "order.paid"), Some(1));
        // After a reload, too.
        types.declare(["order.paid", "order.sent"].into_iter());
        types.count("order.sent");
        types.count("order.paid");
        assert_eq!(of(&types, "order.paid"), Some(2));
        assert_eq!(of(&types, "order.sent"), Some(1));
        assert_eq!(types.all().len(), 2 + 10 + 1);
    }

    #[test]
    fn idle_type_releases_label_without_losing_count() {
        let types = EventTypes::new(10);
        flood(&types, "junk");
        types.count("real");
        assert_eq!(of(&types, "real"), None);
        types.turn_over();
        types.count("junk3");
        types.turn_over();
        assert_eq!(of(&types, "junk3"), Some(2), "it is still published");
        types.count("real");
        assert_eq!(of(&types, "real"), Some(1));
        let sum: u64 = types.all().iter().map(|(_, n)| n).sum();
        assert_eq!(sum, 53);
    }

    #[test]
    fn undeclared_type_counts_as_other() {
        let types = EventTypes::new(1);
        types.declare(["a", "b", "other"].into_iter());
        for name in ["a", "b", "other"] {
            types.count(name);
        }
        types.declare(["b"].into_iter());
        types.count("c");
        assert_eq!((of(&types, "a"), of(&types, "c")), (Some(1), None));
        assert_eq!(of(&types, "other"), Some(2));
    }

    #[test]
    fn concurrent_counts_are_exact_during_turnover() {
        let types = EventTypes::new(10);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..20).for_each(|n| flood(&types, &format!("{n}-"))));
            }
            (0..50).for_each(|_| types.turn_over());
        });
        assert_eq!(types.all().iter().map(|(_, n)| n).sum::<u64>(), 4 * 20 * 50);
    }
}
