//! The paths of the systems that came before, so that their scripts go on working.
//!
//! They answer from the same use cases as `/api/v1`, with the same roles; only the names differ.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::Uri;
use serde_json::{Value, json};

use super::Shared;
use super::body::{self, Members};
use super::caller::Caller;
use super::connections::{describe, filter, id_in};
use super::events;
use super::observe::Trace;
use super::query::Query;
use super::reply::{self, Answer};
use crate::admin::Target;
use crate::bus::ConnectionInfo;
use crate::error::Result;
use crate::event::{Audience, ChannelName, EventType, Headers, Payload, TraceContext};
use crate::session::Publish;
use crate::telemetry::StatsSnapshot;

/// What a request may hold beside its payload, in bytes.
const ENVELOPE: usize = 64 * 1024;
/// The most channels that statistics name.
const CHANNELS: u32 = 1000;
/// Members of a broadcast that are not the event's own. Those that name people never are: what was
/// meant for somebody must not go to everybody.
const ENVELOPE_MEMBERS: [&str; 7] = [
    "type",
    "event",
    "event_type",
    "channel",
    "user",
    "user_id",
    "roles",
];

/// `GET /api/v1/websocket/connections`: as `/api/v1/connections`, with how many there are, what
/// was delivered to them, and what went wrong.
pub(super) async fn connections(caller: Caller, query: Query) -> Answer {
    list(&caller, &query, "connections", describe).await
}

/// `GET /websocket/clients`: connections by their type, name and subscriptions.
pub(super) async fn clients(caller: Caller, query: Query) -> Answer {
    list(&caller, &query, "clients", client).await
}

async fn list(
    caller: &Caller,
    query: &Query,
    name: &str,
    show: fn(&ConnectionInfo) -> Value,
) -> Answer {
    let admin = caller.admin()?;
    let size = query.number("page_size")?.unwrap_or_default();
    let token = query.text("page_token");
    let (found, next) = admin.connections(filter(query)?, size, token).await?;
    let found: Vec<Value> = found.iter().map(show).collect();
    let now = admin.stats();
    reply::json(&json!({
        name: found,
        "total": now.connections.now,
        "statistics": statistics(&now),
        "next_page_token": next,
    }))
}

/// Connections, deliveries and errors, in few words.
fn statistics(now: &StatsSnapshot) -> Value {
    json!({
        "active_connections": now.connections.now,
        "total_connections": now.connections.total,
        "subscriptions": now.subscriptions,
        "messages_delivered": now.events.delivered,
        "errors": now.errors.values().sum::<u64>(),
    })
}

fn client(connection: &ConnectionInfo) -> Value {
    let known = connection.client.as_ref();
    let channels = connection.subscriptions.iter().map(|(channel, _)| channel);
    json!({
        "id": connection.id.to_string(),
        "client_id": connection.id.to_string(),
        "type": known.map_or("unknown", |client| &client.kind),
        "name": known.map_or("", |client| &client.name),
        "user": connection.user.as_deref(),
        "subscriptions": channels.collect::<Vec<_>>(),
        "connected_at": connection.connected_at.to_rfc3339(),
        "last_seen_at": connection.last_seen_at.to_rfc3339(),
    })
}

/// `GET /api/v1/websocket/stats` and `/websocket/stats`: clients by type, the active channels, and
/// the subscriptions of each, for the first 1,000 channels by name.
pub(super) async fn stats(caller: Caller) -> Answer {
    let admin = caller.admin()?;
    let (channels, _) = admin.channels("", CHANNELS, "").await?;
    let followed = channels.iter().filter(|channel| channel.subscribers > 0);
    let subscriptions: BTreeMap<&str, u64> = followed
        .map(|channel| (channel.channel.as_str(), channel.subscribers))
        .collect();
    let now = admin.stats();
    reply::json(&json!({
        "total_connections": now.connections.now,
        "total_subscriptions": now.subscriptions,
        "clients_by_type": now.connections.by_client_type,
        "active_channels": subscriptions.keys().collect::<Vec<_>>(),
        "subscriptions_per_channel": subscriptions,
        // The same by the name that rooms had.
        "rooms": subscriptions,
        "messages_delivered": now.events.delivered,
        "errors": now.errors.values().sum::<u64>(),
        "stats": now,
    }))
}

/// `POST /websocket/disconnect/{id}`: ends a connection with close code 4410.
pub(super) async fn disconnect(caller: Caller, uri: Uri) -> Answer {
    let admin = caller.admin()?;
    let id = id_in(&uri, "/websocket/disconnect/")?;
    admin.disconnect(Target::Connection(id), "", false).await?;
    reply::json(&json!({ "success": true, "client_id": id.to_string() }))
}

/// `POST /api/v1/websocket/broadcast` and `/websocket/broadcast`: an event to everyone, to a
/// channel, to a user or to roles.
pub(super) async fn broadcast(
    State(shared): State<Shared>,
    caller: Caller,
    Extension(trace): Extension<Trace>,
    body: Body,
) -> Answer {
    let session = caller.service()?;
    let limit = shared.services.limits.load().event_bytes;
    let body = body::read(body, limit.saturating_add(ENVELOPE), &session).await?;
    let event = event(&body, trace.context())?;
    let published = events::commit(&session, event).await?;
    let recipients = published
        .results
        .iter()
        .map(|result| result.receipt.subscribers);
    let recipients: u64 = recipients.sum();
    let mut answer = events::describe(&published);
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("success".to_owned(), true.into());
        answer.insert("recipients".to_owned(), recipients.into());
    }
    reply::json(&answer)
}

/// Takes a broadcast: `{type, data}` with a channel, a user or roles; or flat, where all other
/// members are the payload's own; or a flat one under `message`, beside the channel.
fn event(body: &[u8], trace: Option<&TraceContext>) -> Result<Publish> {
    let outer = Members::parse(body)?;
    let mut channel = outer.text("channel")?;
    let inner = match outer.raw("message") {
        Some(message) if kind(&outer)?.is_empty() && message.get().starts_with('{') => {
            Some(Members::parse(message.get().as_bytes())?)
        }
        _ => None,
    };
    let members = inner.as_ref().unwrap_or(&outer);
    if channel.is_empty() {
        channel = members.text("channel")?;
    }
    let payload = match members.raw("data") {
        Some(data) => Payload::from_json(data)?,
        None => Payload::new(own_members(members), "")?,
    };
    let mut audience = audience(&outer)?;
    if let (None, Some(inner)) = (&audience, &inner) {
        audience = self::audience(inner)?;
    }
    let channels = match &*channel {
        "" => Vec::new(),
        name => vec![ChannelName::new(name)?],
    };
    Ok(Publish {
        channels,
        event_type: EventType::new(kind(members)?)?,
        payload,
        headers: Headers::default(),
        key: String::new(),
        idempotency_key: String::new(),
        audience,
        source: String::new(),
        time: None,
        trace: trace.cloned(),
    })
}

/// The event's type, by any of the names that it had; empty where there is none.
fn kind<'a>(members: &Members<'a>) -> Result<Cow<'a, str>> {
    for name in ["event_type", "type", "event"] {
        let kind = members.text(name)?;
        if !kind.is_empty() {
            return Ok(kind);
        }
    }
    Ok(Cow::Borrowed(""))
}

fn audience(members: &Members<'_>) -> Result<Option<Audience>> {
    let roles: Vec<Arc<str>> = members
        .take("roles", "expected a list of strings")?
        .unwrap_or_default();
    let mut users: Vec<Arc<str>> = Vec::new();
    for name in ["user", "user_id"] {
        let user = members.text(name)?;
        if !user.is_empty() {
            users.push(Arc::from(&*user));
        }
    }
    let audience = Audience {
        users,
        roles,
        ..Audience::default()
    };
    Ok((!audience.is_everyone()).then_some(audience))
}

/// The members that are not the envelope's, as an object in the order of their names.
fn own_members(members: &Members<'_>) -> Bytes {
    let own: BTreeMap<&str, &serde_json::value::RawValue> = members
        .iter()
        .filter(|(name, _)| !ENVELOPE_MEMBERS.contains(name))
        .collect();
    let members: Vec<String> = own
        .into_iter()
        .map(|(name, value)| format!("{}:{}", Value::from(name), value.get()))
        .collect();
    format!("{{{}}}", members.join(",")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_broadcast_carries_its_own_members() {
        let flat = br#"{"type":"job_progress","channel":"jobs","progress":1.50,"job_id":"7"}"#;
        let event = event(flat, None).unwrap();
        assert_eq!(event.payload.data(), r#"{"job_id":"7","progress":1.50}"#);
        assert_eq!(event.channels, [ChannelName::new("jobs").unwrap()]);
        assert_eq!(event.audience, None);
    }

    #[test]
    fn a_flat_broadcast_may_stand_beside_its_channel() {
        let body =
            br#"{"message":{"type":"job_failed","user":"ann","error":"e"},"channel":"jobs"}"#;
        let event = event(body, None).unwrap();
        assert_eq!(event.event_type.as_str(), "job_failed");
        assert_eq!(event.payload.data(), r#"{"error":"e"}"#);
        assert_eq!(event.channels, [ChannelName::new("jobs").unwrap()]);
        assert_eq!(&*event.audience.unwrap().users[0], "ann", "and nobody else");
        let alert = br#"{"type":"system_alert","message":{"type":"x"}}"#;
        let event = super::event(alert, None).unwrap();
        assert_eq!(event.event_type.as_str(), "system_alert");
        assert_eq!(event.payload.data(), r#"{"message":{"type":"x"}}"#);
        assert!(super::event(br#"{"message":"hello"}"#, None).is_err());
    }

    #[test]
    fn a_broadcast_goes_to_a_user_or_to_roles() {
        let named = br#"{"event":"user_notification","data":{"a": 1},"user":"ann","roles":["x"]}"#;
        let event = event(named, None).unwrap();
        assert_eq!(event.payload.data(), r#"{"a": 1}"#);
        let audience = event.audience.unwrap();
        assert_eq!((&*audience.users[0], &*audience.roles[0]), ("ann", "x"));
        let wrong = super::event(br#"{"type":"a","roles":"x"}"#, None).unwrap_err();
        assert_eq!(wrong.field_name(), Some("roles"));
    }
}
