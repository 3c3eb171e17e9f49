//! The broker that keeps channels in memory.

mod budget;
mod channel;
mod eviction;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::keys::{KEY_TTL, KeyShares, KeyTable, ScopedKey};
use super::{Broker, ChannelUsage, Kept, Page, Range, Receipt, Sink};
use crate::error::Result;
use crate::event::{ChannelName, Draft, Event, HistoryPolicy, Namespaces};
use crate::maybe_ready::MaybeReady;
use crate::telemetry::Metrics;
use budget::{Budget, Shelf};
use channel::Channel;

/// How long a channel that was only read is kept.
const NEVER_USED: Duration = Duration::from_mins(1);
/// Channels are sharded over this many locks, so that publishers to different channels rarely
/// contend.
const STRIPES: usize = 64;
/// Stripes per sweep: all of them every eight sweeps.
const STRIPES_A_SWEEP: usize = 8;
/// The approximate limit of history bytes that one sweep frees when there are too many.
const SWEPT_BYTES: usize = 16 * 1024 * 1024;

/// Limits of a [`Memory`] broker.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The most channels.
    pub channels: usize,
    /// The most idempotency keys.
    pub keys: usize,
    /// The most idempotency keys of one publisher.
    pub keys_per_publisher: usize,
    /// The most bytes of channels and history in memory. Does not apply to history on disk.
    pub memory_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            channels: 1_000_000,
            keys: 1_000_000,
            keys_per_publisher: 500_000,
            memory_bytes: usize::MAX,
        }
    }
}

/// Channels in memory. Every process starts new epochs.
pub struct Memory {
    stripes: Box<[Mutex<Stripe>]>,
    hasher: RandomState,
    namespaces: Arc<ArcSwap<Namespaces>>,
    sink: Weak<dyn Sink>,
    metrics: Arc<Metrics>,
    bounds: Bounds,
    budget: Budget,
    channels: AtomicUsize,
    keys: Arc<KeyShares>,
    next_sweep: AtomicUsize,
}

/// The state behind one lock.
#[derive(Default)]
struct Stripe {
    channels: HashMap<ChannelName, Channel>,
    keys: KeyTable<Instant>,
    shelf: Shelf,
}

impl Memory {
    /// A broker without channels. It holds the sink weakly, because the sink holds the broker.
    #[must_use]
    pub fn new(
        namespaces: Arc<ArcSwap<Namespaces>>,
        sink: Weak<dyn Sink>,
        metrics: Arc<Metrics>,
        bounds: Bounds,
    ) -> Self {
        let keys = KeyShares::new(bounds, Arc::clone(&metrics));
        Self::sharing_keys(namespaces, sink, metrics, bounds, keys)
    }

    /// The same for a broker that also stores idempotency keys elsewhere. `keys` counts all of
    /// them.
    pub(super) fn sharing_keys(
        namespaces: Arc<ArcSwap<Namespaces>>,
        sink: Weak<dyn Sink>,
        metrics: Arc<Metrics>,
        bounds: Bounds,
        keys: Arc<KeyShares>,
    ) -> Self {
        Memory {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            namespaces,
            sink,
            budget: Budget::new(bounds.memory_bytes, Arc::clone(&metrics)),
            metrics,
            bounds,
            channels: AtomicUsize::new(0),
            keys,
            next_sweep: AtomicUsize::new(0),
        }
    }

    /// The index of the channel's stripe.
    fn place(&self, channel: &ChannelName) -> usize {
        let hash = self.hasher.hash_one(channel);
        usize::try_from(hash % 64).unwrap_or(0)
    }

    fn stripe(&self, channel: &ChannelName) -> MutexGuard<'_, Stripe> {
        self.stripe_at(self.place(channel))
    }

    fn stripe_at(&self, place: usize) -> MutexGuard<'_, Stripe> {
        let stripe = self.stripes.get(place).or_else(|| self.stripes.first());
        match stripe {
            Some(stripe) => stripe.lock().unwrap_or_else(PoisonError::into_inner),
            None => unreachable!("there are always {STRIPES} stripes"),
        }
    }

    /// Publishes an event that is not stored: to a channel without history, or directly to its
    /// audience. Preserves the channel's order, and checks idempotency keys.
    ///
    /// # Errors
    /// `resource_exhausted` if there are too many keys.
    pub(super) fn publish_unkept(&self, draft: Draft) -> Result<Receipt> {
        self.publish_by(HistoryPolicy::NONE, draft)
    }

    fn publish_now(&self, draft: Draft) -> Result<Receipt> {
        let policy = match &draft.channel {
            Some(channel) => self.namespaces.load().of(channel).history,
            None => HistoryPolicy::NONE,
        };
        self.publish_by(policy, draft)
    }

    fn publish_by(&self, policy: HistoryPolicy, mut draft: Draft) -> Result<Receipt> {
        let key = draft.idempotency_key.take();
        let Some(channel) = draft.channel.clone() else {
            return Ok(self.publish_direct(draft));
        };
        let now = Instant::now();
        let place = self.place(&channel);
        let mut stripe = self.stripe_at(place);
        let mut share = None;
        if let Some(key) = key {
            let key = ScopedKey::new(&channel, &key);
            stripe.keys.forget(now);
            if let Some(receipt) = stripe.keys.repeat(&key) {
                return Ok(receipt);
            }
            share = Some((key, self.keys.take(&key)?));
        }
        let (id, accepted) = (draft.id, draft.accepted);
        let (event, position, left) = if policy.size == 0 {
            // The first event without an offset ends the epoch, so that an earlier position never
            // appears to be complete.
            let left = self.forget(&mut stripe, place, &channel);
            (Arc::new(Event::new(draft, None)), None, left)
        } else {
            self.append(&mut stripe, place, draft, policy, now)?
        };
        if position.is_some() {
            self.metrics.publish_commit(accepted);
        }
        let event_bytes = event.weight();
        // Still under the channel's lock, so that the order of offsets is the order of delivery.
        let subscribers = self.sink.upgrade().map_or(0, |sink| sink.deliver(event));
        let receipt = Receipt {
            id,
            position,
            subscribers,
            duplicate: false,
        };
        if let Some((key, share)) = share {
            stripe.keys.insert(&key, share, receipt, now + KEY_TTL);
        }
        drop(stripe);
        drop(left);
        if position.is_some() {
            self.make_room(event_bytes);
        }
        Ok(receipt)
    }

    fn publish_direct(&self, draft: Draft) -> Receipt {
        let id = draft.id;
        let event = Arc::new(Event::new(draft, None));
        let subscribers = self.sink.upgrade().map_or(0, |sink| sink.deliver(event));
        Receipt {
            id,
            position: None,
            subscribers,
            duplicate: false,
        }
    }

    fn read_now(&self, channel: &ChannelName, range: Range) -> Result<Option<Page>> {
        let policy = self.namespaces.load().of(channel).history;
        if policy.size == 0 {
            return Ok(None);
        }
        let now = Instant::now();
        let place = self.place(channel);
        let mut stripe = self.stripe_at(place);
        let kept = self.kept(&mut stripe, channel, now)?;
        let trimmed = kept.trim(policy, now);
        let page = kept.page(range).within(range.bytes);
        self.budget.trimmed(&trimmed);
        let classes = kept.reclass();
        stripe.shelf.move_to(channel, classes, &self.budget, place);
        drop(stripe);
        Ok(Some(page))
    }
}

impl Broker for Memory {
    fn publish(&self, draft: Draft) -> MaybeReady<Receipt> {
        MaybeReady::Ready(self.publish_now(draft))
    }

    fn read(&self, channel: &ChannelName, range: Range) -> MaybeReady<Option<Page>> {
        MaybeReady::Ready(self.read_now(channel, range))
    }

    fn exists(&self, channel: &ChannelName) -> bool {
        self.namespaces.load().of(channel).history.size == 0
            || self.stripe(channel).channels.contains_key(channel)
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> MaybeReady<Vec<Kept>> {
        let mut found: Vec<Kept> = Vec::new();
        for stripe in &self.stripes {
            let stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            found.extend(stripe.channels.iter().filter_map(|(name, kept)| {
                let name_text = name.as_str();
                (name_text.starts_with(prefix) && name_text > after).then(|| Kept {
                    channel: name.clone(),
                    top: kept.top(),
                })
            }));
            // Bounded for any number of channels: only the first `limit` can be returned.
            if found.len() > limit.saturating_mul(4) {
                found.sort_unstable_by(|a, b| a.channel.cmp(&b.channel));
                found.truncate(limit);
            }
        }
        found.sort_unstable_by(|a, b| a.channel.cmp(&b.channel));
        found.truncate(limit);
        MaybeReady::ok(found)
    }

    fn usage(&self, channel: &ChannelName) -> MaybeReady<Option<ChannelUsage>> {
        let stripe = self.stripe(channel);
        let kept = stripe.channels.get(channel);
        MaybeReady::ok(kept.map(|kept| kept.usage(Instant::now())))
    }

    fn sweep(&self) {
        let namespaces = self.namespaces.load();
        let sink = self.sink.upgrade();
        let now = Instant::now();
        let start = self
            .next_sweep
            .fetch_add(STRIPES_A_SWEEP, Ordering::Relaxed);
        for at in start..start.wrapping_add(STRIPES_A_SWEEP) {
            let Some(stripe) = self.stripes.get(at % STRIPES) else {
                continue;
            };
            let mut stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            stripe.keys.forget(now);
            let trimmed = self.sweep_channels(&mut stripe, at % STRIPES, |name, kept| {
                let namespace = namespaces.of(name);
                let trimmed = kept.trim(namespace.history, now);
                // A channel that never had an event has nothing to resume from.
                let patience = if kept.is_new() {
                    namespace.max_idle.min(NEVER_USED)
                } else {
                    namespace.max_idle
                };
                let idle = kept.is_empty() && now - kept.used >= patience;
                let stays = !idle || sink.as_ref().is_some_and(|sink| sink.is_followed(name));
                (trimmed, stays)
            });
            drop(stripe);
            drop(trimmed);
        }
        // Evict what publishers have left over the budget.
        self.make_room(SWEPT_BYTES);
    }
}
