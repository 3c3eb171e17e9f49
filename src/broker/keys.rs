//! Idempotency keys: which publishes were answered within the last five minutes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Receipt;
use crate::error::Error;
use crate::event::ChannelName;

/// How long an idempotency key is kept.
pub(super) const KEY_TTL: Duration = Duration::from_mins(5);

/// Keys with the receipts that stand for them, by a clock of the owner's choice. Keys are entered
/// in the order in which they expire.
pub(super) struct KeyTable<T> {
    receipts: HashMap<(ChannelName, Arc<str>), Receipt>,
    expiry: VecDeque<(T, ChannelName, Arc<str>)>,
}

impl<T> Default for KeyTable<T> {
    fn default() -> Self {
        KeyTable {
            receipts: HashMap::new(),
            expiry: VecDeque::new(),
        }
    }
}

impl<T: Copy + PartialOrd> KeyTable<T> {
    /// The answer to a repeat; `None` where the key is new.
    pub(super) fn repeat(&self, channel: &ChannelName, key: &Arc<str>) -> Option<Receipt> {
        let first = self.receipts.get(&(channel.clone(), Arc::clone(key)))?;
        Some(Receipt {
            duplicate: true,
            ..*first
        })
    }

    /// Keeps a key until `expires`.
    pub(super) fn insert(
        &mut self,
        channel: ChannelName,
        key: Arc<str>,
        receipt: Receipt,
        expires: T,
    ) {
        self.expiry
            .push_back((expires, channel.clone(), Arc::clone(&key)));
        self.receipts.insert((channel, key), receipt);
    }

    /// Forgets the keys that have expired; answers how many.
    pub(super) fn forget(&mut self, now: T) -> usize {
        let before = self.expiry.len();
        while self.expiry.front().is_some_and(|(at, ..)| *at <= now) {
            if let Some((_, channel, key)) = self.expiry.pop_front() {
                self.receipts.remove(&(channel, key));
            }
        }
        before - self.expiry.len()
    }

    /// How many keys are kept.
    pub(super) fn len(&self) -> usize {
        self.expiry.len()
    }
}

/// The refusal of a key beyond the bound.
pub(super) fn too_many_keys() -> Error {
    Error::exhausted("too many idempotency keys within five minutes")
        .retry_after(Duration::from_secs(10))
}
