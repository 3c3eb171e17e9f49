//! Tokens that were taken back before they expire.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::{Fingerprint, Identity};
use crate::clock::uptime;
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
    tokens: HashMap<Fingerprint, End>,
    users: HashMap<Arc<str>, UserEntry>,
}

struct UserEntry {
    issued_before: Timestamp,
    /// Where the calendar stood against the uptime when that was said, in microseconds.
    calendar: i64,
    until: End,
}

impl Lists {
    fn forget(&mut self, now: Moment) {
        self.tokens.retain(|_, end| !end.is_over(now));
        self.users.retain(|_, entry| !entry.until.is_over(now));
    }
}

/// Now, by the calendar and by the machine's uptime, which nobody can set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) wall: Timestamp,
    pub(super) up: Duration,
}

impl Moment {
    pub(super) fn now() -> Self {
        Moment::at(Timestamp::now())
    }

    /// Now, which is this by the calendar.
    pub(super) fn at(wall: Timestamp) -> Self {
        Moment { wall, up: uptime() }
    }

    /// By how much the calendar is ahead of the uptime, in microseconds.
    fn calendar(self) -> i64 {
        let up = i64::try_from(self.up.as_micros()).unwrap_or(i64::MAX);
        self.wall.as_micros().saturating_sub(up)
    }
}

impl UserEntry {
    /// Before when a token must have been issued to be covered, by the calendar of `now`. Where the
    /// clock was set since, the moment of the revocation has another date: else a clock that was
    /// ahead would lock a user out until that date has come.
    fn issued_before(&self, now: Moment) -> Timestamp {
        let set = now.calendar().saturating_sub(self.calendar);
        if set.abs() < SLEWED {
            return self.issued_before;
        }
        Timestamp::from_micros(self.issued_before.as_micros().saturating_add(set))
    }
}

/// By how much a calendar moves without being set, in microseconds.
const SLEWED: i64 = 2_000_000;

/// When an entry is over: when its time has come by the calendar, and has passed. A clock that is
/// set ahead makes no revocation forgotten whose token is good again once the clock is set right.
#[derive(Debug, Clone, Copy)]
struct End {
    wall: Timestamp,
    up: Duration,
}

impl End {
    fn of(until: Timestamp, now: Moment) -> Self {
        let left = until.as_micros().saturating_sub(now.wall.as_micros());
        let left = Duration::from_micros(u64::try_from(left).unwrap_or(0));
        End {
            wall: until,
            up: now.up.saturating_add(left),
        }
    }

    fn is_over(self, now: Moment) -> bool {
        now.wall >= self.wall && now.up >= self.up
    }

    fn later(self, other: Self) -> Self {
        End {
            wall: self.wall.max(other.wall),
            up: self.up.max(other.up),
        }
    }
}

impl Revocations {
    /// Adds an entry that may be forgotten after `until`; of each kind, at most `limit` are kept.
    pub(super) fn add(
        &self,
        what: Revoke,
        until: Timestamp,
        now: Moment,
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
        let until = End::of(until, now);
        match what {
            Revoke::Token(token) => {
                if lists.tokens.len() >= limit && !lists.tokens.contains_key(&token) {
                    return Err(full());
                }
                let end = lists.tokens.entry(token).or_insert(until);
                *end = until.later(*end);
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
                    calendar: now.calendar(),
                    until,
                });
                entry.issued_before = issued_before.max(entry.issued_before(now));
                entry.calendar = now.calendar();
                entry.until = until.later(entry.until);
            }
        }
        self.any.store(true, Ordering::Release);
        Ok(())
    }

    /// Forgets what is over; answers how many entries are left.
    pub(super) fn sweep(&self, now: Moment) -> usize {
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
        self.any.load(Ordering::Acquire) && self.covers_at(identity, Moment::at(now))
    }

    fn covers_at(&self, identity: &Identity, now: Moment) -> bool {
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        // Who came without a token has none that could be taken back, whatever its name.
        let Some(token) = identity.fingerprint() else {
            return false;
        };
        let token = lists.tokens.get(&token);
        token.is_some_and(|end| !end.is_over(now))
            || identity
                .user
                .as_ref()
                .and_then(|user| lists.users.get(user))
                .is_some_and(|entry| {
                    !entry.until.is_over(now)
                        && identity
                            .issued_at
                            .is_none_or(|issued| issued < entry.issued_before(now))
                })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::identity::Token;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    /// So many microseconds after the beginning of both clocks.
    fn moment(micros: u64) -> Moment {
        Moment {
            wall: at(micros.cast_signed()),
            up: Duration::from_micros(micros),
        }
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
            .add(
                Revoke::Token(Fingerprint::of("ann")),
                at(100),
                moment(0),
                10,
            )
            .unwrap();
        assert!(revocations.covers_at(&issued("ann", None), moment(99)));
        assert!(!revocations.covers_at(&issued("ann", None), moment(100)));
        assert!(!revocations.covers_at(&issued("bob", None), moment(0)));
    }

    #[test]
    fn a_user_s_older_tokens_are_covered_and_newer_ones_are_not() {
        let revocations = Revocations::default();
        let what = Revoke::User {
            user: Arc::from("ann"),
            issued_before: at(50),
        };
        revocations.add(what, at(100), moment(0), 10).unwrap();
        assert!(revocations.covers_at(&issued("ann", Some(49)), moment(60)));
        assert!(!revocations.covers_at(&issued("ann", Some(50)), moment(60)));
        assert!(revocations.covers_at(&issued("ann", None), moment(60)));
        assert!(!revocations.covers_at(&issued("bob", Some(1)), moment(60)));
        assert!(!revocations.covers_at(&Identity::trusted("ann"), moment(60)));
    }

    #[test]
    fn the_list_is_bounded_and_forgets_what_is_over() {
        let revocations = Revocations::default();
        for n in 0..10 {
            let token = Fingerprint::of(&n.to_string());
            revocations
                .add(Revoke::Token(token), at(100), moment(0), 10)
                .unwrap();
        }
        assert_eq!(revocations.sweep(moment(99)), 10);
        let one_more = Revoke::Token(Fingerprint::of("one more"));
        let error = revocations
            .add(one_more.clone(), at(100), moment(99), 10)
            .unwrap_err();
        assert_eq!(error.code(), crate::error::Code::ResourceExhausted);
        revocations.add(one_more, at(200), moment(100), 10).unwrap();
        assert_eq!(revocations.sweep(moment(100)), 1);
        assert_eq!(revocations.sweep(moment(200)), 0);
    }

    #[test]
    fn a_clock_that_was_ahead_for_a_while_makes_nothing_forgotten() {
        let revocations = Revocations::default();
        let token = Revoke::Token(Fingerprint::of("ann"));
        revocations.add(token, at(100), moment(0), 10).unwrap();
        let ahead = Moment {
            wall: at(1_000_000),
            up: Duration::from_micros(10),
        };
        assert_eq!(revocations.sweep(ahead), 1);
        assert!(revocations.covers_at(&issued("ann", None), moment(20)));
        // Nor does one that is behind keep it covered in the end.
        let behind = Moment {
            wall: at(-1_000_000),
            up: Duration::from_micros(200),
        };
        assert!(revocations.covers_at(&issued("ann", None), behind));
        assert_eq!(revocations.sweep(moment(200)), 0);
    }

    #[test]
    fn a_user_who_was_revoked_by_a_wrong_clock_is_not_locked_out() {
        const DAY: i64 = 86_400_000_000;
        let hour = Duration::from_hours(1);
        let on = |wall: i64, up: Duration| Moment { wall: at(wall), up };
        for wrong in [30 * DAY, -30 * DAY] {
            let revocations = Revocations::default();
            let what = Revoke::User {
                user: Arc::from("ann"),
                issued_before: at(100 * DAY + wrong),
            };
            let until = at(i64::MAX);
            let then = on(100 * DAY + wrong, hour);
            revocations.add(what, until, then, 10).unwrap();
            // An hour later the clock is right again.
            let now = on(100 * DAY + 3_600_000_000, hour * 2);
            let old = issued("ann", Some(100 * DAY - 1));
            let new = issued("ann", Some(100 * DAY + 1));
            assert!(revocations.covers_at(&old, now), "{wrong}");
            assert!(!revocations.covers_at(&new, now), "{wrong}");
        }
    }
}
