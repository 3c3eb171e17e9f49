//! Statistics, and the connections of all transports, for operators.

use http::Uri;
use serde_json::{Value, json};

use super::caller::Caller;
use super::query::{Query, name_in_path};
use super::reply::{self, Answer};
use crate::admin::{ConnectionsRequest, Target, parse_order};
use crate::error::{Error, Result};
use crate::event::{ChannelName, ConnectionId, Position, Timestamp};
use crate::hub::{ConnectionFilter, ConnectionInfo, ConnectionOrder};
use crate::telemetry::Transport;

/// The path of one connection, before its id.
const ONE: &str = "/api/v1/connections/";

/// `GET /api/v1/connections`: a page of connections.
pub(super) async fn list(caller: Caller, query: Query) -> Answer {
    let viewer = caller.viewer()?;
    let (connections, next) = viewer.connections(&request(&query)?).await?;
    let connections: Vec<Value> = connections.iter().map(describe).collect();
    reply::json(&json!({ "connections": connections, "next_page_token": next }))
}

/// Which page of which connections a query asks for.
pub(super) fn request(query: &Query) -> Result<ConnectionsRequest> {
    let orders = ConnectionOrder::ALL.map(|order| (order.as_str(), order));
    Ok(ConnectionsRequest {
        filter: filter(query)?,
        order: parse_order(query.text("order_by"), query.flag("desc")?, orders)?,
        page_size: query.number("page_size")?.unwrap_or_default(),
        page_token: query.text("page_token").to_owned(),
    })
}

fn filter(query: &Query) -> Result<ConnectionFilter> {
    let text = |name| query.all(name).next();
    let transport = text("transport");
    if transport.is_some_and(|asked| Transport::ALL.iter().all(|known| known.as_str() != asked)) {
        return Err(Error::field("transport", Transport::expected()));
    }
    Ok(ConnectionFilter {
        user: text("user").map(Into::into),
        role: text("role").map(Into::into),
        channel: text("channel").map(ChannelName::new).transpose()?,
        transport: transport.map(Into::into),
        client_type: text("client_type").map(Into::into),
        address: text("address").map(str::parse).transpose()?,
    })
}

/// `GET /api/v1/connections/{id}`: one connection.
pub(super) async fn show(caller: Caller, uri: Uri) -> Answer {
    let viewer = caller.viewer()?;
    let connection = viewer.connection(id_in(&uri, ONE)?).await?;
    reply::json(&describe(&connection))
}

/// `DELETE /api/v1/connections/{id}?reason=&revoke=`: closes a connection with close code 4410.
pub(super) async fn end(caller: Caller, uri: Uri, query: Query) -> Answer {
    let admin = caller.admin()?;
    let target = Target::Connection(id_in(&uri, ONE)?);
    let (reason, revoke) = (query.text("reason"), query.flag("revoke")?);
    admin.disconnect(target, reason, revoke).await?;
    Ok(reply::nothing())
}

/// `DELETE /api/v1/connections?user=&reason=&revoke=`: closes all connections of a user. The user
/// is required, so that a forgotten parameter can't close everybody's connections.
pub(super) async fn end_all(caller: Caller, query: Query) -> Answer {
    let admin = caller.admin()?;
    let user = query.text("user");
    if user.is_empty() {
        return Err(Error::field("user", "expected a user's name").into());
    }
    let (reason, revoke) = (query.text("reason"), query.flag("revoke")?);
    let target = Target::User(user.to_owned());
    let disconnected = admin.disconnect(target, reason, revoke).await?;
    reply::json(&json!({ "disconnected": disconnected }))
}

/// The connection whose id ends a path; a malformed id matches no connection.
pub(super) fn id_in(uri: &Uri, before: &str) -> Result<ConnectionId> {
    let name = name_in_path(uri, before, "")?;
    name.parse()
        .map_err(|_| Error::not_found("no such connection"))
}

/// A connection, as shown to operators.
pub(super) fn describe(connection: &ConnectionInfo) -> Value {
    let subscriptions = connection.subscriptions.iter();
    let subscriptions = subscriptions.map(|subscription| {
        let mut entry = at_position(&subscription.channel, subscription.position);
        if let Some(entry) = entry.as_object_mut() {
            let more = [
                ("filter", json!(subscription.filter)),
                ("event_types", json!(subscription.event_types)),
                ("live", json!(subscription.is_live)),
            ];
            entry.extend(more.map(|(name, value)| (name.to_owned(), value)));
        }
        entry
    });
    let facts = connection.request.as_ref();
    let client = connection.client.as_ref();
    let round_trip =
        (connection.round_trip_us > 0).then(|| f64::from(connection.round_trip_us) / 1e3);
    json!({
        "id": connection.id.to_string(),
        "user": connection.user.as_deref(),
        "roles": connection.roles.iter().map(|role| &**role).collect::<Vec<_>>(),
        "transport": connection.transport,
        "client_type": client.map_or("unknown", |client| &client.kind),
        "client_name": client.map_or("", |client| &client.name),
        "address": connection.address.to_string(),
        "connected_at": connection.connected_at.to_rfc3339(),
        "last_seen_at": connection.last_seen_at.to_rfc3339(),
        "subscriptions": subscriptions.collect::<Vec<_>>(),
        "subscription_count": connection.subscription_count,
        "delivered": connection.delivered,
        "dropped": connection.dropped,
        "bytes_in": connection.bytes_in,
        "bytes_out": connection.bytes_out,
        "outbox_bytes": connection.outbox_bytes,
        "round_trip_ms": round_trip,
        "user_agent": facts.map_or("", |facts| &facts.user_agent),
        "origin": facts.map_or("", |facts| &facts.origin),
        "dialect": connection.dialect,
        "compression": connection.is_compressed,
        "token_expires_at": connection.expires_at.map(Timestamp::to_rfc3339),
        "messages_in": connection.messages_in,
        "rate_limited": connection.rate_limited,
        "claims": connection.claims,
    })
}

/// A channel with its position; without a position if it keeps no history.
pub(super) fn at_position(channel: &str, position: Option<Position>) -> Value {
    match position {
        None => json!({ "channel": channel }),
        Some(Position { epoch, offset }) => {
            json!({ "channel": channel, "epoch": epoch.to_string(), "offset": offset })
        }
    }
}
