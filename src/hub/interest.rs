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
    meter: RateMeter,
}

/// How many events were published in the current window of ten seconds and in the one before. Two
/// publishers that begin a window at once may lose a few events of the count; no one waits.
#[derive(Debug, Default)]
struct RateMeter {
    window: AtomicU32,
    current: AtomicU32,
    previous: AtomicU32,
    /// When the last event was published, in seconds since the table was made, plus one; 0 for never.
    last: AtomicU32,
}

/// The length of a window, in seconds.
const WINDOW: u32 = 10;

impl RateMeter {
    fn count(&self, second: u32) {
        let window = second / WINDOW;
        let before = self.window.load(Ordering::Relaxed);
        if before != window {
            let current = self.current.swap(0, Ordering::Relaxed);
            let follows = before + 1 == window;
            self.previous
                .store(if follows { current } else { 0 }, Ordering::Relaxed);
            self.window.store(window, Ordering::Relaxed);
        }
        self.current.fetch_add(1, Ordering::Relaxed);
        if self.last.load(Ordering::Relaxed) != second + 1 {
            self.last.store(second + 1, Ordering::Relaxed);
        }
    }

    /// Events per second, over the last ten seconds.
    fn rate(&self, second: u32) -> f64 {
        let (window, current) = (
            self.window.load(Ordering::Relaxed),
            f64::from(self.current.load(Ordering::Relaxed)),
        );
        let (now, passed) = (second / WINDOW, f64::from(second % WINDOW + 1));
        let rest = f64::from(WINDOW) - passed;
        let weighted = match now.saturating_sub(window) {
            0 => {
                current
                    + f64::from(self.previous.load(Ordering::Relaxed)) * rest / f64::from(WINDOW)
            }
            1 => current * rest / f64::from(WINDOW),
            _ => 0.0,
        };
        weighted / f64::from(WINDOW)
    }
}

/// What was published to a channel with subscribers, on this node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activity {
    /// Events per second, over the last ten seconds.
    pub rate: f64,
    /// How many seconds ago the last event was published; `None` if there was none since the channel
    /// has subscribers.
    pub idle_seconds: Option<u32>,
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

    /// Adds a subscription; true if it is the first on this node.
    pub fn joined(&self) -> bool {
        self.subscriptions.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// Removes a subscription; true if it was the last on this node.
    pub fn left(&self) -> bool {
        self.subscriptions.fetch_sub(1, Ordering::Relaxed) == 1
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
    /// Seconds since the table was made. Set about once a second, so that publishers read no clock.
    second: AtomicU32,
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
            second: AtomicU32::new(0),
        }
    }

    /// So many seconds have passed since the table was made. Called about once a second.
    pub fn set_second(&self, second: u32) {
        self.second.store(second, Ordering::Relaxed);
    }

    /// What was published to exactly this channel; `None` where it has no subscribers.
    #[must_use]
    pub fn activity(&self, channel: &ChannelName) -> Option<Activity> {
        let stripe = self
            .stripe(channel)
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let meter = &stripe.get(channel)?.meter;
        let second = self.second.load(Ordering::Relaxed);
        let last = meter.last.load(Ordering::Relaxed).checked_sub(1);
        Some(Activity {
            rate: meter.rate(second),
            idle_seconds: last.map(|last| second.saturating_sub(last)),
        })
    }

    fn stripe(&self, channel: &ChannelName) -> &Stripe {
        let at = usize::try_from(self.hasher.hash_one(channel) % 64).unwrap_or(0);
        match self.exact.get(at).or_else(|| self.exact.first()) {
            Some(stripe) => stripe,
            None => unreachable!("there are always {STRIPES} stripes"),
        }
    }

    /// As [`InterestTable::find`], for an event that is published: it counts for the channel's rate.
    #[must_use]
    pub fn find_for_event(&self, channel: &ChannelName) -> (u64, u64) {
        self.look_up(channel, |route| {
            route.meter.count(self.second.load(Ordering::Relaxed));
        })
    }

    /// The shards to which an event of this channel goes, and the channel's subscriptions.
    #[must_use]
    pub fn find(&self, channel: &ChannelName) -> (u64, u64) {
        self.look_up(channel, |_| ())
    }

    fn look_up(&self, channel: &ChannelName, found: impl FnOnce(&Interest)) -> (u64, u64) {
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
            found(route);
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
