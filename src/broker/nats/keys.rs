//! Idempotency keys on this node: those of the logs that it appends to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::broker::keys::{KEY_TTL, KeyShares, KeyTable, ScopedKey};
use crate::broker::{Bounds, Receipt};
use crate::error::Result;
use crate::telemetry::Metrics;

const STRIPES: usize = 16;

/// The keys of the last five minutes.
pub(in crate::broker) struct Keys {
    stripes: [Mutex<KeyTable<u64>>; STRIPES],
    shares: Arc<KeyShares>,
}

impl Keys {
    /// No keys.
    pub(super) fn new(bounds: Bounds, metrics: Arc<Metrics>) -> Self {
        Keys {
            stripes: std::array::from_fn(|_| Mutex::default()),
            shares: KeyShares::new(bounds, metrics),
        }
    }

    fn stripe(&self, key: &ScopedKey) -> MutexGuard<'_, KeyTable<u64>> {
        let at = key.stripe(STRIPES);
        let stripe = self.stripes.get(at).unwrap_or(&self.stripes[0]);
        stripe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to an event with this key if it is not to be appended: the receipt of the first,
    /// or a refusal because there are too many keys.
    pub(super) fn answer(&self, key: &ScopedKey, now: u64) -> Option<Result<Receipt>> {
        let mut table = self.stripe(key);
        table.forget(now);
        if let Some(receipt) = table.repeat(key) {
            return Some(Ok(receipt));
        }
        drop(table);
        // Reserved for a moment only. It is kept when the event has its position.
        self.shares.take(key).err().map(Err)
    }

    /// Keeps the key of an event that was appended at this time.
    pub(super) fn insert(&self, key: &ScopedKey, receipt: Receipt, at: u64) {
        let share = self.shares.restore(key);
        let mut table = self.stripe(key);
        if table.repeat(key).is_none() {
            let ttl = u64::try_from(KEY_TTL.as_millis()).unwrap_or(u64::MAX);
            table.insert(key, share, receipt, at.saturating_add(ttl));
        }
    }

    /// The number of keys of each publisher.
    pub(super) fn shares(&self) -> Arc<KeyShares> {
        Arc::clone(&self.shares)
    }

    /// Removes expired keys.
    pub(super) fn sweep(&self, now: u64) {
        for stripe in &self.stripes {
            let mut table = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            table.forget(now);
        }
    }
}
