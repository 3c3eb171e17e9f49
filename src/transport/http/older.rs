//! The paths of the older systems, so that their scripts continue to work.
//!
//! They use the same use cases as `/api/v1`, with the same roles; only the names differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use http::Uri;
use serde_json::{Value, json};

use super::Shared;
use super::caller::Caller;
use super::connections::{describe, id_in, request};
use super::events;
use super::observe::Trace;
use super::query::Query;
use super::reply::{self, Answer};
use super::{body, broadcast};
use crate::admin::{ChannelsQuery, Target};
use crate::api::Stats;
use crate::hub::ConnectionInfo;
use crate::telemetry::StatsSnapshot;

/// The most bytes of a request besides its payload.
const ENVELOPE: usize = 64 * 1024;
/// Connections that are read at once for a list without pages.
const PAGE: u32 = 1000;
/// The most connections of a list without pages; `next_page_token` leads to the rest.
const MOST: usize = 10_000;
/// The most channels in the statistics.
const CHANNELS: u32 = 1000;

/// `GET /api/v1/websocket/connections`: as `/api/v1/connections`, with their number, deliveries and
/// errors.
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
    let size = query.number("page_size")?;
    let mut asked = request(query)?;
    asked.page_size = size.unwrap_or(PAGE);
    let mut found: Vec<Value> = Vec::new();
    // The old systems had no pages: without a page size, the response has as many as fit.
    let next = loop {
        let (page, next) = admin.connections(&asked).await?;
        found.extend(page.iter().map(show));
        if size.is_some() || next.is_empty() || found.len() >= MOST {
            break next;
        }
        asked.page_token = next;
    };
    let now = admin.stats().await?;
    reply::json(&json!({
        name: found,
        "total": now.connections.now,
        "statistics": statistics(&now),
        "next_page_token": next,
    }))
}

/// A summary of connections, deliveries and errors.
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
    let channels = connection
        .subscriptions
        .iter()
        .map(|subscription| &subscription.channel);
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
    let first = ChannelsQuery {
        page_size: CHANNELS,
        ..ChannelsQuery::default()
    };
    let (channels, _) = admin.channels(&first).await?;
    let followed = channels.iter().filter(|channel| channel.subscribers > 0);
    let subscriptions: BTreeMap<&str, u64> = followed
        .map(|channel| (channel.channel.as_str(), channel.subscribers))
        .collect();
    let now = admin.stats().await?;
    let errors: u64 = now.errors.values().sum();
    reply::json(&json!({
        "total_connections": now.connections.now,
        "total_subscriptions": now.subscriptions,
        "clients_by_type": now.connections.by_client_type,
        "active_channels": subscriptions.keys().collect::<Vec<_>>(),
        "subscriptions_per_channel": subscriptions,
        // The same under the older name.
        "rooms": subscriptions,
        "messages_delivered": now.events.delivered,
        "errors": errors,
        "stats": Stats::from(now),
    }))
}

/// `POST /websocket/disconnect/{id}`: closes a connection with close code 4410.
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
    let event = broadcast::event(&body, trace.context())?;
    // For an event with an audience, the broker does not count the receivers.
    let audience = event.audience.as_ref();
    let for_roles = audience.filter(|to| event.channels.is_empty() && !to.roles.is_empty());
    let included = match for_roles.cloned().map(Arc::new) {
        // Before the publish, so that a failure here means that no one received the event.
        Some(audience) => Some(
            shared
                .services
                .hub
                .count_included(&event.event_type, &audience)
                .await?,
        ),
        None => None,
    };
    let published = events::commit(&session, event).await?;
    let subscribers = published
        .results
        .iter()
        .map(|result| result.receipt.subscribers);
    let recipients = included.unwrap_or_else(|| subscribers.sum());
    let mut answer = events::describe(&published);
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("success".to_owned(), true.into());
        answer.insert("recipients".to_owned(), recipients.into());
    }
    reply::json(&answer)
}
