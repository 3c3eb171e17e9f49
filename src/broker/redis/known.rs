//! The channels that this node has published to or read, until Redis may have forgotten them.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event::ChannelName;
use crate::telemetry::Metrics;

const STRIPES: usize = 64;
/// Stripes per sweep: all of them every eight sweeps.
const STRIPES_A_SWEEP: usize = 8;

type Stripe = HashMap<ChannelName, u64>;

/// A bounded table of channels, each with the time until which Redis keeps it at least. Times are
/// milliseconds of the broker's clock.
pub(super) struct Known {
    stripes: Box<[Mutex<Stripe>]>,
    hasher: RandomState,
    count: AtomicUsize,
    most: usize,
    next_sweep: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl Known {
    pub(super) fn new(most: usize, metrics: Arc<Metrics>) -> Self {
        Known {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            count: AtomicUsize::new(0),
            most,
            next_sweep: AtomicUsize::new(0),
            metrics,
        }
    }

    fn stripe(&self, channel: &ChannelName) -> MutexGuard<'_, Stripe> {
        let at = usize::try_from(self.hasher.hash_one(channel) % 64).unwrap_or(0);
        let stripe = self.stripes.get(at).or_else(|| self.stripes.first());
        match stripe {
            Some(stripe) => stripe.lock().unwrap_or_else(PoisonError::into_inner),
            None => unreachable!("there are always {STRIPES} stripes"),
        }
    }

    pub(super) fn contains(&self, channel: &ChannelName) -> bool {
        self.stripe(channel).contains_key(channel)
    }

    /// Notes that Redis keeps a channel until then at least. False if there are too many channels.
    pub(super) fn touch(&self, channel: &ChannelName, until: u64) -> bool {
        let mut stripe = self.stripe(channel);
        if let Some(kept) = stripe.get_mut(channel) {
            *kept = until.max(*kept);
            return true;
        }
        let counted = self
            .count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < self.most).then_some(count + 1)
            });
        if counted.is_err() {
            self.metrics.limit_reached("channels");
            return false;
        }
        stripe.insert(channel.clone(), until);
        self.metrics.channels_changed(1);
        true
    }

    /// Forgets a channel: it has no history any more.
    pub(super) fn forget(&self, channel: &ChannelName) {
        if self.stripe(channel).remove(channel).is_some() {
            self.removed(1);
        }
    }

    fn removed(&self, count: usize) {
        self.count.fetch_sub(count, Ordering::Relaxed);
        self.metrics
            .channels_changed(-i64::try_from(count).unwrap_or(0));
    }

    /// Forgets some of the channels that Redis may have forgotten. Those that are followed stay.
    pub(super) fn sweep(&self, now: u64, is_followed: impl Fn(&ChannelName) -> bool) {
        let start = self
            .next_sweep
            .fetch_add(STRIPES_A_SWEEP, Ordering::Relaxed);
        for at in start..start.wrapping_add(STRIPES_A_SWEEP) {
            let Some(stripe) = self.stripes.get(at % STRIPES) else {
                continue;
            };
            let mut stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            let before = stripe.len();
            stripe.retain(|channel, until| *until > now || is_followed(channel));
            let gone = before - stripe.len();
            if stripe.capacity() > 64 && stripe.len() < stripe.capacity() / 4 {
                stripe.shrink_to_fit();
            }
            drop(stripe);
            self.removed(gone);
        }
    }

    /// The channels that are followed: their time in Redis has to be renewed.
    pub(super) fn followed(&self, is_followed: impl Fn(&ChannelName) -> bool) -> Vec<ChannelName> {
        let mut found = Vec::new();
        for stripe in &self.stripes {
            let stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            found.extend(
                stripe
                    .keys()
                    .filter(|channel| is_followed(channel))
                    .cloned(),
            );
        }
        found
    }
}
