//! Joining and leaving channels that keep presence.

use std::sync::Arc;

use super::Shard;
use crate::event::{ChannelName, ChannelPattern};
use crate::hub::presence::ANONYMOUS;
use crate::hub::protocol::Notice;

impl Shard {
    fn presence_name(&self, slot: u32) -> Arc<str> {
        let identity = self.connections.get(slot).and_then(|c| c.identity.as_ref());
        identity
            .and_then(|i| i.user().cloned())
            .unwrap_or_else(|| Arc::from(ANONYMOUS))
    }

    /// Adds the connection to a channel's presence; true if the channel has presence.
    pub(super) fn presence_join(&self, slot: u32, pattern: &ChannelPattern) -> bool {
        let ChannelPattern::Exact(channel) = pattern else {
            return false;
        };
        let kept = self.hub.namespaces().of(channel).presence;
        if kept {
            self.hub.presence_joined(channel, &self.presence_name(slot));
        }
        kept
    }

    pub(super) fn presence_leave(&self, slot: u32, pattern: &ChannelPattern) {
        if let ChannelPattern::Exact(channel) = pattern {
            self.hub.presence_left(channel, &self.presence_name(slot));
        }
    }

    fn present_in(&self, slot: u32) -> Vec<ChannelPattern> {
        let Some(connection) = self.connections.get(slot) else {
            return Vec::new();
        };
        let present = connection.subscriptions.iter().filter(|s| s.present);
        present
            .filter_map(|s| Some(self.topics.get(s.topic)?.pattern.clone()))
            .collect()
    }

    /// The connection's user is about to change: the old one leaves its channels.
    pub(super) fn presence_leave_all(&self, slot: u32) {
        for pattern in self.present_in(slot) {
            self.presence_leave(slot, &pattern);
        }
    }

    /// The connection's user has changed: the new one joins its channels.
    pub(super) fn presence_join_all(&self, slot: u32) {
        for pattern in self.present_in(slot) {
            if let ChannelPattern::Exact(channel) = &pattern {
                self.hub.presence_joined(channel, &self.presence_name(slot));
            }
        }
    }

    /// Notifies a channel's watchers that a user joined or left.
    pub(in crate::hub) fn notify_presence(
        &mut self,
        channel: &ChannelName,
        user: &str,
        joined: bool,
    ) {
        let Some(topic) = self.topics.of_channel(channel) else {
            return;
        };
        let Some(entry) = self.topics.get(topic) else {
            return;
        };
        if entry.watchers == 0 {
            return;
        }
        let slots: Vec<u32> = entry
            .subscribers
            .iter()
            .filter(|s| s.watches)
            .map(|s| s.connection)
            .collect();
        for slot in slots {
            self.notify(
                slot,
                &Notice::Presence {
                    channel: channel.as_str(),
                    user,
                    joined,
                },
            );
        }
    }
}
