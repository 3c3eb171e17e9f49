//! Connections, as operators see them.

use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::names;
use crate::event::Timestamp;
use crate::hub::{ConnectionInfo, SubscriptionInfo};

/// A connection.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Connection {
    /// The id.
    pub id: String,
    /// The name of its node.
    pub node: String,
    /// The token's user; `null` for anonymous ones.
    #[schema(required = true)]
    pub user: Option<String>,
    /// The token's roles.
    pub roles: Vec<String>,
    /// How it is connected.
    #[schema(schema_with = names::transport)]
    pub transport: String,
    /// What it registered as; `unknown` if it has not.
    pub client_type: String,
    /// The name that it registered.
    pub client_name: String,
    /// Its network address.
    pub address: String,
    /// When it was opened.
    #[schema(format = DateTime)]
    pub connected_at: String,
    /// When it last sent anything.
    #[schema(format = DateTime)]
    pub last_seen_at: String,
    /// Its subscriptions; if there are very many, the first ones.
    pub subscriptions: Vec<Subscription>,
    /// The number of all its subscriptions; only over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub subscription_count: Option<u64>,
    /// Events delivered to it.
    pub delivered: u64,
    /// Events dropped because it was slow.
    pub dropped: u64,
    /// Bytes received from it.
    pub bytes_in: u64,
    /// Bytes passed to its socket or stream.
    pub bytes_out: u64,
    /// Bytes queued for it.
    pub outbox_bytes: u64,
    /// The round trip of the last answered Ping; `null` before the first.
    #[schema(required = true)]
    pub round_trip_ms: Option<f64>,
    /// The `User-Agent` of its request, at most 256 bytes.
    pub user_agent: String,
    /// The `Origin` of its request, at most 256 bytes.
    pub origin: String,
    /// The codec: a dialect's name on WebSocket connections.
    pub dialect: String,
    /// Whether messages to it are compressed.
    pub compression: bool,
    /// When its token expires; `null` without a token.
    #[schema(required = true, format = DateTime)]
    pub token_expires_at: Option<String>,
    /// Messages received from it.
    pub messages_in: u64,
    /// Of these, how many a rate limit refused.
    pub rate_limited: u64,
    /// The names of the token's claims, never their values.
    pub claims: Vec<String>,
}

impl From<&ConnectionInfo> for Connection {
    fn from(info: &ConnectionInfo) -> Self {
        let client = info.client.as_ref();
        let facts = info.request.as_ref();
        Connection {
            id: info.id.to_string(),
            node: info.node.to_string(),
            user: info.user.as_ref().map(ToString::to_string),
            roles: info.roles.iter().map(ToString::to_string).collect(),
            transport: info.transport.to_owned(),
            client_type: client.map_or("unknown", |client| &client.kind).to_owned(),
            client_name: client.map_or("", |client| &client.name).to_owned(),
            address: info.address.to_string(),
            connected_at: info.connected_at.to_rfc3339(),
            last_seen_at: info.last_seen_at.to_rfc3339(),
            subscriptions: info.subscriptions.iter().map(Into::into).collect(),
            subscription_count: u64::try_from(info.subscription_count).ok(),
            delivered: info.delivered,
            dropped: info.dropped,
            bytes_in: info.bytes_in,
            bytes_out: info.bytes_out,
            outbox_bytes: u64::try_from(info.outbox_bytes).unwrap_or(u64::MAX),
            user_agent: facts.map_or("", |facts| &facts.user_agent).to_owned(),
            origin: facts.map_or("", |facts| &facts.origin).to_owned(),
            dialect: info.dialect.to_string(),
            compression: info.is_compressed,
            token_expires_at: info.expires_at.map(Timestamp::to_rfc3339),
            messages_in: info.messages_in,
            rate_limited: info.rate_limited,
            claims: info.claims.clone(),
            round_trip_ms: (info.round_trip_us > 0).then(|| f64::from(info.round_trip_us) / 1e3),
        }
    }
}

/// A subscription of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Subscription {
    /// The channel or pattern.
    pub channel: String,
    /// With `offset`, its position; absent without history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub epoch: Option<String>,
    /// The offset in the channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub offset: Option<u64>,
    /// Its filter, in CEL; empty without one.
    pub filter: String,
    /// The event types that it gets; empty for all.
    pub event_types: Vec<String>,
    /// False while it is in recovery from history.
    pub live: bool,
}

impl From<&SubscriptionInfo> for Subscription {
    fn from(info: &SubscriptionInfo) -> Self {
        Subscription {
            channel: info.channel.clone(),
            epoch: info.position.map(|at| at.epoch.to_string()),
            offset: info.position.map(|at| at.offset),
            filter: info.filter.clone(),
            event_types: info.event_types.clone(),
            live: info.is_live,
        }
    }
}

/// A page of connections.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionPage {
    /// The connections.
    pub connections: Vec<Connection>,
    /// `page_token` of the next page; empty on the last.
    pub next_page_token: String,
    /// The names of nodes that did not answer within 2 s. Their connections are missing.
    pub unreachable: Vec<String>,
}

/// The number of connections that were closed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Disconnected {
    /// How many.
    pub disconnected: u64,
}

/// Which connections to list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ConnectionsParams {
    /// Only this user's.
    pub user: Option<String>,
    /// Only those with this role.
    pub role: Option<String>,
    /// Only those subscribed to this channel.
    #[param(pattern = "^[A-Za-z0-9_.:@/~-]{1,255}$")]
    pub channel: Option<String>,
    /// Only this transport's.
    #[param(schema_with = names::transport, required = false)]
    pub transport: Option<String>,
    /// Only those that registered as this.
    pub client_type: Option<String>,
    /// Only those of this node: its name or its number.
    pub node: Option<String>,
    /// Only those from this address or network, such as 192.0.2.0/24.
    pub address: Option<String>,
    /// The order. A `desc` after the name is like the parameter.
    #[param(pattern = "^(outbox|dropped|bytes|connected_at|round_trip)( (asc|desc))?$")]
    pub order_by: Option<String>,
    /// The largest first; only with `order_by`.
    pub desc: Option<bool>,
    /// At most 1000; 100 if absent or 0.
    #[param(maximum = 1000)]
    pub page_size: Option<u32>,
    /// `next_page_token` of the page before.
    #[param(schema_with = names::connection_page_token, required = false)]
    pub page_token: Option<String>,
}

/// How to close connections.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EndParams {
    /// The reason that the client receives; at most 123 bytes.
    #[param(max_length = 123)]
    pub reason: Option<String>,
    /// Also revokes the connection's token, or all tokens that the user has by now.
    pub revoke: Option<bool>,
}
