//! Unsubscribing.

use super::Shard;
use super::fanout::schedule_recovery;
use crate::event::ChannelPattern;
use crate::hub::connection::Subscription;

impl Shard {
    /// Ends one subscription; true if there was one.
    pub(super) fn leave(&mut self, slot: u32, pattern: &ChannelPattern) -> bool {
        self.topic_of(pattern)
            .is_some_and(|topic| self.leave_topic(slot, topic))
    }

    pub(super) fn leave_topic(&mut self, slot: u32, topic: u32) -> bool {
        let Some(pattern) = self.topics.get(topic).map(|t| t.pattern.clone()) else {
            return false;
        };
        let Some(gone) = self.detach(slot, topic) else {
            return false;
        };
        self.hub.metrics().subscriptions_removed(1);
        if gone.present {
            self.part_presence(slot, &pattern);
        }
        self.drop_if_empty(topic);
        true
    }

    /// Ends all subscriptions of a connection.
    pub(super) fn leave_all(&mut self, slot: u32) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        let topics: Vec<u32> = connection.subscriptions.iter().map(|s| s.topic).collect();
        for topic in topics {
            self.leave_topic(slot, topic);
        }
    }

    /// Takes the connection out of a topic's subscribers.
    pub(super) fn detach(&mut self, slot: u32, topic: u32) -> Option<Subscription> {
        let connection = self.connections.get_mut(slot)?;
        let gone = connection.subscriptions.take(topic)?;
        if let Some(catch_ups) = &mut connection.catch_ups {
            catch_ups.retain(|c| c.topic != topic);
            if catch_ups.is_empty() {
                connection.catch_ups = None;
            } else {
                // The others may have waited for its page.
                schedule_recovery(&mut self.awaiting_recovery, slot, connection);
            }
        }
        // Another channel may get the topic's place: what waits must not be told as that one's.
        connection.outbox.settle_channel(topic);
        let at = usize::try_from(gone.at).unwrap_or(usize::MAX);
        let entry = self.topics.get_mut(topic)?;
        if at >= entry.subscribers.len() {
            return None;
        }
        let follower = entry.subscribers.swap_remove(at);
        entry.catching_up -= u32::from(!follower.live);
        entry.watchers -= u32::from(follower.watches);
        entry.route.left();
        self.filters.release(follower.filter);
        // Another subscriber has moved to the free place.
        if let Some(moved) = entry.subscribers.get(at).map(|s| s.connection)
            && let Some(connection) = self.connections.get_mut(moved)
            && let Some(other) = connection
                .subscriptions
                .iter_mut()
                .find(|s| s.topic == topic)
        {
            other.at = gone.at;
        }
        Some(gone)
    }

    fn drop_if_empty(&mut self, place: u32) {
        if self
            .topics
            .get(place)
            .is_some_and(|t| t.subscribers.is_empty())
            && let Some(topic) = self.topics.remove(place)
        {
            match &topic.pattern {
                ChannelPattern::Exact(channel) => {
                    self.by_channel.remove(channel, place);
                }
                ChannelPattern::Namespace(namespace) => {
                    self.by_namespace.remove(namespace);
                }
                ChannelPattern::All => self.of_all = None,
            }
            self.hub.unfollow(&topic.pattern, usize::from(self.index));
        }
    }
}
