//! Unsubscribing.

use super::Shard;
use crate::event::ChannelPattern;
use crate::hub::shard::connection::Subscription;

impl Shard {
    /// Ends one subscription; true if there was one.
    pub(super) fn leave(&mut self, slot: u32, pattern: &ChannelPattern) -> bool {
        self.topics
            .of(pattern)
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
            self.presence_leave(slot, &pattern);
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

    /// Removes the connection from a topic's subscribers.
    pub(super) fn detach(&mut self, slot: u32, topic: u32) -> Option<Subscription> {
        let connection = self.connections.get_mut(slot)?;
        let gone = connection.subscriptions.take(topic)?;
        self.throttles.end(slot, topic);
        if connection.recoveries.is_some() {
            connection.end_recovery(topic);
            if connection.recoveries.is_some() {
                // Its other subscriptions may have waited for this one's page.
                self.recovery.schedule(slot, connection);
            }
        }
        // Another channel may get the topic's slot: queued events must not be reported as that
        // channel's.
        connection.outbox.settle_channel(topic);
        let removed = self.topics.unsubscribe(topic, gone.at)?;
        self.filters.release(removed.gone.filter);
        if removed.was_last
            && let Some(topic) = self.topics.get(topic)
        {
            self.hub.occupancy_changed(&topic.pattern, false);
        }
        // The topic's last subscriber has the free index now.
        if let Some(moved) = removed.moved
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

    fn drop_if_empty(&mut self, topic: u32) {
        if let Some(pattern) = self.topics.remove_if_empty(topic) {
            self.hub.unfollow(&pattern, usize::from(self.index));
        }
    }
}
