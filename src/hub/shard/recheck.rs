//! Ending subscriptions that the rules no longer allow.

use super::Shard;
use crate::auth::Identity;
use crate::error::Result;
use crate::event::{ChannelPattern, ConnectionId};
use crate::hub::protocol::Notice;

type Allowed<'a> =
    &'a (dyn Fn(&Identity, &ChannelPattern, ConnectionId) -> Result<()> + Send + Sync);

impl Shard {
    /// Ends subscriptions that `allowed` refuses, with an error.
    pub(in crate::hub) fn check_rights(&mut self, slot: u32, allowed: Allowed<'_>) {
        let Some(id) = self.connections.id(slot) else {
            return;
        };
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        let Some(identity) = connection.identity.clone() else {
            return;
        };
        let own = connection.subscriptions.iter().filter(|s| !s.granted);
        let topics: Vec<u32> = own.map(|s| s.topic).collect();
        for topic in topics {
            let Some(pattern) = self.topics.get(topic).map(|t| t.pattern.clone()) else {
                continue;
            };
            if let Err(error) = allowed(&identity, &pattern, id) {
                self.leave_topic(slot, topic);
                let channel = pattern.to_string();
                let error = &error;
                self.notify(
                    slot,
                    &Notice::Unsubscribed {
                        channel: &channel,
                        error,
                    },
                );
            }
        }
    }

    /// The same for every connection.
    pub(in crate::hub) fn check_all_rights(&mut self, allowed: Allowed<'_>) {
        let slots: Vec<u32> = self.connections.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.check_rights(slot, allowed);
        }
    }
}
