//! Interns values that the tokens of many users share.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use super::Identity;
use super::identity::Verification;

/// The most distinct values of each kind.
const MOST: usize = 1024;

/// Interns lists of roles, and records of how tokens were verified.
#[derive(Default)]
pub(super) struct Interner {
    roles: Pool<[Arc<str>]>,
    verifications: Pool<Verification>,
}

impl Interner {
    /// Replaces the identity's values with shared ones.
    pub(super) fn share(&self, identity: &mut Identity) {
        self.roles.share(&mut identity.roles);
        if let Some(token) = &mut identity.token {
            self.verifications.share(&mut token.verification);
        }
    }
}

/// A pool of values, each held once; at most 1,024 of them.
#[derive(Debug)]
pub struct Pool<T: ?Sized>(Mutex<Kept<T>>);

#[derive(Debug)]
struct Kept<T: ?Sized> {
    values: HashSet<Arc<T>>,
    /// How many values found no space since the last cleanup.
    missed: usize,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Pool(Mutex::new(Kept {
            values: HashSet::new(),
            missed: MOST,
        }))
    }
}

impl<T: ?Sized + Hash + Eq> Pool<T> {
    /// Replaces a value by the equal one of the pool. If the pool is full, unused values are removed.
    /// If that frees nothing, the next values are not interned.
    pub fn share(&self, own: &mut Arc<T>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { values, missed } = &mut *kept;
        if let Some(known) = values.get(own) {
            *own = Arc::clone(known);
            return;
        }
        if values.len() >= MOST && *missed >= MOST {
            values.retain(|value| Arc::strong_count(value) > 1);
            *missed = 0;
        }
        if values.len() < MOST {
            values.insert(Arc::clone(own));
        } else {
            *missed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(name: &str) -> Arc<[Arc<str>]> {
        Arc::new([Arc::from(name)])
    }

    #[test]
    fn equal_role_lists_are_interned() {
        let interner = Interner::default();
        let [mut ann, mut bob, mut eve] = ["editor", "editor", "admin"].map(|role| Identity {
            roles: roles(role),
            ..Identity::default()
        });
        for identity in [&mut ann, &mut bob, &mut eve] {
            interner.share(identity);
        }
        assert!(Arc::ptr_eq(&ann.roles, &bob.roles));
        assert!(!Arc::ptr_eq(&ann.roles, &eve.roles));
    }

    #[test]
    fn interner_is_bounded_and_frees_unused_values() {
        let pool = Pool::default();
        let mut held: Vec<_> = (0..MOST + 5).map(|n| roles(&n.to_string())).collect();
        for own in &mut held {
            pool.share(own);
        }
        assert_eq!(pool.0.lock().unwrap().values.len(), MOST);
        drop(held);
        // The pool is not cleaned up for every value that finds no space, but eventually.
        for _ in 0..=MOST {
            pool.share(&mut roles("one more"));
        }
        assert_eq!(pool.0.lock().unwrap().values.len(), 1);
    }
}
