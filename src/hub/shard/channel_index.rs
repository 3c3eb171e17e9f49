//! Which topic is a channel's.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::topics::Topic;
use crate::event::{ChannelName, ChannelPattern};
use crate::hub::shard::slab::Slab;

/// The topics of channels by their names. An entry is the number of a topic, which knows its name:
/// a large server has a channel for each user.
#[derive(Default)]
pub(super) struct Names {
    entries: HashTable<u32>,
    hasher: RandomState,
}

impl Names {
    /// The place of a channel's topic.
    pub(super) fn find(&self, channel: &ChannelName, topics: &Slab<Topic>) -> Option<u32> {
        let is_it = |entry: &u32| name(topics, *entry) == Some(channel);
        let found = self
            .entries
            .find(self.hasher.hash_one(Some(channel)), is_it);
        found.copied()
    }

    /// Notes a channel's topic, of which there is none yet.
    pub(super) fn insert(&mut self, channel: &ChannelName, topic: u32, topics: &Slab<Topic>) {
        let hash_of = |entry: &u32| self.hasher.hash_one(name(topics, *entry));
        self.entries
            .insert_unique(self.hasher.hash_one(Some(channel)), topic, hash_of);
    }

    /// Forgets a channel's topic; it need not be among the topics any more.
    pub(super) fn remove(&mut self, channel: &ChannelName, topic: u32) {
        let hash = self.hasher.hash_one(Some(channel));
        if let Ok(entry) = self.entries.find_entry(hash, |entry| *entry == topic) {
            entry.remove();
        }
    }
}

fn name(topics: &Slab<Topic>, topic: u32) -> Option<&ChannelName> {
    match &topics.get(topic)?.pattern {
        ChannelPattern::Exact(channel) => Some(channel),
        ChannelPattern::Namespace(_) | ChannelPattern::All => None,
    }
}
