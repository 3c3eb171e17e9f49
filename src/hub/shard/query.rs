//! Answers operators' queries.

use std::sync::Arc;

use super::Shard;
use super::fanout::{is_named, type_filter};
use crate::event::{Audience, ChannelName, ConnectionId, EventType, Timestamp};
use crate::hub::network::Network;
use crate::hub::shard::connection::{ConnectionInfo, Subscription, SubscriptionInfo};

/// The most connections that one answer visits.
pub(super) const LOOKED_AT: u32 = 20_000;

/// The most bytes of the listed subscriptions of a connection, including their overhead.
const SHOWN_SUBSCRIPTIONS: usize = 1 << 20;
/// The overhead of a subscription, and of the rest of a connection, in JSON, which is larger than
/// protobuf.
const AROUND_SUBSCRIPTION: usize = 128;
const AROUND_CONNECTION: usize = 960;

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
    /// Only those from this network.
    pub address: Option<Network>,
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

impl SubscriptionInfo {
    fn size(&self) -> usize {
        let types: usize = self.event_types.iter().map(|kind| kind.len() + 3).sum();
        AROUND_SUBSCRIPTION + self.channel.len() + types + 2 * self.filter.len()
    }
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
        let subscriptions: usize = subscriptions.map(SubscriptionInfo::size).sum();
        let request = self.request.as_ref();
        let request = request.map_or(0, |r| r.user_agent.len() + r.origin.len());
        let claims: usize = self.claims.iter().map(|claim| claim.len() + 2).sum();
        let more = self.dialect.len() + self.node.len() + request + claims;
        AROUND_CONNECTION + subscriptions + 2 * (user + roles + client + more)
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

    pub(super) fn is_wanted(&self, slot: u32, filter: &ConnectionFilter) -> bool {
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
            && filter
                .address
                .is_none_or(|network| network.holds(connection.address.get().ip()))
    }

    fn describe(&self, slot: u32) -> Option<ConnectionInfo> {
        let connection = self.connections.get(slot)?;
        let subscriptions = connection.subscriptions.iter();
        let subscriptions = subscriptions.filter_map(|own| self.describe_subscription(slot, own));
        let mut shown = 0_usize;
        let subscriptions = subscriptions.take_while(|subscription| {
            shown += subscription.size();
            shown <= SHOWN_SUBSCRIPTIONS
        });
        let (identity, cold) = (connection.identity.as_ref(), connection.cold.as_ref());
        Some(ConnectionInfo {
            id: self.connections.id(slot)?,
            node: Arc::clone(self.hub.metrics().node()),
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
            request: cold.and_then(|cold| cold.request.clone()),
            dialect: connection.protocol.name().into(),
            is_compressed: connection.protocol.is_compressed(),
            expires_at: identity.and_then(|identity| identity.expires_at()),
            messages_in: cold.map_or(0, |cold| cold.messages_in),
            rate_limited: cold.map_or(0, |cold| cold.rate_limited),
            claims: identity.map_or_else(Vec::new, |identity| identity.claim_names()),
        })
    }

    fn describe_subscription(&self, slot: u32, own: &Subscription) -> Option<SubscriptionInfo> {
        let topic = self.topics.get(own.topic)?;
        let place = usize::try_from(own.at).ok()?;
        let subscriber = topic.subscribers.get(place);
        let subscriber = subscriber.filter(|subscriber| subscriber.connection == slot);
        let filter = subscriber.and_then(|subscriber| self.filters.get(subscriber.filter));
        let key = filter.map(|filter| filter.key());
        let types = key.map_or(&[][..], |key| key.types());
        Some(SubscriptionInfo {
            channel: topic.pattern.to_string(),
            position: topic.position,
            filter: key
                .and_then(|key| key.source())
                .map(ToString::to_string)
                .unwrap_or_default(),
            event_types: types.iter().map(|kind| kind.as_str().to_owned()).collect(),
            is_live: subscriber.is_some_and(|subscriber| subscriber.live),
        })
    }
}

/// The wall-clock time this many milliseconds ago.
fn ago(ms: u64) -> Timestamp {
    let micros = Timestamp::now().as_micros();
    Timestamp::from_micros(micros.saturating_sub_unsigned(ms.saturating_mul(1000)))
}
