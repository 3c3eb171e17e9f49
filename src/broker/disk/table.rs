//! The channels in use, and the cache of their newest events.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::channel::Channel;
use crate::event::{ChannelName, Event};

/// Channels are spread over this many locks.
const STRIPES: usize = 64;
/// If there are more channels than this, those unused for a minute are removed from memory.
pub(super) const ROOMY: usize = 65_536;

type Stripe = HashMap<ChannelName, Arc<Channel>>;

/// The channels in use. All threads may read. Only the committer adds and removes.
pub(super) struct Table {
    stripes: Box<[Mutex<Stripe>]>,
    hasher: RandomState,
}

impl Table {
    pub(super) fn new() -> Self {
        Table {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    fn stripe(&self, name: &ChannelName) -> MutexGuard<'_, Stripe> {
        let hash = self.hasher.hash_one(name);
        let at = usize::try_from(hash % 64).unwrap_or(0);
        match self.stripes.get(at).or_else(|| self.stripes.first()) {
            Some(stripe) => stripe.lock().unwrap_or_else(PoisonError::into_inner),
            None => unreachable!("there are always {STRIPES} stripes"),
        }
    }

    pub(super) fn get(&self, name: &ChannelName) -> Option<Arc<Channel>> {
        self.stripe(name).get(name).map(Arc::clone)
    }

    pub(super) fn insert(&self, channel: &Arc<Channel>) {
        self.stripe(&channel.name)
            .insert(channel.name.clone(), Arc::clone(channel));
    }

    /// Removes a channel.
    pub(super) fn remove(&self, name: &ChannelName) {
        self.stripe(name).remove(name);
    }

    /// Removes a channel that was last used before this time; false if it was used since.
    pub(super) fn remove_unused(&self, name: &ChannelName, since: u64) -> bool {
        let mut stripe = self.stripe(name);
        let used = stripe.get(name).map(|channel| channel.state().used);
        if used.is_some_and(|used| used >= since) {
            return false;
        }
        stripe.remove(name);
        true
    }

    /// Removes channels that were last used before this time, if there are too many.
    pub(super) fn shrink(&self, since: u64, at_most: usize) {
        let each = |stripe: &Mutex<Stripe>| {
            let stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            stripe.len()
        };
        if self.stripes.iter().map(each).sum::<usize>() <= at_most {
            return;
        }
        for stripe in &self.stripes {
            let mut stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            stripe.retain(|_, channel| channel.state().used >= since);
        }
    }

    /// Clears the table. Channels are loaded from disk again.
    pub(super) fn clear(&self) {
        for stripe in &self.stripes {
            stripe
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
        }
    }
}

/// A FIFO cache of the newest events of all channels, limited in bytes.
pub(super) struct Cache {
    order: VecDeque<(Arc<Channel>, u64, usize)>,
    bytes: usize,
    most: usize,
}

impl Cache {
    /// A cache of this many bytes. 0 disables it.
    pub(super) fn new(most: usize) -> Self {
        Cache {
            order: VecDeque::new(),
            bytes: 0,
            most,
        }
    }

    /// Adds events that were just stored, the newest of their channel.
    pub(super) fn keep(&mut self, channel: &Arc<Channel>, events: &[Arc<Event>]) {
        if self.most == 0 {
            return;
        }
        for event in events {
            let Some(position) = event.position else {
                continue;
            };
            let weight = event.weight() + size_of::<(Arc<Channel>, u64, usize)>();
            self.order
                .push_back((Arc::clone(channel), position.offset, weight));
            self.bytes += weight;
            channel.state().keep_at_hand(Arc::clone(event));
        }
        // Events that retention has removed still count until they reach the front, so that the
        // queue stays bounded.
        while self.bytes > self.most {
            let Some((channel, offset, weight)) = self.order.pop_front() else {
                break;
            };
            self.bytes -= weight;
            channel.state().let_go(offset);
        }
    }

    /// Clears the cache.
    pub(super) fn clear(&mut self) {
        self.order.clear();
        self.bytes = 0;
    }
}
