//! A cache of recently verified tokens.

use std::sync::Arc;

use quick_cache::sync;

use super::{Fingerprint, Identity};
use crate::event::Timestamp;

/// The most tokens.
const CAPACITY: usize = 16 * 1024;

/// Verified tokens with their identities, so that a token that comes with every call is verified
/// once: at most 16384, each until it expires or the keys change.
pub(super) struct Cache {
    /// By the fingerprint of the whole token, with the generation of the keys that verified it.
    identities: sync::Cache<Fingerprint, (u64, Arc<Identity>)>,
}

impl Cache {
    pub(super) fn new() -> Self {
        Cache {
            identities: sync::Cache::new(CAPACITY),
        }
    }

    /// The identity of a token that was verified with these keys and is still valid.
    pub(super) fn get(
        &self,
        token: Fingerprint,
        generation: u64,
        now: Timestamp,
    ) -> Option<Arc<Identity>> {
        let (verified_with, identity) = self.identities.get(&token)?;
        if verified_with != generation {
            return None;
        }
        if is_valid(&identity, now) {
            return Some(identity);
        }
        let is_it = |(_, known): &(u64, Arc<Identity>)| Arc::ptr_eq(known, &identity);
        self.identities.remove_if(&token, is_it);
        None
    }

    /// Adds a verified token, unless the keys have changed since. A full cache evicts a token that was
    /// rarely requested.
    pub(super) fn put(&self, generation: u64, identity: &Arc<Identity>) {
        let Some(token) = exact(identity) else { return };
        // A race between two calls costs only another verification, because `get` checks the generation.
        let known = self.identities.get(&token);
        if known.is_none_or(|(known, _)| known <= generation) {
            let entry = (generation, Arc::clone(identity));
            self.identities.insert(token, entry);
        }
    }

    /// Removes all entries.
    pub(super) fn clear(&self) {
        self.identities.clear();
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
        cache.put(1, &identity("a", 100));
        assert!(cache.get(token, 1, at(99)).is_some());
        assert!(cache.get(token, 1, at(100)).is_none());
        cache.put(1, &identity("a", 100));
        assert!(cache.get(token, 2, at(0)).is_none());
        cache.put(2, &identity("a", 100));
        assert!(cache.get(token, 2, at(0)).is_some());
    }

    #[test]
    fn token_verified_with_old_keys_is_not_cached() {
        let (cache, now) = (Cache::new(), Timestamp::from_micros(0));
        cache.put(2, &identity("a", 100));
        cache.put(1, &identity("a", 50));
        let found = cache.get(Fingerprint::exact("a"), 2, now).unwrap();
        assert_eq!(found.valid_until(), Some(Timestamp::from_micros(100)));
        assert!(cache.get(Fingerprint::exact("a"), 1, now).is_none());
    }

    #[test]
    fn different_signature_is_different_entry() {
        let (cache, now) = (Cache::new(), Timestamp::from_micros(0));
        cache.put(1, &identity("head.claims.signature", 100));
        let other = Fingerprint::exact("head.claims.another");
        assert!(cache.get(other, 1, now).is_none());
    }

    #[test]
    fn cache_is_bounded() {
        let cache = Cache::new();
        for n in 0..40_000 {
            cache.put(1, &identity(&n.to_string(), 100));
        }
        assert!((1..=CAPACITY).contains(&cache.identities.len()));
        cache.clear();
        assert_eq!(cache.identities.len(), 0);
    }
}
