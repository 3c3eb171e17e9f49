//! Answers to operators' questions.

use std::sync::Arc;

use super::Shard;
use super::fanout::{is_named, type_filter};
use crate::event::{Audience, ChannelName, ConnectionId, EventType, Timestamp};
use crate::hub::shard::connection::ConnectionInfo;

/// The most connections that one answer looks at.
const LOOKED_AT: u32 = 20_000;

/// The names of a connection's subscriptions that are shown, in bytes with what stands around each.
const SHOWN_SUBSCRIPTIONS: usize = 1 << 20;
/// What stands around a subscription and around the rest of a connection where they are written as
/// JSON, which takes more than protobuf.
const AROUND_SUBSCRIPTION: usize = 72;
const AROUND_CONNECTION: usize = 640;

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

/// Which page of a shard's connections is asked for.
#[derive(Debug, Clone)]
pub struct ConnectionQuery {
    /// Which connections.
    pub filter: ConnectionFilter,
    /// The slot to start from.
    pub from: u32,
    /// The most connections.
    pub limit: usize,
    /// The most bytes that they may take when they are written down.
    pub bytes: usize,
}

/// Some of a shard's connections.
#[derive(Debug, Default)]
pub struct ConnectionPage {
    /// The connections, by their places.
    pub connections: Vec<ConnectionInfo>,
    /// The place at which to go on; `None` at the end.
    pub next: Option<u32>,
    /// How many bytes they take when they are written down.
    pub bytes: usize,
    /// True if there was no room for the next one.
    pub full: bool,
}

impl ConnectionInfo {
    /// The most bytes that it takes when it is written down. In JSON a quote or a backslash of a
    /// name takes two.
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
    /// One page of connections. It ends early where the shard has looked at enough of them.
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

/// So many milliseconds before now, by the calendar.
fn ago(ms: u64) -> Timestamp {
    let micros = Timestamp::now().as_micros();
    Timestamp::from_micros(micros.saturating_sub_unsigned(ms.saturating_mul(1000)))
}
