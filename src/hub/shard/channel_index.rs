//! An index of a shard's topics by channel.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::topics::Topic;
use crate::event::{ChannelName, ChannelPattern};
use crate::hub::shard::slab::Slab;

/// The topics of channels. An entry is a topic's slot, and the topic has the name: a large server
/// has a channel for each user, so each name is stored only once.
#[derive(Default)]
pub(super) struct Names {
    entries: HashTable<u32>,
    hasher: RandomState,
}

impl Names {
    /// The slot of a channel's topic.
    pub(super) fn find(&self, channel: &ChannelName, topics: &Slab<Topic>) -> Option<u32> {
        let is_it = |entry: &u32| name(topics, *entry) == Some(channel);
        let found = self
            .entries
            .find(self.hasher.hash_one(Some(channel)), is_it);
        found.copied()
    }

    /// Adds a channel's topic.
    pub(super) fn insert(&mut self, channel: &ChannelName, topic: u32, topics: &Slab<Topic>) {
        let hash_of = |entry: &u32| self.hasher.hash_one(name(topics, *entry));
        self.entries
            .insert_unique(self.hasher.hash_one(Some(channel)), topic, hash_of);
    }

    /// Removes a channel's topic, which may have been removed from the slab already.
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
