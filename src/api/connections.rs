//! Connections, as operators see them.

use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::names;
use crate::event::Position;
use crate::hub::ConnectionInfo;

/// A connection.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Connection {
    /// The id.
    pub id: String,
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
    /// When it came.
    #[schema(format = DateTime)]
    pub connected_at: String,
    /// When it was last heard of.
    #[schema(format = DateTime)]
    pub last_seen_at: String,
    /// What it follows; of very many the first.
    pub subscriptions: Vec<Subscription>,
    /// How many it follows; only over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub subscription_count: Option<u64>,
    /// Events handed to it.
    pub delivered: u64,
    /// Events that it lost for being slow.
    pub dropped: u64,
    /// Bytes received from it.
    pub bytes_in: u64,
    /// Bytes handed to its socket or stream.
    pub bytes_out: u64,
    /// What waits for it.
    pub outbox_bytes: u64,
    /// The newest round trip; `null` before the first.
    #[schema(required = true)]
    pub round_trip_ms: Option<f64>,
}

impl From<&ConnectionInfo> for Connection {
    fn from(info: &ConnectionInfo) -> Self {
        let client = info.client.as_ref();
        let subscriptions = info.subscriptions.iter();
        Connection {
            id: info.id.to_string(),
            user: info.user.as_ref().map(ToString::to_string),
            roles: info.roles.iter().map(ToString::to_string).collect(),
            transport: info.transport.to_owned(),
            client_type: client.map_or("unknown", |client| &client.kind).to_owned(),
            client_name: client.map_or("", |client| &client.name).to_owned(),
            address: info.address.to_string(),
            connected_at: info.connected_at.to_rfc3339(),
            last_seen_at: info.last_seen_at.to_rfc3339(),
            subscriptions: subscriptions
                .map(|(channel, position)| Subscription::new(channel, *position))
                .collect(),
            subscription_count: u64::try_from(info.subscription_count).ok(),
            delivered: info.delivered,
            dropped: info.dropped,
            bytes_in: info.bytes_in,
            bytes_out: info.bytes_out,
            outbox_bytes: u64::try_from(info.outbox_bytes).unwrap_or(u64::MAX),
            round_trip_ms: (info.round_trip_us > 0).then(|| f64::from(info.round_trip_us) / 1e3),
        }
    }
}

/// A channel that a connection follows, with where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Subscription {
    /// The channel or the pattern.
    pub channel: String,
    /// With `offset`, the position; absent without history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub epoch: Option<String>,
    /// The place in the channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub offset: Option<u64>,
}

impl Subscription {
    fn new(channel: &str, position: Option<Position>) -> Self {
        Subscription {
            channel: channel.to_owned(),
            epoch: position.map(|at| at.epoch.to_string()),
            offset: position.map(|at| at.offset),
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
}

/// How many connections were ended.
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
    /// At most 1000; 100 if absent or 0.
    #[param(maximum = 1000)]
    pub page_size: Option<u32>,
    /// `next_page_token` of the page before.
    #[param(schema_with = names::connection_page_token, required = false)]
    pub page_token: Option<String>,
}

/// How to end connections.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EndParams {
    /// Told to the client; at most 123 bytes.
    #[param(max_length = 123)]
    pub reason: Option<String>,
    /// Also takes back the connection's token, or all that the user has by now.
    pub revoke: Option<bool>,
}
