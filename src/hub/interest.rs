//! Interest: which shards have subscribers of which channels.
//!
//! A publisher looks a channel up here to find the shards that get its event. A shard writes here
//! only when a channel gains its first subscriber on the shard or loses its last.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::sync::{AtomicBool, AtomicU32, AtomicU64, RandomState, RwLock, RwLockWriteGuard};
use crate::event::{ChannelName, ChannelPattern};

const STRIPES: usize = 64;

/// The most shards: a set of them is a 64-bit mask.
pub(super) const MAX_SHARDS: usize = 64;

/// The shards with subscribers of one channel or pattern, and the number of subscriptions.
#[derive(Debug, Default)]
pub struct Interest {
    shards: AtomicU64,
    subscriptions: AtomicU32,
    /// True if the channel counts towards the number of channels: set if no broker stores it.
    counted: AtomicBool,
}

impl Interest {
    /// Marks the channel as counted while it has subscribers; true for the first caller.
    pub fn count(&self) -> bool {
        !self.counted.swap(true, Ordering::Relaxed)
    }

    /// Whether the channel is counted while it has subscribers.
    pub fn is_counted(&self) -> bool {
        self.counted.load(Ordering::Relaxed)
    }

    /// The shards, as a bit set.
    pub fn shards(&self) -> u64 {
        self.shards.load(Ordering::Acquire)
    }

    /// Subscriptions on this node.
    pub fn subscriptions(&self) -> u64 {
        u64::from(self.subscriptions.load(Ordering::Relaxed))
    }

    /// Adds a subscription.
    pub fn joined(&self) {
        self.subscriptions.fetch_add(1, Ordering::Relaxed);
    }

    /// Removes a subscription.
    pub fn left(&self) {
        self.subscriptions.fetch_sub(1, Ordering::Relaxed);
    }
}

type Stripe = RwLock<HashMap<ChannelName, Arc<Interest>>>;

/// The interest in all channels and patterns.
#[derive(Debug)]
pub struct InterestTable {
    exact: Box<[Stripe]>,
    hasher: RandomState,
    namespaces: RwLock<HashMap<Arc<str>, Arc<Interest>>>,
    all: Arc<Interest>,
    /// How many namespaces have subscribers; publishers skip the lookup while there are none.
    wide: AtomicU32,
}

impl InterestTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        InterestTable {
            exact: (0..STRIPES).map(|_| RwLock::new(HashMap::new())).collect(),
            hasher: RandomState::default(),
            namespaces: RwLock::new(HashMap::new()),
            all: Arc::default(),
            wide: AtomicU32::new(0),
        }
    }

    fn stripe(&self, channel: &ChannelName) -> &Stripe {
        let at = usize::try_from(self.hasher.hash_one(channel) % 64).unwrap_or(0);
        match self.exact.get(at).or_else(|| self.exact.first()) {
            Some(stripe) => stripe,
            None => unreachable!("there are always {STRIPES} stripes"),
        }
    }

    /// The shards to which an event of this channel goes, and the channel's subscriptions.
    #[must_use]
    pub fn find(&self, channel: &ChannelName) -> (u64, u64) {
        let (mut shards, mut subscriptions) = (self.all.shards(), self.all.subscriptions());
        let mut add = |route: &Interest| {
            shards |= route.shards();
            subscriptions += route.subscriptions();
        };
        if let Some(route) = self
            .stripe(channel)
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(channel)
        {
            add(route);
        }
        if self.wide.load(Ordering::Acquire) > 0 {
            let namespaces = self
                .namespaces
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(route) = namespaces.get(channel.namespace()) {
                add(route);
            }
        }
        (shards, subscriptions)
    }

    /// Subscriptions to exactly this channel; `None` if there are none.
    #[must_use]
    pub fn subscriptions(&self, channel: &ChannelName) -> Option<u64> {
        let stripe = self
            .stripe(channel)
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        stripe.get(channel).map(|route| route.subscriptions())
    }

    /// Adds a shard's interest. The bit is set under the table's lock, or another shard could
    /// remove the entry between the lookup and the write.
    pub fn add(&self, pattern: &ChannelPattern, shard: usize) -> Arc<Interest> {
        let bit = 1_u64 << shard;
        match pattern {
            ChannelPattern::All => {
                self.all.shards.fetch_or(bit, Ordering::AcqRel);
                Arc::clone(&self.all)
            }
            ChannelPattern::Namespace(name) => {
                let mut routes = lock(&self.namespaces);
                if !routes.contains_key(name) {
                    self.wide.fetch_add(1, Ordering::Release);
                }
                let route = routes.entry(Arc::clone(name)).or_default();
                route.shards.fetch_or(bit, Ordering::AcqRel);
                Arc::clone(route)
            }
            ChannelPattern::Exact(channel) => {
                let mut routes = lock(self.stripe(channel));
                let route = routes.entry(channel.clone()).or_default();
                route.shards.fetch_or(bit, Ordering::AcqRel);
                Arc::clone(route)
            }
        }
    }

    /// Removes a shard's interest; returns the entry if it was the last shard's.
    pub fn remove(&self, pattern: &ChannelPattern, shard: usize) -> Option<Arc<Interest>> {
        let bit = 1_u64 << shard;
        let was_last = |route: &Interest| route.shards.fetch_and(!bit, Ordering::AcqRel) == bit;
        match pattern {
            ChannelPattern::All => {
                self.all.shards.fetch_and(!bit, Ordering::AcqRel);
                None
            }
            ChannelPattern::Namespace(name) => {
                let mut routes = lock(&self.namespaces);
                if !was_last(routes.get(name)?) {
                    return None;
                }
                self.wide.fetch_sub(1, Ordering::Release);
                routes.remove(name)
            }
            ChannelPattern::Exact(channel) => {
                let mut routes = lock(self.stripe(channel));
                if !was_last(routes.get(channel)?) {
                    return None;
                }
                routes.remove(channel)
            }
        }
    }

    /// Up to `limit` channels with subscribers whose names start with `prefix` and come after
    /// `after`, by name.
    #[must_use]
    pub fn list(&self, prefix: &str, after: &str, limit: usize) -> Vec<(ChannelName, u64)> {
        let mut found: Vec<(ChannelName, u64)> = Vec::new();
        for stripe in &self.exact {
            let stripe = stripe.read().unwrap_or_else(PoisonError::into_inner);
            let wanted = stripe
                .iter()
                .filter(|(name, _)| name.as_str().starts_with(prefix) && name.as_str() > after);
            found.extend(wanted.map(|(name, route)| (name.clone(), route.subscriptions())));
            if found.len() > limit.saturating_mul(4) {
                found.sort_unstable();
                found.truncate(limit);
            }
        }
        found.sort_unstable();
        found.truncate(limit);
        found
    }
}

fn lock<T>(table: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    table.write().unwrap_or_else(PoisonError::into_inner)
}

impl Default for InterestTable {
    fn default() -> Self {
        Self::new()
    }
}
