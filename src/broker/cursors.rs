//! Cursors of durable subscriptions: how far a user has acknowledged a channel.
//!
//! A cursor outlives connections and restarts. It belongs to a user, a subscription name that the
//! client chooses, and a channel. It is kept as long as the history that it points into: a store or
//! an engine implements [`CursorStore`], and [`MemoryCursors`] goes with history in memory.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::error::{Error, Result};
use crate::event::{ChannelName, Position, Timestamp};
use crate::maybe_ready::MaybeReady;
use crate::telemetry::Metrics;

/// Identifies a cursor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CursorKey {
    /// The user.
    pub user: Arc<str>,
    /// The name of the durable subscription.
    pub name: Arc<str>,
    /// The channel.
    pub channel: ChannelName,
}

impl CursorKey {
    /// The longest name of a durable subscription, in bytes.
    const MAX_NAME: usize = 64;

    /// Checks the name of a durable subscription: 1 to 64 of `A-Z a-z 0-9 _ - .`.
    ///
    /// # Errors
    /// `invalid_argument` for the field `durable`.
    pub fn check_name(name: &str) -> Result<()> {
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if (1..=Self::MAX_NAME).contains(&name.len()) && name.bytes().all(known) {
            return Ok(());
        }
        let expected = "expected a name of 1 to 64 of A-Z a-z 0-9 _ - .";
        Err(Error::field("durable", expected))
    }
}

/// A cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The acknowledged position.
    pub position: Position,
    /// When it was last moved or used.
    pub used_at: Timestamp,
}

/// Which cursors to list.
#[derive(Debug, Clone, Default)]
pub struct CursorQuery {
    /// Only of this channel.
    pub channel: Option<ChannelName>,
    /// Only of this user.
    pub user: Option<Arc<str>>,
    /// Only of durable subscriptions with this name.
    pub name: Option<Arc<str>>,
    /// Only after this one, in the order of user, name and channel.
    pub after: Option<CursorKey>,
    /// The most cursors.
    pub limit: usize,
}

impl CursorQuery {
    /// True if all conditions but `after` hold.
    #[must_use]
    pub fn takes(&self, key: &CursorKey) -> bool {
        self.channel
            .as_ref()
            .is_none_or(|channel| *channel == key.channel)
            && self.user.as_ref().is_none_or(|user| *user == key.user)
            && self.name.as_ref().is_none_or(|name| *name == key.name)
    }
}

/// Stores cursors beside the history that they point into.
pub trait CursorStore: Send + Sync {
    /// A cursor. `None` if there is none.
    fn get(&self, key: &CursorKey) -> MaybeReady<Option<Cursor>>;

    /// Creates a cursor, or moves it. Within an epoch it moves only forward; a position of another
    /// epoch replaces it. Later reads return it at once; a crash may lose the newest moves, so that
    /// events are delivered again.
    ///
    /// # Errors
    /// `resource_exhausted` if it would be one more than a user or the store may have.
    fn set(&self, key: &CursorKey, position: Position) -> MaybeReady<()>;

    /// The same without waiting, of a cursor that exists: its limits do not matter. If it fails, the
    /// cursor stays where it is.
    fn set_later(&self, key: &CursorKey, position: Position);

    /// Some cursors, in the order of user, name and channel.
    fn list(&self, query: &CursorQuery) -> MaybeReady<Vec<(CursorKey, Cursor)>>;

    /// Removes a user's cursors: those of one channel, or all. Returns how many.
    fn forget(&self, user: &str, channel: Option<&ChannelName>) -> MaybeReady<u64>;

    /// Removes some of the cursors that were not used for too long. Called about once per second; a
    /// store that removes them by itself does nothing.
    fn sweep(&self) {}
}

/// Completes a move of a cursor that nobody waits for.
pub(crate) fn move_in_background(runtime: &Handle, set: MaybeReady<()>) {
    runtime.spawn(async move {
        if let Err(error) = set.await {
            tracing::warn!(%error, "the cursor of a durable subscription was not moved");
        }
    });
}

/// Limits of cursors.
#[derive(Debug, Clone, Copy)]
pub struct CursorBounds {
    /// The most cursors of one user.
    pub per_user: usize,
    /// The most cursors in all.
    pub total: usize,
    /// How long a cursor is kept that is neither moved nor used.
    pub ttl: Duration,
}

impl Default for CursorBounds {
    fn default() -> Self {
        CursorBounds {
            per_user: 100,
            total: 100_000,
            ttl: Duration::from_hours(24 * 30),
        }
    }
}

impl CursorBounds {
    /// The refusal of one cursor more for a user, counted.
    #[must_use]
    pub fn user_is_full(&self, metrics: &Metrics) -> Error {
        metrics.limit_reached("cursors_per_user");
        Error::exhausted("too many durable subscriptions (limits.cursors_per_user)")
    }

    /// The refusal of one cursor more for anybody, counted.
    #[must_use]
    pub fn is_full(&self, metrics: &Metrics) -> Error {
        metrics.limit_reached("cursors");
        Error::exhausted("too many durable subscriptions (limits.cursors)")
    }
}

/// Cursors in memory. They end with the process, like the history in memory.
pub struct MemoryCursors(CursorIndex);

impl MemoryCursors {
    /// Without cursors.
    #[must_use]
    pub fn new(bounds: CursorBounds, metrics: Arc<Metrics>) -> Self {
        MemoryCursors(CursorIndex::new(bounds, metrics))
    }
}

impl CursorStore for MemoryCursors {
    fn get(&self, key: &CursorKey) -> MaybeReady<Option<Cursor>> {
        MaybeReady::ok(self.0.get(key))
    }

    fn set(&self, key: &CursorKey, position: Position) -> MaybeReady<()> {
        MaybeReady::Ready(self.0.set(key, position, Timestamp::now()).map(|_| ()))
    }

    fn set_later(&self, key: &CursorKey, position: Position) {
        drop(self.0.set(key, position, Timestamp::now()));
    }

    fn list(&self, query: &CursorQuery) -> MaybeReady<Vec<(CursorKey, Cursor)>> {
        MaybeReady::ok(self.0.list(query))
    }

    fn forget(&self, user: &str, channel: Option<&ChannelName>) -> MaybeReady<u64> {
        let gone = self.0.forget(user, channel).len();
        MaybeReady::ok(u64::try_from(gone).unwrap_or(u64::MAX))
    }

    fn sweep(&self) {
        self.0.sweep(Timestamp::now());
    }
}

/// How many cursors one sweep looks at.
const SWEPT: usize = 4096;

/// All cursors in memory, for a store that writes each change through.
pub(super) struct CursorIndex {
    bounds: CursorBounds,
    metrics: Arc<Metrics>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    cursors: BTreeMap<CursorKey, Cursor>,
    /// Where the next sweep goes on.
    swept_to: Option<CursorKey>,
}

impl Held {
    fn of_user<'h>(&'h self, user: &'h Arc<str>) -> impl Iterator<Item = &'h CursorKey> {
        let first = self
            .cursors
            .range((Bound::Included(first_of(user)), Bound::Unbounded));
        first
            .map(|(key, _)| key)
            .take_while(move |key| key.user == *user)
    }
}

/// A key that comes before every key of a user.
fn first_of(user: &Arc<str>) -> CursorKey {
    CursorKey {
        user: Arc::clone(user),
        name: Arc::from(""),
        channel: ChannelName::first(),
    }
}

impl CursorIndex {
    pub(super) fn new(bounds: CursorBounds, metrics: Arc<Metrics>) -> Self {
        CursorIndex {
            bounds,
            metrics,
            held: Mutex::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a stored cursor.
    pub(super) fn restore(&self, key: CursorKey, cursor: Cursor) {
        let mut held = self.held();
        held.cursors.insert(key, cursor);
        self.metrics.cursors(held.cursors.len());
    }

    pub(super) fn get(&self, key: &CursorKey) -> Option<Cursor> {
        self.held().cursors.get(key).copied()
    }

    /// Moves or creates a cursor. Returns it as it is to be stored; `None` if it has not changed.
    pub(super) fn set(
        &self,
        key: &CursorKey,
        position: Position,
        now: Timestamp,
    ) -> Result<Option<Cursor>> {
        let mut held = self.held();
        if let Some(cursor) = held.cursors.get_mut(key) {
            let forward =
                position.epoch != cursor.position.epoch || position.offset > cursor.position.offset;
            // The time of use is stored only so often that the lifetime is right by an hour.
            let stale = now.as_micros() - cursor.used_at.as_micros() > 3_600_000_000;
            if forward {
                cursor.position = position;
            }
            if !forward && !stale {
                return Ok(None);
            }
            cursor.used_at = now;
            return Ok(Some(*cursor));
        }
        if held.of_user(&key.user).count() >= self.bounds.per_user {
            return Err(self.bounds.user_is_full(&self.metrics));
        }
        if held.cursors.len() >= self.bounds.total {
            return Err(self.bounds.is_full(&self.metrics));
        }
        let cursor = Cursor {
            position,
            used_at: now,
        };
        held.cursors.insert(key.clone(), cursor);
        self.metrics.cursors(held.cursors.len());
        Ok(Some(cursor))
    }

    pub(super) fn list(&self, query: &CursorQuery) -> Vec<(CursorKey, Cursor)> {
        let held = self.held();
        let from = match (&query.after, &query.user) {
            (Some(after), _) => Bound::Excluded(after.clone()),
            (None, Some(user)) => Bound::Included(first_of(user)),
            (None, None) => Bound::Unbounded,
        };
        let all = held.cursors.range((from, Bound::Unbounded));
        let all = all.take_while(|(key, _)| query.user.as_ref().is_none_or(|u| *u == key.user));
        let found = all.filter(|(key, _)| query.takes(key)).take(query.limit);
        found.map(|(key, cursor)| (key.clone(), *cursor)).collect()
    }

    /// Removes cursors of a user, and returns their keys.
    pub(super) fn forget(&self, user: &str, channel: Option<&ChannelName>) -> Vec<CursorKey> {
        let user: Arc<str> = user.into();
        let mut held = self.held();
        let gone: Vec<CursorKey> = held
            .of_user(&user)
            .filter(|key| channel.is_none_or(|channel| *channel == key.channel))
            .cloned()
            .collect();
        for key in &gone {
            held.cursors.remove(key);
        }
        self.metrics.cursors(held.cursors.len());
        gone
    }

    /// Removes some of the cursors that were not used for too long, and returns their keys.
    pub(super) fn sweep(&self, now: Timestamp) -> Vec<CursorKey> {
        let mut held = self.held();
        let from = held
            .swept_to
            .take()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let ttl = i64::try_from(self.bounds.ttl.as_micros()).unwrap_or(i64::MAX);
        let mut looked_at = 0;
        let (mut gone, mut last) = (Vec::new(), None);
        for (key, cursor) in held.cursors.range((from, Bound::Unbounded)).take(SWEPT) {
            looked_at += 1;
            if now.as_micros().saturating_sub(cursor.used_at.as_micros()) >= ttl {
                gone.push(key.clone());
            }
            last = Some(key);
        }
        let last = last.filter(|_| looked_at == SWEPT).cloned();
        held.swept_to = last;
        for key in &gone {
            held.cursors.remove(key);
        }
        self.metrics.cursors(held.cursors.len());
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Epoch;

    fn key(user: &str, name: &str, channel: &str) -> CursorKey {
        CursorKey {
            user: user.into(),
            name: name.into(),
            channel: ChannelName::new(channel).unwrap(),
        }
    }

    fn at(epoch: u64, offset: u64) -> Position {
        Position {
            epoch: Epoch::from_bits(epoch),
            offset,
        }
    }

    fn index() -> CursorIndex {
        let bounds = CursorBounds {
            per_user: 2,
            total: 3,
            ttl: Duration::from_secs(10),
        };
        CursorIndex::new(bounds, Metrics::new("test"))
    }

    #[test]
    fn cursor_moves_forward_within_an_epoch() {
        let (index, now) = (index(), Timestamp::from_micros(0));
        let ann = key("ann", "inbox", "a:1");
        for (position, expected) in [
            (at(1, 5), at(1, 5)),
            (at(1, 3), at(1, 5)),
            (at(1, 6), at(1, 6)),
            (at(2, 1), at(2, 1)),
        ] {
            index.set(&ann, position, now).unwrap();
            assert_eq!(index.get(&ann).unwrap().position, expected);
        }
    }

    #[test]
    fn cursors_are_bounded_per_user_and_in_all() {
        let (index, now) = (index(), Timestamp::from_micros(0));
        let set = |user, channel| index.set(&key(user, "inbox", channel), at(1, 1), now);
        set("ann", "a:1").unwrap();
        set("ann", "a:2").unwrap();
        let refused = set("ann", "a:3").unwrap_err();
        assert!(refused.message().contains("limits.cursors_per_user"));
        set("bob", "a:1").unwrap();
        let refused = set("eve", "a:1").unwrap_err();
        assert!(refused.message().contains("(limits.cursors)"));
        assert_eq!(
            index
                .forget("ann", ChannelName::new("a:1").ok().as_ref())
                .len(),
            1
        );
        set("eve", "a:1").unwrap();
    }

    #[test]
    fn list_is_paged_and_filtered() {
        let (index, now) = (index(), Timestamp::from_micros(0));
        for (user, channel) in [("ann", "a:1"), ("ann", "a:2"), ("bob", "a:1")] {
            index
                .set(&key(user, "inbox", channel), at(1, 1), now)
                .unwrap();
        }
        let users = |query: CursorQuery| -> Vec<String> {
            let found = index.list(&query).into_iter();
            found
                .map(|(key, _)| format!("{}/{}", key.user, key.channel))
                .collect()
        };
        let all = CursorQuery {
            limit: 2,
            ..CursorQuery::default()
        };
        assert_eq!(users(all.clone()), ["ann/a:1", "ann/a:2"]);
        let rest = CursorQuery {
            after: Some(key("ann", "inbox", "a:2")),
            ..all.clone()
        };
        assert_eq!(users(rest), ["bob/a:1"]);
        let of_channel = CursorQuery {
            channel: ChannelName::new("a:1").ok(),
            ..all
        };
        assert_eq!(users(of_channel), ["ann/a:1", "bob/a:1"]);
    }

    #[test]
    fn unused_cursors_are_swept() {
        let index = index();
        let ann = key("ann", "inbox", "a:1");
        index
            .set(&ann, at(1, 1), Timestamp::from_micros(0))
            .unwrap();
        assert!(index.sweep(Timestamp::from_micros(9_999_999)).is_empty());
        assert_eq!(index.sweep(Timestamp::from_micros(10_000_000)), [ann]);
    }
}
