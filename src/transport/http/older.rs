//! The paths of the older systems, so that their scripts continue to work.
//!
//! They use the same use cases as `/api/v1`, with the same roles; only the names differ.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use http::Uri;

use super::Shared;
use super::caller::Caller;
use super::connections::{id_in, request};
use super::events;
use super::observe::Trace;
use super::query::Query;
use super::reply::{self, Answer};
use super::{body, broadcast};
use crate::admin::{ChannelsQuery, Target};
use crate::api::ConnectionsParams;
use crate::api::older::{
    Broadcast, Broadcasted, ClientReport, ClientStats, ConnectionReport, DisconnectedClient,
};
use crate::api::refusals::{BadRequest, Guarded, NotFound, ResourceExhausted, TooLarge};
use crate::error::Result;
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

/// Lists connections
///
/// Like `/api/v1/connections`, with their number, deliveries and errors.
#[utoipa::path(
    get,
    path = "/api/v1/websocket/connections",
    tag = "older",
    operation_id = "listWebsocketConnections",
    params(ConnectionsParams),
    responses(
        (status = 200, description = "Done.", body = ConnectionReport),
        BadRequest, NotFound, Guarded,
    ),
)]
pub(super) async fn connections(caller: Caller, query: Query) -> Answer {
    let (found, now, next_page_token) = find(&caller, &query).await?;
    reply::json(&ConnectionReport {
        connections: found.iter().map(Into::into).collect(),
        total: now.connections.now,
        statistics: (&now).into(),
        next_page_token,
    })
}

/// Lists clients
///
/// Connections by their type, name and subscriptions.
#[utoipa::path(
    get,
    path = "/websocket/clients",
    tag = "older",
    operation_id = "listClients",
    params(ConnectionsParams),
    responses(
        (status = 200, description = "Done.", body = ClientReport),
        BadRequest, NotFound, Guarded,
    ),
)]
pub(super) async fn clients(caller: Caller, query: Query) -> Answer {
    let (found, now, next_page_token) = find(&caller, &query).await?;
    reply::json(&ClientReport {
        clients: found.iter().map(Into::into).collect(),
        total: now.connections.now,
        statistics: (&now).into(),
        next_page_token,
    })
}

/// A page of connections, the counters, and the token of the next page.
async fn find(
    caller: &Caller,
    query: &Query,
) -> Result<(Vec<ConnectionInfo>, StatsSnapshot, String)> {
    let admin = caller.admin()?;
    let size = query.number("page_size")?;
    let mut asked = request(query)?;
    asked.page_size = size.unwrap_or(PAGE);
    let mut found = Vec::new();
    // The old systems had no pages: without a page size, the response has as many as fit.
    let next = loop {
        let page = admin.connections(&asked).await?;
        let next = page.next_page_token;
        found.extend(page.connections);
        if size.is_some() || next.is_empty() || found.len() >= MOST {
            break next;
        }
        asked.page_token = next;
    };
    Ok((found, admin.stats("").await?.total, next))
}

/// Shows the counters
///
/// Clients by type, the active channels and the subscriptions of each, for the first 1,000 channels
/// by name.
#[utoipa::path(
    get,
    path = "/api/v1/websocket/stats",
    tag = "older",
    operation_id = "websocketStats",
    responses((status = 200, description = "Done.", body = ClientStats), Guarded),
)]
pub(super) async fn stats(caller: Caller) -> Answer {
    let admin = caller.admin()?;
    let first = ChannelsQuery {
        page_size: CHANNELS,
        ..ChannelsQuery::default()
    };
    let (channels, _) = admin.channels(&first).await?;
    reply::json(&ClientStats::new(&channels, admin.stats("").await?.total))
}

/// Closes a connection (close code 4410)
#[utoipa::path(
    post,
    path = "/websocket/disconnect/{id}",
    tag = "older",
    operation_id = "disconnectClient",
    params(("id" = String, Path, description = "The connection's id.")),
    responses((status = 200, description = "Done.", body = DisconnectedClient), NotFound, Guarded),
)]
pub(super) async fn disconnect(caller: Caller, uri: Uri) -> Answer {
    let admin = caller.admin()?;
    let id = id_in(&uri, "/websocket/disconnect/")?;
    admin.disconnect(Target::Connection(id), "", false).await?;
    reply::json(&DisconnectedClient {
        success: true,
        client_id: id.to_string(),
    })
}

/// Publishes an event
///
/// To everyone, to a channel, to users or to roles.
#[utoipa::path(
    post,
    path = "/api/v1/websocket/broadcast",
    tag = "older",
    operation_id = "websocketBroadcast",
    request_body = Broadcast,
    responses(
        (status = 200, description = "Done.", body = Broadcasted),
        BadRequest, TooLarge, ResourceExhausted, Guarded,
    ),
)]
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
    reply::json(&Broadcasted::new((&published).into(), recipients))
}
