//! Connections with overlapping subscriptions, to a channel and to patterns that match it, each
//! with its own filter. Their events of a batch are merged first, because otherwise the events of
//! one subscription would overtake those of the other.

use std::collections::HashMap;

use super::batch::count;
use super::connections::Connections;
use super::topics::Topics;

/// The merged events of such connections, by slot.
#[derive(Default)]
pub(super) struct OverlapMerger(HashMap<u32, Share>);

/// The merged events of one connection.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Share {
    pub(super) set: u64,
    /// The slot of the channel, if some of the events come from the channel's own subscription.
    pub(super) channel: Option<u32>,
    /// Some of the events come from a pattern.
    pub(super) by_pattern: bool,
    /// Its delivery is sampled.
    pub(super) is_sampled: bool,
}

impl OverlapMerger {
    /// The connections with subscriptions to more than one of these topics, the channel's own being
    /// the first. None if there is only one event, which can overtake nothing.
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

    /// Adds the events of one subscription; false if the connection has no other.
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

    /// The merged events of each connection that gets any.
    pub(super) fn shares(self) -> impl Iterator<Item = (u32, Share)> {
        self.0.into_iter().filter(|(_, share)| share.set != 0)
    }
}
