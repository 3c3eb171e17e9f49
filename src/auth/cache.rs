//! A cache of recently verified tokens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;

use super::{Fingerprint, Identity};
use crate::event::Timestamp;

/// The number of parts of the cache, each with its own lock.
const STRIPES: usize = 16;
/// The most tokens in one part.
const STRIPE_LEN: usize = 1024;

/// Verified tokens with their identities, so that a token that comes with every call is verified
/// once: at most 16384, each until it expires or the keys change.
pub(super) struct Cache {
    stripes: [Mutex<Stripe>; STRIPES],
}

#[derive(Default)]
struct Stripe {
    /// The generation of the keys that verified all of the entries.
    generation: u64,
    /// Entries, found by the fingerprint of the whole token.
    identities: HashTable<Arc<Identity>>,
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
        if stripe.generation != generation {
            return None;
        }
        let is_it = |identity: &Arc<Identity>| exact(identity) == Some(token);
        let entry = stripe.identities.find_entry(token.hash(), is_it).ok()?;
        if is_valid(entry.get(), now) {
            return Some(Arc::clone(entry.get()));
        }
        entry.remove();
        None
    }

    /// Adds a verified token. A full part first drops its expired entries, and then one arbitrary
    /// entry.
    pub(super) fn put(&self, generation: u64, identity: &Arc<Identity>, now: Timestamp) {
        let Some(token) = exact(identity) else { return };
        let Some(mut stripe) = self.stripe(token) else {
            return;
        };
        if generation < stripe.generation {
            // The keys have changed since.
            return;
        }
        if generation > stripe.generation {
            stripe.identities.clear();
            stripe.generation = generation;
        }
        let identities = &mut stripe.identities;
        if identities.len() >= STRIPE_LEN {
            identities.retain(|identity| is_valid(identity, now));
        }
        if identities.len() >= STRIPE_LEN
            && let Some(any) = identities.iter().next().and_then(|any| exact(any))
            && let Ok(entry) = identities.find_entry(any.hash(), |one| exact(one) == Some(any))
        {
            entry.remove();
        }
        let is_it = |one: &Arc<Identity>| exact(one) == Some(token);
        if let Some(known) = identities.find_mut(token.hash(), is_it) {
            *known = Arc::clone(identity);
            return;
        }
        let hash = |one: &Arc<Identity>| exact(one).map_or(0, Fingerprint::hash);
        identities.insert_unique(token.hash(), Arc::clone(identity), hash);
    }

    /// Removes all entries.
    pub(super) fn clear(&self) {
        for stripe in &self.stripes {
            let mut stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            stripe.identities = HashTable::new();
        }
    }

    fn stripe(&self, token: Fingerprint) -> Option<MutexGuard<'_, Stripe>> {
        let stripe = self.stripes.get(token.place(STRIPES))?;
        Some(stripe.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The fingerprint of the whole token.
fn exact(identity: &Identity) -> Option<Fingerprint> {
    identity.token.as_ref().map(|token| token.exact)
}

fn is_valid(identity: &Identity, now: Timestamp) -> bool {
    identity.valid_until().is_none_or(|end| now < end)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::auth::identity::Token;

    fn identity(token: &str, valid_until: i64) -> Arc<Identity> {
        Arc::new(Identity {
            expires_at: Some(Timestamp::from_micros(valid_until)),
            token: Some(Token::of(token, Duration::ZERO)),
            ..Identity::anonymous()
        })
    }

    #[test]
    fn entry_ends_when_token_or_keys_expire() {
        let (cache, token) = (Cache::new(), Fingerprint::exact("a"));
        let at = Timestamp::from_micros;
        cache.put(1, &identity("a", 100), at(0));
        assert!(cache.get(token, 1, at(99)).is_some());
        assert!(cache.get(token, 1, at(100)).is_none());
        cache.put(1, &identity("a", 100), at(0));
        assert!(cache.get(token, 2, at(0)).is_none());
        cache.put(2, &identity("a", 100), at(0));
        assert!(cache.get(token, 2, at(0)).is_some());
    }

    #[test]
    fn token_verified_with_old_keys_is_not_cached() {
        let (cache, now) = (Cache::new(), Timestamp::from_micros(0));
        cache.put(2, &identity("a", 100), now);
        cache.put(1, &identity("a", 50), now);
        let found = cache.get(Fingerprint::exact("a"), 2, now).unwrap();
        assert_eq!(found.valid_until(), Some(Timestamp::from_micros(100)));
        assert!(cache.get(Fingerprint::exact("a"), 1, now).is_none());
    }

    #[test]
    fn different_signature_is_different_entry() {
        let (cache, now) = (Cache::new(), Timestamp::from_micros(0));
        cache.put(1, &identity("head.claims.signature", 100), now);
        let other = Fingerprint::exact("head.claims.another");
        assert!(cache.get(other, 1, now).is_none());
    }

    #[test]
    fn cache_is_bounded() {
        let (cache, now) = (Cache::new(), Timestamp::from_micros(0));
        for n in 0..40_000 {
            cache.put(1, &identity(&n.to_string(), 100), now);
        }
        let held = |stripe: &Mutex<Stripe>| stripe.lock().unwrap().identities.len();
        assert_eq!(
            cache.stripes.iter().map(held).sum::<usize>(),
            STRIPES * STRIPE_LEN
        );
    }
}
