//! The broker that keeps channels in memory.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::keys::{KEY_TTL, KeyShares, KeyTable, ScopedKey};
use super::{Broker, Kept, Page, Range, Receipt, Sink};
use crate::error::{Error, Result};
use crate::event::{ChannelName, Draft, Epoch, Event, HistoryPolicy, Namespaces, Position};
use crate::promise::Promise;
use crate::telemetry::{FanoutSpan, Metrics};

/// How long a channel that was only looked at is kept.
const NEVER_USED: Duration = Duration::from_mins(1);
/// Channels are spread over this many locks, so that publishers to different ones rarely meet.
const STRIPES: usize = 64;
/// Stripes swept at a call: all of them every eight calls.
const STRIPES_A_SWEEP: usize = 8;

/// Bounds of a [`Memory`] broker.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The most channels kept at once.
    pub channels: usize,
    /// The most idempotency keys kept at once.
    pub keys: usize,
    /// The most of one publisher.
    pub keys_per_publisher: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            channels: 1_000_000,
            keys: 1_000_000,
            keys_per_publisher: 500_000,
        }
    }
}

/// Channels in memory: a new process starts new epochs.
pub struct Memory {
    stripes: Box<[Mutex<Stripe>]>,
    hasher: RandomState,
    namespaces: Arc<ArcSwap<Namespaces>>,
    sink: Weak<dyn Sink>,
    metrics: Arc<Metrics>,
    bounds: Bounds,
    channels: AtomicUsize,
    keys: Arc<KeyShares>,
    next_sweep: AtomicUsize,
}

/// What one lock guards.
#[derive(Default)]
struct Stripe {
    channels: HashMap<ChannelName, Channel>,
    keys: KeyTable<Instant>,
}

/// One channel's numbering and history.
struct Channel {
    epoch: Epoch,
    last: u64,
    events: VecDeque<(Instant, Arc<Event>)>,
    bytes: usize,
    used: Instant,
}

impl Memory {
    /// A broker with no channels. It holds the sink weakly, for the sink holds the broker.
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

    /// The same for a broker that keeps idempotency keys elsewhere too: `keys` counts them all.
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
            metrics,
            bounds,
            channels: AtomicUsize::new(0),
            keys,
            next_sweep: AtomicUsize::new(0),
        }
    }

    fn stripe(&self, channel: &ChannelName) -> MutexGuard<'_, Stripe> {
        let hash = self.hasher.hash_one(channel);
        let at = usize::try_from(hash % 64).unwrap_or(0);
        let stripe = self.stripes.get(at).or_else(|| self.stripes.first());
        match stripe {
            Some(stripe) => stripe.lock().unwrap_or_else(PoisonError::into_inner),
            None => unreachable!("there are always {STRIPES} stripes"),
        }
    }

    /// Publishes an event that is not kept: to a channel without history, or straight to its
    /// audience. Keeps the order of a channel, and its idempotency keys.
    ///
    /// # Errors
    /// `resource_exhausted` where there are too many keys.
    pub(super) fn publish_unkept(&self, draft: Draft, span: Option<FanoutSpan>) -> Result<Receipt> {
        self.publish_by(HistoryPolicy::NONE, draft, span)
    }

    fn publish_now(&self, draft: Draft, span: Option<FanoutSpan>) -> Result<Receipt> {
        let policy = match &draft.channel {
            Some(channel) => self.namespaces.load().of(channel).history,
            None => HistoryPolicy::NONE,
        };
        self.publish_by(policy, draft, span)
    }

    fn publish_by(
        &self,
        policy: HistoryPolicy,
        mut draft: Draft,
        span: Option<FanoutSpan>,
    ) -> Result<Receipt> {
        let key = draft.idempotency_key.take();
        let Some(channel) = draft.channel.clone() else {
            return Ok(self.publish_direct(draft, span));
        };
        let now = Instant::now();
        let mut stripe = self.stripe(&channel);
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
        let (event, position) = if policy.size == 0 {
            (Arc::new(Event::new(draft, None)), None)
        } else {
            let kept = self.kept(&mut stripe, &channel, now)?;
            kept.append(draft, policy, now)
        };
        if position.is_some() {
            self.metrics.publish_commit(accepted.elapsed());
        }
        // Still under the channel's lock: the order of offsets is the order of delivery.
        let subscribers = self
            .sink
            .upgrade()
            .map_or(0, |sink| sink.deliver(event, span));
        let receipt = Receipt {
            id,
            position,
            subscribers,
            duplicate: false,
        };
        if let Some((key, share)) = share {
            stripe.keys.insert(&key, share, receipt, now + KEY_TTL);
        }
        Ok(receipt)
    }

    fn publish_direct(&self, draft: Draft, span: Option<FanoutSpan>) -> Receipt {
        let id = draft.id;
        let event = Arc::new(Event::new(draft, None));
        let subscribers = self
            .sink
            .upgrade()
            .map_or(0, |sink| sink.deliver(event, span));
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
        let mut stripe = self.stripe(channel);
        let kept = self.kept(&mut stripe, channel, now)?;
        kept.trim(policy, now);
        Ok(Some(kept.page(range)))
    }

    /// The channel, started if it is not there.
    fn kept<'s>(
        &self,
        stripe: &'s mut Stripe,
        channel: &ChannelName,
        now: Instant,
    ) -> Result<&'s mut Channel> {
        match stripe.channels.entry(channel.clone()) {
            Entry::Occupied(entry) => {
                let kept = entry.into_mut();
                kept.used = now;
                Ok(kept)
            }
            Entry::Vacant(entry) => {
                if self.channels.fetch_add(1, Ordering::Relaxed) >= self.bounds.channels {
                    self.channels.fetch_sub(1, Ordering::Relaxed);
                    return Err(Error::exhausted("too many channels (limits.channels)"));
                }
                self.metrics.channels_changed(1);
                Ok(entry.insert(Channel::new(now)))
            }
        }
    }
}

impl Broker for Memory {
    fn publish(&self, draft: Draft, span: Option<FanoutSpan>) -> Promise<Receipt> {
        Promise::Ready(self.publish_now(draft, span))
    }

    fn read(&self, channel: &ChannelName, range: Range) -> Promise<Option<Page>> {
        Promise::Ready(self.read_now(channel, range))
    }

    fn is_known(&self, channel: &ChannelName) -> bool {
        self.namespaces.load().of(channel).history.size == 0
            || self.stripe(channel).channels.contains_key(channel)
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> Promise<Vec<Kept>> {
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
            // Bounded however many channels there are: only the first `limit` can be answered.
            if found.len() > limit.saturating_mul(4) {
                found.sort_unstable_by(|a, b| a.channel.cmp(&b.channel));
                found.truncate(limit);
            }
        }
        found.sort_unstable_by(|a, b| a.channel.cmp(&b.channel));
        found.truncate(limit);
        Promise::ok(found)
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
            let before = stripe.channels.len();
            stripe.channels.retain(|name, kept| {
                let namespace = namespaces.of(name);
                kept.trim(namespace.history, now);
                // One that never had an event has nothing that could be resumed from.
                let patience = if kept.last == 0 {
                    namespace.max_idle.min(NEVER_USED)
                } else {
                    namespace.max_idle
                };
                let idle = kept.events.is_empty() && now - kept.used >= patience;
                !idle || sink.as_ref().is_some_and(|sink| sink.is_followed(name))
            });
            let forgotten = before - stripe.channels.len();
            self.channels.fetch_sub(forgotten, Ordering::Relaxed);
            let change = i64::try_from(forgotten).unwrap_or(i64::MAX);
            self.metrics.channels_changed(-change);
        }
    }
}

impl Channel {
    fn new(now: Instant) -> Self {
        Channel {
            epoch: Epoch::random(),
            last: 0,
            events: VecDeque::new(),
            bytes: 0,
            used: now,
        }
    }

    fn top(&self) -> Position {
        Position {
            epoch: self.epoch,
            offset: self.last,
        }
    }

    fn append(
        &mut self,
        draft: Draft,
        policy: HistoryPolicy,
        now: Instant,
    ) -> (Arc<Event>, Option<Position>) {
        self.last += 1;
        let position = Some(self.top());
        let event = Arc::new(Event::new(draft, position));
        self.bytes += event.weight();
        self.events.push_back((now, Arc::clone(&event)));
        self.trim(policy, now);
        (event, position)
    }

    fn trim(&mut self, policy: HistoryPolicy, now: Instant) {
        while let Some((at, _)) = self.events.front() {
            let over = self.events.len() > policy.size || self.bytes > policy.bytes;
            if !over && now.duration_since(*at) < policy.ttl {
                break;
            }
            if let Some((_, event)) = self.events.pop_front() {
                self.bytes = self.bytes.saturating_sub(event.weight());
            }
        }
        if self.events.is_empty() {
            self.events.shrink_to_fit();
        }
    }

    fn page(&self, range: Range) -> Page {
        let oldest = self
            .events
            .front()
            .and_then(|(_, event)| event.position)
            .map_or(self.last + 1, |position| position.offset);
        // Offsets are consecutive, so a range of offsets is a range of places.
        let first = range.after.saturating_add(1).max(oldest);
        let last = range.until.min(self.last);
        let count = usize::try_from((last + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        let skip = usize::try_from(first - oldest).unwrap_or(usize::MAX);
        let within = self
            .events
            .iter()
            .skip(skip)
            .take(count)
            .map(|(_, event)| Arc::clone(event));
        let events = if range.reverse {
            within.rev().take(range.limit).collect()
        } else {
            within.take(range.limit).collect()
        };
        Page {
            top: self.top(),
            oldest,
            events,
            more: count > range.limit,
        }
    }
}
