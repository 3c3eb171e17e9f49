//! Answers operators' queries.

use std::sync::Arc;

use super::Shard;
use super::fanout::{is_named, type_filter};
use crate::event::{Audience, ChannelName, ConnectionId, EventType, Timestamp};
use crate::hub::shard::connection::ConnectionInfo;

/// The most connections that one answer visits.
const LOOKED_AT: u32 = 20_000;

/// The most bytes of the listed subscriptions of a connection, including their overhead.
const SHOWN_SUBSCRIPTIONS: usize = 1 << 20;
/// The overhead of a subscription, and of the rest of a connection, in JSON, which is larger than
/// protobuf.
const AROUND_SUBSCRIPTION: usize = 72;
const AROUND_CONNECTION: usize = 640;

/// Selects connections; all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionFilter {
    /// Only connections of this user.
    pub user: Option<Arc<str>>,
    /// Only connections with this role.
    pub role: Option<Arc<str>>,
    /// Only connections subscribed to this channel.
    pub channel: Option<ChannelName>,
    /// Only connections of this transport.
    pub transport: Option<Box<str>>,
    /// Only connections registered with this client type.
    pub client_type: Option<Box<str>>,
}

/// The requested page of a shard's connections.
#[derive(Debug, Clone)]
pub struct ConnectionQuery {
    /// Selects connections.
    pub filter: ConnectionFilter,
    /// The slot to start from.
    pub from: u32,
    /// The most connections.
    pub limit: usize,
    /// The most bytes of their encoded form.
    pub bytes: usize,
}

/// Some of a shard's connections.
#[derive(Debug, Default)]
pub struct ConnectionPage {
    /// The connections, in order of slot.
    pub connections: Vec<ConnectionInfo>,
    /// The slot at which to continue; `None` at the end.
    pub next: Option<u32>,
    /// The bytes of their encoded form.
    pub bytes: usize,
    /// True if the next one did not fit.
    pub full: bool,
}

impl ConnectionInfo {
    /// The most bytes of its encoded form. In JSON a quote or a backslash in a name takes two
    /// bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let user = self.user.as_ref().map_or(0, |user| user.len());
        let roles: usize = self.roles.iter().map(|role| role.len() + 2).sum();
        let client = self.client.as_ref();
        let client = client.map_or(0, |client| client.kind.len() + client.name.len());
        let subscriptions = self.subscriptions.iter();
        let subscriptions: usize = subscriptions
            .map(|(name, _)| name.len() + AROUND_SUBSCRIPTION)
            .sum();
        AROUND_CONNECTION + subscriptions + 2 * (user + roles + client)
    }
}

impl Shard {
    /// One page of connections. It ends early if the shard has visited enough of them.
    pub(super) fn list(&self, query: &ConnectionQuery) -> ConnectionPage {
        let mut page = ConnectionPage::default();
        let end = self
            .connections
            .end()
            .min(query.from.saturating_add(LOOKED_AT));
        for slot in query.from..end {
            if page.connections.len() == query.limit {
                page.next = Some(slot);
                return page;
            }
            if self.is_wanted(slot, &query.filter)
                && let Some(info) = self.describe(slot)
            {
                let size = info.size();
                if page.bytes + size > query.bytes {
                    (page.next, page.full) = (Some(slot), true);
                    return page;
                }
                page.bytes += size;
                page.connections.push(info);
            }
        }
        page.next = (end < self.connections.end()).then_some(end);
        page
    }

    /// Counts an audience's connections from a slot on; returns the slot to continue from.
    pub(in crate::hub) fn count_included(
        &self,
        event_type: &EventType,
        audience: &Audience,
        from: u32,
    ) -> (u64, Option<u32>) {
        let narrowed = self.narrowing(audience);
        let end = self.connections.end().min(from.saturating_add(LOOKED_AT));
        let included = (from..end).filter(|slot| {
            let connection = self.connections.get(*slot);
            let (Some(connection), Some(id)) = (connection, self.connections.id(*slot)) else {
                return false;
            };
            let (user, roles) = (connection.user(), connection.roles());
            connection.ending.is_none()
                && audience.includes(id, user, roles)
                && (is_named(audience, id, connection)
                    || narrowed.is_none_or(|global| {
                        let filter = type_filter(global, connection, &self.topics, &self.filters);
                        filter.is_none_or(|filter| filter.wants_type(event_type.as_str()))
                    }))
        });
        let count = u64::try_from(included.count()).unwrap_or(u64::MAX);
        (count, (end < self.connections.end()).then_some(end))
    }

    /// One connection.
    pub(super) fn connection_info(&self, id: ConnectionId) -> Option<ConnectionInfo> {
        self.describe(self.connections.find(id)?)
    }

    fn is_wanted(&self, slot: u32, filter: &ConnectionFilter) -> bool {
        let Some(connection) = self.connections.get(slot) else {
            return false;
        };
        let follows = |channel: &ChannelName| {
            let topic = self.topics.of_channel(channel);
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
        let mut shown = 0_usize;
        let subscriptions = subscriptions.take_while(|(name, _)| {
            shown += name.len() + AROUND_SUBSCRIPTION;
            shown <= SHOWN_SUBSCRIPTIONS
        });
        Some(ConnectionInfo {
            id: self.connections.id(slot)?,
            user: connection.identity.as_ref().and_then(|i| i.user().cloned()),
            roles: connection.roles().to_vec(),
            transport: connection.transport.as_str(),
            client: connection.client().cloned(),
            address: connection.address.get(),
            connected_at: ago(self.time.elapsed().saturating_sub(connection.connected_at)),
            last_seen_at: ago(self.time.now().saturating_sub(connection.last_seen)),
            subscriptions: subscriptions.collect(),
            subscription_count: connection.subscriptions.len(),
            delivered: connection.delivered,
            dropped: u64::from(connection.dropped),
            bytes_in: connection.bytes_in,
            bytes_out: connection.bytes_out,
            outbox_bytes: connection.outbox.bytes(),
            round_trip_us: connection.round_trip_us,
        })
    }
}

/// The wall-clock time this many milliseconds ago.
fn ago(ms: u64) -> Timestamp {
    let micros = Timestamp::now().as_micros();
    Timestamp::from_micros(micros.saturating_sub_unsigned(ms.saturating_mul(1000)))
}
