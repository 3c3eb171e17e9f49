//! Tokens that were taken back before they expire.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::{Fingerprint, Identity};
use crate::error::{Error, Result};
use crate::event::Timestamp;

/// What is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Revoke {
    /// One token.
    Token(Fingerprint),
    /// Every token of a user that was issued before then, or that doesn't say when it was issued.
    User {
        /// The user's name.
        user: Arc<str>,
        /// Tokens issued (`iat`) from then on are good.
        issued_before: Timestamp,
    },
}

/// The tokens that are taken back, each until it would have expired anyway.
#[derive(Default)]
pub(super) struct Revocations {
    /// Spares everybody the lock as long as nothing is revoked.
    any: AtomicBool,
    lists: RwLock<Lists>,
}

#[derive(Default)]
struct Lists {
    tokens: HashMap<Fingerprint, Timestamp>,
    users: HashMap<Arc<str>, UserEntry>,
}

struct UserEntry {
    issued_before: Timestamp,
    until: Timestamp,
}

impl Lists {
    fn forget(&mut self, now: Timestamp) {
        self.tokens.retain(|_, end| *end > now);
        self.users.retain(|_, entry| entry.until > now);
    }
}

impl Revocations {
    /// Adds an entry that may be forgotten after `until`; of each kind, at most `limit` are kept.
    pub(super) fn add(
        &self,
        what: Revoke,
        until: Timestamp,
        now: Timestamp,
        limit: usize,
    ) -> Result<()> {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        if lists.tokens.len().max(lists.users.len()) >= limit {
            lists.forget(now);
        }
        let full = || {
            let text = format!("{limit} revocations are kept already (auth.revocations)");
            Error::exhausted(text)
        };
        match what {
            Revoke::Token(token) => {
                if lists.tokens.len() >= limit && !lists.tokens.contains_key(&token) {
                    return Err(full());
                }
                let end = lists.tokens.entry(token).or_insert(until);
                *end = until.max(*end);
            }
            Revoke::User {
                user,
                issued_before,
            } => {
                if lists.users.len() >= limit && !lists.users.contains_key(&user) {
                    return Err(full());
                }
                let entry = lists.users.entry(user).or_insert(UserEntry {
                    issued_before,
                    until,
                });
                entry.issued_before = issued_before.max(entry.issued_before);
                entry.until = until.max(entry.until);
            }
        }
        self.any.store(true, Ordering::Release);
        Ok(())
    }

    /// Forgets what is over; answers how many entries are left.
    pub(super) fn sweep(&self, now: Timestamp) -> usize {
        if !self.any.load(Ordering::Acquire) {
            return 0;
        }
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        lists.forget(now);
        let left = lists.tokens.len() + lists.users.len();
        self.any.store(left > 0, Ordering::Release);
        left
    }

    /// True if the identity's token was taken back.
    pub(super) fn covers(&self, identity: &Identity, now: Timestamp) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        // Who came without a token has none that could be taken back, whatever its name.
        let Some(token) = identity.fingerprint() else {
            return false;
        };
        let token = lists.tokens.get(&token);
        token.is_some_and(|end| *end > now)
            || identity
                .user
                .as_ref()
                .and_then(|user| lists.users.get(user))
                .is_some_and(|entry| {
                    entry.until > now
                        && identity
                            .issued_at
                            .is_none_or(|issued| issued < entry.issued_before)
                })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::auth::identity::Token;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn issued(user: &str, micros: Option<i64>) -> Identity {
        Identity {
            user: Some(Arc::from(user)),
            issued_at: micros.map(at),
            token: Some(Token::of(user, Duration::ZERO)),
            ..Identity::anonymous()
        }
    }

    #[test]
    fn a_revoked_token_is_covered_until_it_would_have_expired() {
        let revocations = Revocations::default();
        revocations
            .add(Revoke::Token(Fingerprint::of("ann")), at(100), at(0), 10)
            .unwrap();
        assert!(revocations.covers(&issued("ann", None), at(99)));
        assert!(!revocations.covers(&issued("ann", None), at(100)));
        assert!(!revocations.covers(&issued("bob", None), at(0)));
    }

    #[test]
    fn a_user_s_older_tokens_are_covered_and_newer_ones_are_not() {
        let revocations = Revocations::default();
        let what = Revoke::User {
            user: Arc::from("ann"),
            issued_before: at(50),
        };
        revocations.add(what, at(100), at(0), 10).unwrap();
        assert!(revocations.covers(&issued("ann", Some(49)), at(60)));
        assert!(!revocations.covers(&issued("ann", Some(50)), at(60)));
        assert!(revocations.covers(&issued("ann", None), at(60)));
        assert!(!revocations.covers(&issued("bob", Some(1)), at(60)));
        assert!(!revocations.covers(&Identity::trusted("ann"), at(60)));
    }

    #[test]
    fn the_list_is_bounded_and_forgets_what_is_over() {
        let revocations = Revocations::default();
        for n in 0..10 {
            let token = Fingerprint::of(&n.to_string());
            revocations
                .add(Revoke::Token(token), at(100), at(0), 10)
                .unwrap();
        }
        assert_eq!(revocations.sweep(at(99)), 10);
        let one_more = Revoke::Token(Fingerprint::of("one more"));
        let error = revocations
            .add(one_more.clone(), at(100), at(99), 10)
            .unwrap_err();
        assert_eq!(error.code(), crate::error::Code::ResourceExhausted);
        revocations.add(one_more, at(200), at(100), 10).unwrap();
        assert_eq!(revocations.sweep(at(100)), 1);
        assert_eq!(revocations.sweep(at(200)), 0);
    }
}
