//! Connections that follow a channel in merger ways, by its name and by patterns, each with a
//! filter of its own. What they get of a batch is put together first, or the events of one
//! subscription would overtake those of the other.

use std::collections::HashMap;

use super::batch::count;
use super::connections::Connections;
use super::topics::Topics;

/// What such connections get of a batch, by their slots.
#[derive(Default)]
pub(super) struct OverlapMerger(HashMap<u32, Share>);

/// What one of them gets.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Share {
    pub(super) set: u64,
    /// The place of the channel, if some of it comes by the channel's name.
    pub(super) channel: Option<u32>,
    /// Some of it comes by a pattern.
    pub(super) by_pattern: bool,
    /// It is to be looked at how it gets there.
    pub(super) is_sampled: bool,
}

impl OverlapMerger {
    /// Those who follow more than one of these topics, the channel's own being the first. Nobody
    /// where there is only one event, for that can overtake nothing.
    pub(super) fn of(
        all: u64,
        topics: [Option<u32>; 3],
        places: &Topics,
        connections: &Connections,
    ) -> Self {
        if count(all) < 2 || topics.iter().flatten().count() < 2 {
            return Self::default();
        }
        let patterns = topics.iter().skip(1).flatten();
        let subscribers = patterns
            .filter_map(|place| places.get(*place))
            .flat_map(|topic| &topic.subscribers)
            .map(|subscriber| subscriber.connection);
        let is_one = |slot: &u32| {
            let Some(connection) = connections.get(*slot) else {
                return false;
            };
            let follows = connection.subscriptions.iter();
            let ways = follows.filter(|one| topics.contains(&Some(one.topic)));
            ways.count() > 1
        };
        let shares = subscribers
            .filter(is_one)
            .map(|slot| (slot, Share::default()));
        OverlapMerger(shares.collect())
    }

    /// Adds what one of them gets by one pass; false if it has no other.
    pub(super) fn add(
        &mut self,
        slot: u32,
        set: u64,
        channel: Option<u32>,
        is_sampled: bool,
    ) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let Some(share) = self.0.get_mut(&slot) else {
            return false;
        };
        share.set |= set;
        share.by_pattern |= channel.is_none();
        share.channel = share.channel.or(channel);
        share.is_sampled |= is_sampled;
        true
    }

    /// What each of them gets; nobody who gets nothing.
    pub(super) fn shares(self) -> impl Iterator<Item = (u32, Share)> {
        self.0.into_iter().filter(|(_, share)| share.set != 0)
    }
}
