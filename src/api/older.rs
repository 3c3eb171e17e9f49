//! The requests and responses of the older systems' paths.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Connection, PublishResult, Published, Stats, names};
use crate::admin::ChannelInfo;
use crate::hub::ConnectionInfo;
use crate::telemetry::StatsSnapshot;

/// An event with its audience: the payload is the member `data`, or else all other members.
#[derive(Debug, ToSchema)]
pub struct Broadcast {
    /// The event type; not the name of a protocol message.
    #[schema(pattern = "^[A-Za-z][A-Za-z0-9_.-]{0,127}$")]
    pub r#type: String,
    /// The channel.
    #[schema(schema_with = names::receiving_channels)]
    pub channel: Option<Value>,
    /// The payload.
    #[schema(value_type = Value, required = false)]
    pub data: Option<Value>,
    /// When it happened; only next to `data`.
    #[schema(value_type = Value, required = false)]
    pub timestamp: Option<Value>,
    /// Users that receive it.
    #[schema(schema_with = names::receiving_users)]
    pub user: Option<Value>,
    /// Users that receive it.
    #[schema(schema_with = names::receiving_users)]
    pub users: Option<Value>,
    /// Users that receive it.
    #[schema(schema_with = names::receiving_users)]
    pub user_id: Option<Value>,
    /// Users that receive it.
    #[schema(schema_with = names::receiving_users)]
    pub user_ids: Option<Value>,
    /// Users that receive it.
    #[schema(schema_with = names::receiving_users)]
    pub target_user: Option<Value>,
    /// Users that receive it.
    #[schema(schema_with = names::receiving_users)]
    pub target_users: Option<Value>,
    /// Roles that receive it.
    #[schema(schema_with = names::receiving_roles)]
    pub role: Option<Value>,
    /// Roles that receive it.
    #[schema(schema_with = names::receiving_roles)]
    pub roles: Option<Value>,
    /// Roles that receive it.
    #[schema(schema_with = names::receiving_roles)]
    pub target_role: Option<Value>,
    /// Roles that receive it.
    #[schema(schema_with = names::receiving_roles)]
    pub target_roles: Option<Value>,
}

impl Broadcast {
    /// Next to `data` only members of the envelope are allowed, and `timestamp` must be a time.
    pub(super) fn conditions() -> Vec<(&'static str, Value)> {
        const ENVELOPE: [&str; 14] = [
            "type",
            "channel",
            "data",
            "timestamp",
            "user",
            "users",
            "user_id",
            "user_ids",
            "target_user",
            "target_users",
            "role",
            "roles",
            "target_role",
            "target_roles",
        ];
        let named = json!({
            "propertyNames": { "enum": ENVELOPE },
            "properties": { "timestamp": names::time() },
        });
        vec![("if", json!({ "required": ["data"] })), ("then", named)]
    }
}

/// The result of a broadcast.
#[derive(Debug, Serialize, ToSchema)]
pub struct Broadcasted {
    /// The event's id.
    #[schema(format = "uuid")]
    pub id: String,
    /// One for each channel.
    pub results: Vec<PublishResult>,
    /// True.
    pub success: bool,
    /// The number of connections in the audience, or of the channel's subscriptions.
    pub recipients: u64,
}

impl Broadcasted {
    /// The response to a broadcast for this many recipients.
    #[must_use]
    pub fn new(published: Published, recipients: u64) -> Self {
        Broadcasted {
            id: published.id,
            results: published.results,
            success: true,
            recipients,
        }
    }
}

/// A summary of connections, deliveries and errors.
#[derive(Debug, Serialize, ToSchema)]
pub struct Statistics {
    /// Connections now.
    pub active_connections: u64,
    /// Connections since the start.
    pub total_connections: u64,
    /// Subscriptions now.
    pub subscriptions: u64,
    /// Events delivered since the start.
    pub messages_delivered: u64,
    /// Errors since the start.
    pub errors: u64,
}

impl From<&StatsSnapshot> for Statistics {
    fn from(now: &StatsSnapshot) -> Self {
        Statistics {
            active_connections: now.connections.now,
            total_connections: now.connections.total,
            subscriptions: now.subscriptions,
            messages_delivered: now.events.delivered,
            errors: now.errors.values().sum(),
        }
    }
}

/// A page of connections, with statistics.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionReport {
    /// The connections.
    pub connections: Vec<Connection>,
    /// The number of all connections.
    pub total: u64,
    /// A summary of connections, deliveries and errors.
    pub statistics: Statistics,
    /// `page_token` of the next page; empty on the last.
    pub next_page_token: String,
}

/// A page of clients, with statistics.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClientReport {
    /// The clients.
    pub clients: Vec<Client>,
    /// The number of all connections.
    pub total: u64,
    /// A summary of connections, deliveries and errors.
    pub statistics: Statistics,
    /// `page_token` of the next page; empty on the last.
    pub next_page_token: String,
}

/// A connection, by its type, name and subscriptions.
#[derive(Debug, Serialize, ToSchema)]
pub struct Client {
    /// The connection's id.
    pub id: String,
    /// The same.
    pub client_id: String,
    /// What it registered as; `unknown` if it has not.
    pub r#type: String,
    /// The name that it registered.
    pub name: String,
    /// The token's user; `null` for anonymous ones.
    #[schema(required = true)]
    pub user: Option<String>,
    /// The channels and patterns that it is subscribed to; if there are very many, the first ones.
    pub subscriptions: Vec<String>,
    /// When it was opened.
    #[schema(format = DateTime)]
    pub connected_at: String,
    /// When it last sent anything.
    #[schema(format = DateTime)]
    pub last_seen_at: String,
}

impl From<&ConnectionInfo> for Client {
    fn from(info: &ConnectionInfo) -> Self {
        let known = Connection::from(info);
        let channels = known.subscriptions.into_iter();
        Client {
            client_id: known.id.clone(),
            id: known.id,
            r#type: known.client_type,
            name: known.client_name,
            user: known.user,
            subscriptions: channels.map(|followed| followed.channel).collect(),
            connected_at: known.connected_at,
            last_seen_at: known.last_seen_at,
        }
    }
}

/// Clients by type, the active channels and the subscriptions of each, for the first 1,000 channels
/// by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClientStats {
    /// Connections now.
    pub total_connections: u64,
    /// Subscriptions now.
    pub total_subscriptions: u64,
    /// Connections by registered type.
    pub clients_by_type: BTreeMap<String, u64>,
    /// Channels with subscriptions.
    pub active_channels: Vec<String>,
    /// Subscriptions of each.
    pub subscriptions_per_channel: BTreeMap<String, u64>,
    /// The same under the older name.
    pub rooms: BTreeMap<String, u64>,
    /// Events delivered since the start.
    pub messages_delivered: u64,
    /// Errors since the start.
    pub errors: u64,
    /// All counters.
    pub stats: Stats,
}

impl ClientStats {
    /// The statistics of these channels and counters.
    #[must_use]
    pub fn new(channels: &[ChannelInfo], now: StatsSnapshot) -> Self {
        let followed = channels.iter().filter(|channel| channel.subscribers > 0);
        let subscriptions: BTreeMap<String, u64> = followed
            .map(|channel| (channel.channel.to_string(), channel.subscribers))
            .collect();
        ClientStats {
            total_connections: now.connections.now,
            total_subscriptions: now.subscriptions,
            clients_by_type: now.connections.by_client_type.clone(),
            active_channels: subscriptions.keys().cloned().collect(),
            rooms: subscriptions.clone(),
            subscriptions_per_channel: subscriptions,
            messages_delivered: now.events.delivered,
            errors: now.errors.values().sum(),
            stats: now.into(),
        }
    }
}

/// A client that was disconnected.
#[derive(Debug, Serialize, ToSchema)]
pub struct DisconnectedClient {
    /// True.
    pub success: bool,
    /// The connection's id.
    pub client_id: String,
}
