//! The channels in use, and how much of their newest events stays at hand.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::channel::Channel;
use crate::event::{ChannelName, Event};

/// Channels are spread over this many locks.
const STRIPES: usize = 64;
/// More channels than this are not kept in memory unless they were used within a minute.
pub(super) const ROOMY: usize = 65_536;

type Stripe = HashMap<ChannelName, Arc<Channel>>;

/// The channels in use. Anyone may look; the committer alone adds and removes.
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

    /// Lets go of channels that were last used before this time, where there are too many.
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

    /// Forgets everything that is known; the disk is asked again.
    pub(super) fn clear(&self) {
        for stripe in &self.stripes {
            stripe
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
        }
    }
}

/// Keeps the newest events of all channels at hand up to a number of bytes; the oldest go first.
pub(super) struct Cache {
    order: VecDeque<(Arc<Channel>, u64, usize)>,
    bytes: usize,
    most: usize,
}

impl Cache {
    /// A cache of so many bytes; 0 keeps nothing.
    pub(super) fn new(most: usize) -> Self {
        Cache {
            order: VecDeque::new(),
            bytes: 0,
            most,
        }
    }

    /// Keeps events that have just been stored, the newest of their channel.
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
        // Events that retention has let go of still count until their turn comes, so that the
        // order can't grow without bound.
        while self.bytes > self.most {
            let Some((channel, offset, weight)) = self.order.pop_front() else {
                break;
            };
            self.bytes -= weight;
            channel.state().let_go(offset);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.order.clear();
        self.bytes = 0;
    }
}
