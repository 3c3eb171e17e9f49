//! The table of revoked tokens, which every check of a token consults.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::revocations::{Revocation, RevokedSubject};
use super::{Fingerprint, Identity};
use crate::clock::uptime;
use crate::error::{Error, Result};
use crate::event::Timestamp;

/// The revoked tokens, each until it would have expired anyway.
#[derive(Default)]
pub(super) struct RevocationTable {
    /// False while the table is empty, so that a check takes no lock.
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
    /// The difference between wall clock and uptime when the entry was made, in microseconds.
    calendar: i64,
    until: End,
}

impl Lists {
    /// Removes the entries that have ended, and returns them.
    fn remove_ended(&mut self, now: Moment) -> Vec<Revocation> {
        let tokens = self.tokens.extract_if(|_, end| end.is_over(now));
        let mut ended: Vec<Revocation> = tokens
            .map(|(token, end)| Revocation {
                subject: RevokedSubject::Token(token),
                issued_before: end_of_time(),
                until: end.wall,
            })
            .collect();
        let users = self.users.extract_if(|_, entry| entry.until.is_over(now));
        ended.extend(users.map(|(user, entry)| Revocation {
            subject: RevokedSubject::User(user),
            issued_before: entry.issued_before,
            until: entry.until.wall,
        }));
        ended
    }

    fn put(&mut self, revocation: Revocation, until: End, now: Moment) -> Revocation {
        let (issued_before, until) = match &revocation.subject {
            RevokedSubject::Token(token) => {
                let end = self.tokens.entry(*token).or_insert(until);
                *end = until.later(*end);
                (end_of_time(), end.wall)
            }
            RevokedSubject::User(user) => {
                let issued_before = revocation.issued_before;
                let entry = self.users.entry(Arc::clone(user)).or_insert(UserEntry {
                    issued_before,
                    calendar: now.calendar(),
                    until,
                });
                entry.issued_before = issued_before.max(entry.issued_before(now));
                entry.calendar = now.calendar();
                entry.until = until.later(entry.until);
                (entry.issued_before, entry.until.wall)
            }
        };
        Revocation {
            issued_before,
            until,
            ..revocation
        }
    }
}

/// A time later than any token's expiry.
pub(super) fn end_of_time() -> Timestamp {
    Timestamp::from_micros(i64::MAX)
}

/// The current time, by the wall clock and by the machine's uptime, which can't be set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) wall: Timestamp,
    pub(super) up: Duration,
}

impl Moment {
    pub(super) fn now() -> Self {
        Moment::at(Timestamp::now())
    }

    /// The current time, given the wall clock's time.
    pub(super) fn at(wall: Timestamp) -> Self {
        Moment { wall, up: uptime() }
    }

    /// How far the wall clock is ahead of the uptime, in microseconds.
    fn calendar(self) -> i64 {
        let up = i64::try_from(self.up.as_micros()).unwrap_or(i64::MAX);
        self.wall.as_micros().saturating_sub(up)
    }
}

impl UserEntry {
    /// Tokens issued before this time, by the wall clock of `now`, are covered. If the clock was
    /// set since the revocation, the moment of the revocation has another date: without this
    /// correction a clock that was ahead would lock the user out until that date.
    fn issued_before(&self, now: Moment) -> Timestamp {
        let set = now.calendar().saturating_sub(self.calendar);
        if set.abs() < SLEWED {
            return self.issued_before;
        }
        Timestamp::from_micros(self.issued_before.as_micros().saturating_add(set))
    }
}

/// An entry read from the register stays at least this long, whatever the wall clock says: a
/// machine may start with a clock that is ahead, and correct it soon after.
const KEPT_AFTER_START: Duration = Duration::from_hours(1);

/// How far a wall clock drifts without being set, in microseconds.
const SLEWED: i64 = 2_000_000;

/// When an entry ends: once its date has passed by the wall clock and its duration has passed by
/// the uptime. So a clock that is set ahead for a while does not end a revocation early.
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

impl RevocationTable {
    /// Adds an entry, or extends the one of the same subject, and returns the resulting entry. At
    /// most `limit` entries of each kind are kept.
    ///
    /// # Errors
    ///
    /// `resource_exhausted`.
    pub(super) fn add(
        &self,
        revocation: Revocation,
        now: Moment,
        limit: usize,
    ) -> Result<Revocation> {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        let (known, len) = match &revocation.subject {
            RevokedSubject::Token(token) => (lists.tokens.contains_key(token), lists.tokens.len()),
            RevokedSubject::User(user) => (lists.users.contains_key(user), lists.users.len()),
        };
        if !known && len >= limit {
            let text = format!("{limit} revocations are kept already (auth.revocations)");
            return Err(Error::exhausted(text));
        }
        let until = End::of(revocation.until, now);
        let merged = lists.put(revocation, until, now);
        self.any.store(true, Ordering::Release);
        Ok(merged)
    }

    /// Loads the entries of the register. No limit applies: dropping an entry would make its tokens
    /// valid again.
    pub(super) fn load(&self, revocations: Vec<Revocation>, now: Moment) {
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        for revocation in revocations {
            let mut until = End::of(revocation.until, now);
            until.up = until.up.max(now.up.saturating_add(KEPT_AFTER_START));
            lists.put(revocation, until, now);
            self.any.store(true, Ordering::Release);
        }
    }

    /// Removes the entries that have ended; returns them, and the number of remaining ones.
    pub(super) fn sweep(&self, now: Moment) -> (Vec<Revocation>, usize) {
        if !self.any.load(Ordering::Acquire) {
            return (Vec::new(), 0);
        }
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        let ended = lists.remove_ended(now);
        let left = lists.tokens.len() + lists.users.len();
        self.any.store(left > 0, Ordering::Release);
        (ended, left)
    }

    /// True if the identity's token is revoked.
    pub(super) fn covers(&self, identity: &Identity, now: Timestamp) -> bool {
        self.any.load(Ordering::Acquire) && self.covers_at(identity, Moment::at(now))
    }

    fn covers_at(&self, identity: &Identity, now: Moment) -> bool {
        let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
        let token = identity.fingerprint();
        // A trusted caller has nothing that could be revoked, whatever its name.
        if token.is_none() && !identity.is_stated() {
            return false;
        }
        let token = token.and_then(|token| lists.tokens.get(&token));
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

    /// This many microseconds after the start of both clocks.
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

    fn token(text: &str, until: i64) -> Revocation {
        Revocation {
            subject: RevokedSubject::Token(Fingerprint::of(text)),
            issued_before: end_of_time(),
            until: at(until),
        }
    }

    fn user(name: &str, issued_before: i64, until: i64) -> Revocation {
        Revocation {
            subject: RevokedSubject::User(Arc::from(name)),
            issued_before: at(issued_before),
            until: at(until),
        }
    }

    #[test]
    fn revoked_token_is_covered_until_it_would_have_expired() {
        let table = RevocationTable::default();
        table.add(token("ann", 100), moment(0), 10).unwrap();
        assert!(table.covers_at(&issued("ann", None), moment(99)));
        assert!(!table.covers_at(&issued("ann", None), moment(100)));
        assert!(!table.covers_at(&issued("bob", None), moment(0)));
    }

    #[test]
    fn older_tokens_of_a_user_are_covered_and_newer_ones_are_not() {
        let table = RevocationTable::default();
        table.add(user("ann", 50, 100), moment(0), 10).unwrap();
        assert!(table.covers_at(&issued("ann", Some(49)), moment(60)));
        assert!(!table.covers_at(&issued("ann", Some(50)), moment(60)));
        assert!(table.covers_at(&issued("ann", None), moment(60)));
        assert!(!table.covers_at(&issued("bob", Some(1)), moment(60)));
        assert!(!table.covers_at(&Identity::trusted("ann"), moment(60)));
    }

    #[test]
    fn table_is_bounded_and_sweeps_ended_entries() {
        let table = RevocationTable::default();
        for n in 0..10 {
            table
                .add(token(&n.to_string(), 100), moment(0), 10)
                .unwrap();
        }
        assert_eq!(table.sweep(moment(99)), (Vec::new(), 10));
        let one_more = token("one more", 200);
        let error = table.add(one_more.clone(), moment(99), 10).unwrap_err();
        assert_eq!(error.code(), crate::error::Code::ResourceExhausted);
        // The other kind has its own limit, and an existing entry can be extended.
        table.add(user("ann", 50, 100), moment(99), 10).unwrap();
        table.add(token("1", 150), moment(99), 10).unwrap();
        let (ended, left) = table.sweep(moment(100));
        assert_eq!((ended.len(), left), (10, 1));
        assert!(ended.contains(&user("ann", 50, 100)));
        assert_eq!(table.sweep(moment(150)), (vec![token("1", 150)], 0));
    }

    #[test]
    fn loaded_entries_outlive_a_clock_that_starts_ahead() {
        let table = RevocationTable::default();
        let ahead = Moment {
            wall: at(1_000_000),
            up: Duration::ZERO,
        };
        table.load(vec![token("ann", 100), user("bob", 50, 100)], ahead);
        assert_eq!(table.sweep(ahead), (Vec::new(), 2));
        let right = moment(60);
        assert!(table.covers_at(&issued("ann", None), right));
        assert!(table.covers_at(&issued("bob", Some(-1_000_000)), right));
        let later = Moment {
            wall: at(1_000_000),
            up: KEPT_AFTER_START,
        };
        assert_eq!(table.sweep(later).1, 0);
    }

    #[test]
    fn temporarily_fast_clock_ends_no_entry() {
        let revocations = RevocationTable::default();
        revocations.add(token("ann", 100), moment(0), 10).unwrap();
        let ahead = Moment {
            wall: at(1_000_000),
            up: Duration::from_micros(10),
        };
        assert_eq!(revocations.sweep(ahead).1, 1);
        assert!(revocations.covers_at(&issued("ann", None), moment(20)));
        // A clock that is behind does not keep it covered forever either.
        let behind = Moment {
            wall: at(-1_000_000),
            up: Duration::from_micros(200),
        };
        assert!(revocations.covers_at(&issued("ann", None), behind));
        assert_eq!(revocations.sweep(moment(200)).1, 0);
    }

    #[test]
    fn user_revoked_by_a_wrong_clock_is_not_locked_out() {
        const DAY: i64 = 86_400_000_000;
        let hour = Duration::from_hours(1);
        let on = |wall: i64, up: Duration| Moment { wall: at(wall), up };
        for wrong in [30 * DAY, -30 * DAY] {
            let revocations = RevocationTable::default();
            let what = user("ann", 100 * DAY + wrong, i64::MAX);
            let then = on(100 * DAY + wrong, hour);
            revocations.add(what, then, 10).unwrap();
            // An hour later the clock is right again.
            let now = on(100 * DAY + 3_600_000_000, hour * 2);
            let old = issued("ann", Some(100 * DAY - 1));
            let new = issued("ann", Some(100 * DAY + 1));
            assert!(revocations.covers_at(&old, now), "{wrong}");
            assert!(!revocations.covers_at(&new, now), "{wrong}");
        }
    }
}
