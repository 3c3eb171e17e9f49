//! Idempotency keys: the publishes of the last five minutes.
//!
//! A key is scoped to one channel and one publisher. Tables store digests, so every key takes the
//! same memory, whatever its length. [`KeyShares`] limits the total number.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::digest::{Context, SHA256};

use super::{Bounds, Receipt};
use crate::error::{Error, Result};
use crate::event::{ChannelName, IdempotencyKey};
use crate::telemetry::Metrics;

/// How long an idempotency key is kept.
pub(super) const KEY_TTL: Duration = Duration::from_mins(5);
/// A publisher other than a service may hold this fraction (1/n) of the keys that are free to it.
const USERS_SHARE: usize = 8;
/// When a publisher whose key was refused may retry.
const RETRY: Duration = Duration::from_secs(10);

/// The first half of a SHA-256 digest, for which second preimages are infeasible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Digest([u8; 16]);

impl Digest {
    /// The digest of several strings. Each is preceded by its length, so that different lists never
    /// have equal input.
    fn of(texts: &[&str]) -> Self {
        let mut context = Context::new(&SHA256);
        for text in texts {
            let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
            context.update(&length.to_le_bytes());
            context.update(text.as_bytes());
        }
        let whole = context.finish();
        Digest(whole.as_ref().first_chunk().copied().unwrap_or_default())
    }
}

/// A key within its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ScopedKey {
    /// The digest of channel, publisher and key.
    whole: Digest,
    /// The digest of channel and key, as in records of versions that stored no publisher.
    unowned: Digest,
    /// The digest of the publisher.
    publisher: Digest,
    is_of_service: bool,
}

impl ScopedKey {
    /// A publisher's key in a channel.
    pub(super) fn new(channel: &ChannelName, key: &IdempotencyKey) -> Self {
        ScopedKey {
            whole: Digest::of(&[channel.as_str(), &key.publisher, &key.key]),
            unowned: Digest::of(&[channel.as_str(), "", &key.key]),
            publisher: Digest::of(&[&key.publisher]),
            is_of_service: key.is_of_service(),
        }
    }

    /// The digest of channel, publisher and key, as text.
    pub(super) fn digest(&self) -> String {
        use std::fmt::Write;
        let Digest(bytes) = self.whole;
        bytes.iter().fold(String::new(), |mut text, byte| {
            // Cannot fail: a string grows as needed.
            write!(text, "{byte:02x}").unwrap_or_default();
            text
        })
    }
}

impl ScopedKey {
    /// Which of so many tables has it.
    pub(super) fn stripe(&self, stripes: usize) -> usize {
        usize::from(self.whole.0[0]) % stripes
    }
}

/// Keys and their receipts, by a clock of the owner's choice. Keys must be inserted in order of
/// expiry.
pub(super) struct KeyTable<T> {
    receipts: HashMap<Digest, Receipt>,
    expiry: VecDeque<(T, Digest, KeyShare)>,
    /// Keys without a known publisher, restored from records of an earlier version.
    unowned: usize,
}

impl<T> Default for KeyTable<T> {
    fn default() -> Self {
        KeyTable {
            receipts: HashMap::new(),
            expiry: VecDeque::new(),
            unowned: 0,
        }
    }
}

impl<T: Copy + PartialOrd> KeyTable<T> {
    /// The receipt of a repeat. `None` if the key is new.
    pub(super) fn repeat(&self, key: &ScopedKey) -> Option<Receipt> {
        let mut first = self.receipts.get(&key.whole);
        if self.unowned > 0 {
            first = first.or_else(|| self.receipts.get(&key.unowned));
        }
        Some(Receipt {
            duplicate: true,
            ..*first?
        })
    }

    /// Keeps a key until `expires`.
    pub(super) fn insert(
        &mut self,
        key: &ScopedKey,
        share: KeyShare,
        receipt: Receipt,
        expires: T,
    ) {
        self.unowned += usize::from(key.whole == key.unowned);
        self.expiry.push_back((expires, key.whole, share));
        self.receipts.insert(key.whole, receipt);
    }

    /// The number of keys.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.receipts.len()
    }

    /// Removes expired keys.
    pub(super) fn forget(&mut self, now: T) {
        while self.expiry.front().is_some_and(|(at, ..)| *at <= now) {
            if let Some((_, key, share)) = self.expiry.pop_front() {
                self.receipts.remove(&key);
                if self.unowned > 0 && share.is_unowned() {
                    self.unowned -= 1;
                }
            }
        }
        if self.expiry.is_empty() {
            self.receipts.shrink_to_fit();
            self.expiry.shrink_to_fit();
        }
    }
}

/// The number of keys of each publisher, over all tables of a broker.
///
/// A publisher may hold up to `per_publisher` keys, and at most a share of the free ones. A service
/// may use all free keys, up to half of the table. All other publishers together have the other
/// half, and each may use at most an eighth of what is free there. Hence, they cannot exhaust the
/// services' half, and a single one leaves most of theirs to the others.
pub(super) struct KeyShares {
    total: usize,
    per_publisher: usize,
    held: Mutex<Held>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Held {
    total: usize,
    /// Keys of publishers other than services.
    users: usize,
    by_publisher: HashMap<Digest, usize>,
}

impl KeyShares {
    /// No keys.
    pub(super) fn new(bounds: Bounds, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(KeyShares {
            total: bounds.keys,
            per_publisher: bounds.keys_per_publisher,
            held: Mutex::default(),
            metrics,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves space for one more key.
    ///
    /// # Errors
    /// `resource_exhausted`, with the limit's name.
    pub(super) fn take(self: &Arc<Self>, key: &ScopedKey) -> Result<KeyShare> {
        let held = self.lock();
        let own = held.by_publisher.get(&key.publisher).copied();
        let own = own.unwrap_or_default();
        let name = if own >= self.per_publisher {
            "idempotency_keys_per_publisher"
        } else if own >= self.share(&held, key) {
            "idempotency_keys"
        } else {
            return Ok(self.add(held, key));
        };
        drop(held);
        self.metrics.limit_reached(name);
        let text = format!("too many idempotency keys within five minutes (limits.{name})");
        Err(Error::exhausted(text).retry_after(RETRY))
    }

    /// Reserves space for a key that an earlier process stored. It counts, and is never refused.
    pub(super) fn restore(self: &Arc<Self>, key: &ScopedKey) -> KeyShare {
        self.add(self.lock(), key)
    }

    /// The current limit of the publisher. Zero if nothing is free.
    fn share(&self, held: &Held, key: &ScopedKey) -> usize {
        let free = self.total.saturating_sub(held.total);
        if key.is_of_service {
            return free;
        }
        let half = self.total.div_ceil(2);
        half.saturating_sub(held.users)
            .min(free)
            .div_ceil(USERS_SHARE)
    }

    fn add(self: &Arc<Self>, mut held: MutexGuard<'_, Held>, key: &ScopedKey) -> KeyShare {
        held.total += 1;
        held.users += usize::from(!key.is_of_service);
        *held.by_publisher.entry(key.publisher).or_default() += 1;
        self.metrics.idempotency_keys(held.total);
        KeyShare {
            shares: Arc::clone(self),
            publisher: key.publisher,
            is_of_service: key.is_of_service,
        }
    }

    fn give_back(&self, publisher: Digest, is_of_service: bool) {
        let mut held = self.lock();
        held.total = held.total.saturating_sub(1);
        held.users = held.users.saturating_sub(usize::from(!is_of_service));
        if let Some(own) = held.by_publisher.get_mut(&publisher) {
            *own -= 1;
            if *own == 0 {
                held.by_publisher.remove(&publisher);
            }
        }
        if held.by_publisher.is_empty() {
            held.by_publisher.shrink_to_fit();
        }
        self.metrics.idempotency_keys(held.total);
    }
}

/// A reserved key of a publisher, released on drop.
pub(super) struct KeyShare {
    shares: Arc<KeyShares>,
    publisher: Digest,
    is_of_service: bool,
}

impl KeyShare {
    fn is_unowned(&self) -> bool {
        self.publisher == Digest::of(&[""])
    }
}

impl Drop for KeyShare {
    fn drop(&mut self) {
        self.shares.give_back(self.publisher, self.is_of_service);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn shares(keys: usize, keys_per_publisher: usize) -> Arc<KeyShares> {
        let bounds = Bounds {
            keys,
            keys_per_publisher,
            ..Bounds::default()
        };
        KeyShares::new(bounds, Metrics::new("test"))
    }

    fn key(publisher: &str, key: &str) -> ScopedKey {
        let key = IdempotencyKey {
            publisher: publisher.into(),
            key: key.into(),
        };
        ScopedKey::new(&ChannelName::new("room:1").unwrap(), &key)
    }

    /// Reserves keys until one is refused. Returns their number and the error.
    fn fill(shares: &Arc<KeyShares>, publisher: &str, held: &mut Vec<KeyShare>) -> (usize, String) {
        let before = held.len();
        loop {
            match shares.take(&key(publisher, "k")) {
                Ok(share) => held.push(share),
                Err(error) => return (held.len() - before, error.message()),
            }
        }
    }

    #[test]
    fn users_cannot_fill_the_table_for_services() {
        let (shares, mut held) = (shares(1000, 1000), Vec::new());
        let (first, message) = fill(&shares, "u:mallory", &mut held);
        assert_eq!(first, 56, "about an eighth of what is left of the half");
        assert!(message.ends_with("(limits.idempotency_keys)"), "{message}");
        assert!(fill(&shares, "u:ann", &mut held).0 > 40);
        for n in 0..1000 {
            fill(&shares, &format!("a:{n}"), &mut held);
        }
        assert_eq!(held.len(), 500, "whatever they are called");
        assert_eq!(fill(&shares, "s:billing", &mut held).0, 250);
        assert!(fill(&shares, "c:shop", &mut held).0 > 100);
        held.clear();
        assert_eq!(fill(&shares, "s:billing", &mut held).0, 500, "given back");
    }

    #[test]
    fn publisher_is_limited_to_its_share() {
        let (shares, mut held) = (shares(1000, 10), Vec::new());
        let (took, message) = fill(&shares, "u:mallory", &mut held);
        assert_eq!(took, 10);
        assert!(
            message.ends_with("(limits.idempotency_keys_per_publisher)"),
            "{message}"
        );
        assert_eq!(fill(&shares, "s:billing", &mut held).0, 10);
    }

    #[test]
    fn expired_key_releases_its_entry() {
        let (shares, mut table) = (shares(100, 2), KeyTable::default());
        let receipt = Receipt {
            id: Uuid::nil(),
            position: None,
            subscribers: 0,
            duplicate: false,
        };
        for (n, name) in ["a", "b"].into_iter().enumerate() {
            let key = key("u:ann", name);
            let share = shares.take(&key).unwrap();
            table.insert(&key, share, receipt, n);
        }
        assert!(shares.take(&key("u:ann", "c")).is_err());
        table.forget(0);
        assert!(table.repeat(&key("u:ann", "a")).is_none());
        assert!(table.repeat(&key("u:ann", "b")).is_some());
        assert!(shares.take(&key("u:ann", "c")).is_ok());
    }

    proptest! {
        #[test]
        fn differently_split_texts_have_other_digests(
            publisher in "[a-z\\x00 :]{0,6}", name in "[a-z\\x00 :]{1,6}", cut in 0_usize..12,
        ) {
            let whole = format!("{publisher}{name}");
            let (left, right) = whole.split_at(cut.min(whole.len()));
            prop_assert_eq!(
                key(&publisher, &name) == key(left, right),
                (publisher.as_str(), name.as_str()) == (left, right)
            );
        }
    }
}
