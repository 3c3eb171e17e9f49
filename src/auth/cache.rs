//! Tokens that were verified a moment ago.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Fingerprint, Identity};
use crate::event::Timestamp;

/// How many parts the cache has, each with its own lock.
const STRIPES: usize = 16;
/// The most tokens in one part.
const STRIPE_LEN: usize = 1024;

/// Verified tokens with their identities, so that a token that comes with every call is verified
/// once: at most 16384, each until it expires or the keys change.
pub(super) struct Cache {
    stripes: [Mutex<HashMap<Fingerprint, Entry>>; STRIPES],
}

struct Entry {
    identity: Arc<Identity>,
    /// Which keys it was verified with.
    generation: u64,
}

impl Cache {
    pub(super) fn new() -> Self {
        Cache {
            stripes: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// The identity of a token that was verified with these keys and is still valid.
    pub(super) fn get(
        &self,
        token: Fingerprint,
        generation: u64,
        now: Timestamp,
    ) -> Option<Arc<Identity>> {
        let mut stripe = self.stripe(token)?;
        let entry = stripe.get(&token)?;
        if entry.generation == generation && is_valid(&entry.identity, now) {
            return Some(Arc::clone(&entry.identity));
        }
        stripe.remove(&token);
        None
    }

    /// Keeps a verified token. A full part first loses what has expired, and then any one entry.
    pub(super) fn put(
        &self,
        token: Fingerprint,
        generation: u64,
        identity: &Arc<Identity>,
        now: Timestamp,
    ) {
        let Some(mut stripe) = self.stripe(token) else {
            return;
        };
        if stripe.len() >= STRIPE_LEN {
            stripe.retain(|_, e| e.generation == generation && is_valid(&e.identity, now));
        }
        if stripe.len() >= STRIPE_LEN
            && let Some(any) = stripe.keys().next().copied()
        {
            stripe.remove(&any);
        }
        stripe.insert(
            token,
            Entry {
                identity: Arc::clone(identity),
                generation,
            },
        );
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for stripe in &self.stripes {
            stripe
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
        }
    }

    fn stripe(
        &self,
        token: Fingerprint,
    ) -> Option<std::sync::MutexGuard<'_, HashMap<Fingerprint, Entry>>> {
        let stripe = self.stripes.get(token.place(STRIPES))?;
        Some(stripe.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn is_valid(identity: &Identity, now: Timestamp) -> bool {
    identity.valid_until().is_none_or(|end| now < end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(valid_until: i64) -> Arc<Identity> {
        Arc::new(Identity {
            valid_until: Some(Timestamp::from_micros(valid_until)),
            ..Identity::anonymous()
        })
    }

    #[test]
    fn an_entry_ends_with_its_token_and_with_the_keys() {
        let (cache, token) = (Cache::new(), Fingerprint::of("a"));
        let at = Timestamp::from_micros;
        cache.put(token, 1, &identity(100), at(0));
        assert!(cache.get(token, 1, at(99)).is_some());
        assert!(cache.get(token, 1, at(100)).is_none());
        cache.put(token, 1, &identity(100), at(0));
        assert!(cache.get(token, 2, at(0)).is_none());
    }

    #[test]
    fn the_cache_is_bounded() {
        let (cache, now) = (Cache::new(), Timestamp::from_micros(0));
        let shared = identity(100);
        for n in 0..40_000 {
            cache.put(Fingerprint::of(&n.to_string()), 1, &shared, now);
        }
        let held: usize = cache.stripes.iter().map(|s| s.lock().unwrap().len()).sum();
        assert_eq!(held, STRIPES * STRIPE_LEN);
    }
}
