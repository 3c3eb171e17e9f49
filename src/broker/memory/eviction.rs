//! Creates, appends to, trims and removes channels, and accounts for their memory.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::channel::{Channel, Trimmed};
use super::{Memory, Stripe};
use crate::error::{Error, Result};
use crate::event::{ChannelName, Draft, Event, HistoryPolicy, Position};

/// The least number of bytes that a publisher evicts when the budget is exceeded.
const STEP: usize = 64 * 1024;

impl Memory {
    /// Appends an event to its channel. Returns it, its position, and what was evicted.
    pub(super) fn append(
        &self,
        stripe: &mut Stripe,
        place: usize,
        draft: Draft,
        policy: HistoryPolicy,
        now: Instant,
    ) -> Result<(Arc<Event>, Option<Position>, Trimmed)> {
        let Some(channel) = draft.channel.clone() else {
            return Ok((Arc::new(Event::new(draft, None)), None, Trimmed::default()));
        };
        let kept = self.kept(stripe, &channel, now)?;
        let (event, position, weight) = kept.append(draft, now);
        self.budget.hold(weight);
        let trimmed = kept.trim(policy, now);
        self.budget.trimmed(&trimmed);
        let classes = kept.reclass();
        stripe.shelf.move_to(&channel, classes, &self.budget, place);
        Ok((event, position, trimmed))
    }

    /// The channel, created if necessary.
    pub(super) fn kept<'s>(
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
                    self.metrics.limit_reached("channels");
                    return Err(Error::exhausted("too many channels (limits.channels)"));
                }
                if !self.budget.admit_channel(Channel::own_bytes(channel)) {
                    self.channels.fetch_sub(1, Ordering::Relaxed);
                    self.metrics.limit_reached("memory_bytes");
                    let text = "too many channels for their memory (history.memory_bytes)";
                    return Err(Error::exhausted(text));
                }
                self.metrics.channels_changed(1);
                Ok(entry.insert(Channel::new(now)))
            }
        }
    }

    /// Removes a channel, if it exists. Returns what it held.
    pub(super) fn forget(&self, stripe: &mut Stripe, place: usize, name: &ChannelName) -> Trimmed {
        if stripe.channels.is_empty() {
            return Trimmed::default();
        }
        let Some(mut gone) = stripe.channels.remove(name) else {
            return Trimmed::default();
        };
        let held = gone.clear();
        self.budget.trimmed(&held);
        let classes = gone.reclass();
        stripe.shelf.move_to(name, classes, &self.budget, place);
        self.budget.forget_channel(Channel::own_bytes(name));
        self.forgotten(1);
        held
    }

    /// Visits every channel of a stripe. `look` trims it, and returns whether it is kept. Returns
    /// what was evicted.
    pub(super) fn sweep_channels(
        &self,
        stripe: &mut Stripe,
        place: usize,
        mut look: impl FnMut(&ChannelName, &mut Channel) -> (Trimmed, bool),
    ) -> Vec<Trimmed> {
        let mut all = Vec::new();
        let Stripe {
            channels, shelf, ..
        } = stripe;
        let before = channels.len();
        channels.retain(|name, kept| {
            let (trimmed, stays) = look(name, kept);
            self.budget.trimmed(&trimmed);
            shelf.move_to(name, kept.reclass(), &self.budget, place);
            if trimmed.bytes > 0 {
                all.push(trimmed);
            }
            if !stays {
                self.budget.forget_channel(Channel::own_bytes(name));
            }
            stays
        });
        if channels.capacity() > 4 * channels.len() + 64 {
            channels.shrink_to(2 * channels.len());
        }
        self.forgotten(before - channels.len());
        all
    }

    fn forgotten(&self, channels: usize) {
        if channels > 0 {
            self.channels.fetch_sub(channels, Ordering::Relaxed);
            let change = i64::try_from(channels).unwrap_or(i64::MAX);
            self.metrics.channels_changed(-change);
        }
    }

    /// Evicts history when the budget is exceeded. For an event of this many bytes it evicts up to
    /// twice as many. Hence, the excess shrinks, and no publisher is delayed for long. Must be
    /// called without holding a lock.
    pub(super) fn make_room(&self, added: usize) {
        let mut left = added.saturating_mul(2).max(STEP);
        loop {
            let excess = self.budget.excess();
            if excess == 0 || left == 0 {
                return;
            }
            let Some(place) = self.budget.richest() else {
                return;
            };
            let freed = self.evict(place, excess.min(left));
            if freed == 0 {
                // Another publisher evicted it first.
                return;
            }
            left = left.saturating_sub(freed);
        }
    }

    /// Evicts the oldest events of a stripe's largest channel. Returns the freed bytes.
    fn evict(&self, place: usize, bytes: usize) -> usize {
        let mut stripe = self.stripe_at(place);
        let Some(name) = stripe.shelf.largest().cloned() else {
            return 0;
        };
        let Some(kept) = stripe.channels.get_mut(&name) else {
            return 0;
        };
        let evicted = kept.evict(bytes);
        self.budget.trimmed(&evicted);
        let classes = kept.reclass();
        stripe.shelf.move_to(&name, classes, &self.budget, place);
        drop(stripe);
        evicted.bytes
    }
}
