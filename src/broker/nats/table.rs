//! The channels with history that this node has used lately.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::channel::Channel;
use super::stream::Stream;
use crate::event::ChannelName;

const STRIPES: usize = 64;

type Stripe = HashMap<ChannelName, Arc<Channel>>;

/// Channels by name.
pub(super) struct ChannelTable {
    stripes: Box<[Mutex<Stripe>]>,
    hasher: RandomState,
    count: AtomicUsize,
    most: usize,
}

impl ChannelTable {
    /// A table for so many channels.
    pub(super) fn new(most: usize) -> Self {
        ChannelTable {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            count: AtomicUsize::new(0),
            most,
        }
    }

    fn stripe(&self, channel: &ChannelName) -> MutexGuard<'_, Stripe> {
        let at = usize::try_from(self.hasher.hash_one(channel) % 64).unwrap_or(0);
        match self.stripes.get(at).or_else(|| self.stripes.first()) {
            Some(stripe) => stripe.lock().unwrap_or_else(PoisonError::into_inner),
            None => unreachable!("there are always {STRIPES} stripes"),
        }
    }

    /// The channel, if it is here.
    pub(super) fn get(&self, channel: &ChannelName) -> Option<Arc<Channel>> {
        self.stripe(channel).get(channel).cloned()
    }

    /// The channel of this stream; `None` if there are too many.
    pub(super) fn get_or_insert(
        &self,
        channel: &ChannelName,
        stream: &Arc<Stream>,
        make: impl FnOnce() -> Channel,
    ) -> Option<Arc<Channel>> {
        let mut stripe = self.stripe(channel);
        if let Some(found) = stripe.get(channel)
            && Arc::ptr_eq(&found.stream, stream)
        {
            return Some(Arc::clone(found));
        }
        if !stripe.contains_key(channel) {
            if self.count.load(Ordering::Relaxed) >= self.most {
                return None;
            }
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        let entry = Arc::new(make());
        stripe.insert(channel.clone(), Arc::clone(&entry));
        Some(entry)
    }

    /// How many channels are here.
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The channels for which `wanted` holds. One stripe is locked at a time.
    pub(super) fn select(&self, wanted: impl Fn(&Channel) -> bool) -> Vec<Arc<Channel>> {
        let mut found = Vec::new();
        for stripe in &self.stripes {
            let stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            found.extend(stripe.values().filter(|channel| wanted(channel)).cloned());
        }
        found
    }

    /// Removes channels of one stripe.
    pub(super) fn remove_from(&self, stripe: usize, unused: impl Fn(&Channel) -> bool) {
        let Some(stripe) = self.stripes.get(stripe % STRIPES) else {
            return;
        };
        let mut stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
        // An entry with other holders is in use: it stays.
        let gone = stripe
            .extract_if(|_, channel| Arc::strong_count(channel) == 1 && unused(channel))
            .count();
        drop(stripe);
        self.count.fetch_sub(gone, Ordering::Relaxed);
    }

    /// Removes the entries of a stream's channels. Returns those that remain because they have
    /// subscribers or events to append.
    pub(super) fn forget_stream(&self, stream: &Arc<Stream>) -> Vec<Arc<Channel>> {
        let mut wanted = Vec::new();
        for stripe in &self.stripes {
            let mut stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            let before = stripe.len();
            stripe.retain(|_, channel| {
                if !Arc::ptr_eq(&channel.stream, stream) {
                    return true;
                }
                let stays = channel.is_wanted() || !channel.writer().is_idle();
                if stays {
                    wanted.push(Arc::clone(channel));
                }
                stays
            });
            self.count
                .fetch_sub(before - stripe.len(), Ordering::Relaxed);
        }
        wanted
    }
}
