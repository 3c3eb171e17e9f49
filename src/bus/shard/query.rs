//! What operators ask a shard.

use std::sync::Arc;

use super::Shard;
use crate::bus::connection::ConnectionInfo;
use crate::event::{ChannelName, ConnectionId, Timestamp};

/// Connections looked at before a shard goes back to its work.
const LOOKED_AT: u32 = 20_000;

/// Which connections; all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionFilter {
    /// Only this user's.
    pub user: Option<Arc<str>>,
    /// Only those with this role.
    pub role: Option<Arc<str>>,
    /// Only those subscribed to this channel.
    pub channel: Option<ChannelName>,
    /// Only this transport.
    pub transport: Option<Box<str>>,
    /// Only those that registered as this.
    pub client_type: Option<Box<str>>,
}

/// Some of a shard's connections.
#[derive(Debug, Default)]
pub struct ConnectionPage {
    /// The connections, by their places.
    pub connections: Vec<ConnectionInfo>,
    /// The place at which to go on; `None` at the end.
    pub next: Option<u32>,
}

impl Shard {
    /// Connections from a place on.
    #[must_use]
    pub fn list(&self, filter: &ConnectionFilter, from: u32, limit: usize) -> ConnectionPage {
        let mut page = ConnectionPage::default();
        let end = self.connections.end().min(from.saturating_add(LOOKED_AT));
        for slot in from..end {
            if page.connections.len() == limit {
                page.next = Some(slot);
                return page;
            }
            if self.is_wanted(slot, filter)
                && let Some(info) = self.describe(slot)
            {
                page.connections.push(info);
            }
        }
        page.next = (end < self.connections.end()).then_some(end);
        page
    }

    /// One connection.
    #[must_use]
    pub fn look_at(&self, id: ConnectionId) -> Option<ConnectionInfo> {
        self.describe(self.find(id)?)
    }

    fn is_wanted(&self, slot: u32, filter: &ConnectionFilter) -> bool {
        let Some(connection) = self.connections.get(slot) else {
            return false;
        };
        let follows = |channel: &ChannelName| {
            let topic = self.topic_named(channel);
            topic.is_some_and(|topic| connection.subscription(topic).is_some())
        };
        connection.ending.is_none()
            && filter
                .user
                .as_deref()
                .is_none_or(|user| connection.user() == Some(user))
            && filter
                .role
                .as_ref()
                .is_none_or(|role| connection.roles().contains(role))
            && filter.channel.as_ref().is_none_or(follows)
            && filter
                .transport
                .as_deref()
                .is_none_or(|t| connection.transport.as_str() == t)
            && filter
                .client_type
                .as_deref()
                .is_none_or(|kind| connection.client_kind() == kind)
    }

    fn describe(&self, slot: u32) -> Option<ConnectionInfo> {
        let connection = self.connections.get(slot)?;
        let subscriptions = connection.subscriptions.iter().filter_map(|subscription| {
            let topic = self.topics.get(subscription.topic)?;
            Some((topic.pattern.to_string(), topic.position))
        });
        Some(ConnectionInfo {
            id: self.id(slot)?,
            user: connection.identity.as_ref().and_then(|i| i.user().cloned()),
            roles: connection.roles().to_vec(),
            transport: connection.transport.as_str(),
            client: connection.client().cloned(),
            address: connection.address.get(),
            connected_at: ago(self.clock.elapsed().saturating_sub(connection.connected_at)),
            last_seen_at: ago(self.clock.now().saturating_sub(connection.last_seen)),
            subscriptions: subscriptions.collect(),
            delivered: connection.delivered,
            dropped: u64::from(connection.dropped),
            bytes_in: connection.bytes_in,
            bytes_out: connection.bytes_out,
            outbox_bytes: connection.outbox.bytes(),
            round_trip_us: connection.round_trip_us,
        })
    }
}

/// So many milliseconds before now, by the calendar.
fn ago(ms: u64) -> Timestamp {
    let micros = Timestamp::now().as_micros();
    Timestamp::from_micros(micros.saturating_sub_unsigned(ms.saturating_mul(1000)))
}
