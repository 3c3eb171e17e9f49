//! What operators look at: the server, its statistics over time, its refusals, and why a rule answers as
//! it does.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;

use super::Shared;
use super::body;
use super::caller::Caller;
use super::query::Query;
use super::reply::{self, Answer};
use super::ticks::{self, asks_for_stream};
use crate::admin::ExplainRequest;
use crate::api::operations::{
    Explain, Explanation, RefusalStream, Refusals, StatsHistory, Subject,
};
use crate::api::refusals::{BadRequest, Guarded, NotFound, ResourceExhausted, TooLarge};
use crate::api::server::Server;
use crate::api::sources::Sources;
use crate::api::{ClusterStats, Stats};
use crate::error::{Error, Result};
use crate::event::{Timestamp, strict_json};

/// The largest body of a question, in bytes.
const QUESTION: usize = 64 * 1024;
/// How often a stream of refusals looks for new ones.
const PAUSE: Duration = Duration::from_millis(250);
/// The most refusals of one answer: all that are kept.
const MOST: u32 = 1000;

/// Shows the counters of all nodes, or of one
///
/// With `Accept: text/event-stream` those of the node that answers, periodically, as `event: stats`.
#[utoipa::path(
    get,
    path = "/api/v1/stats",
    tag = "connections",
    operation_id = "getStats",
    params(
        ("node" = Option<String>, Query, max_length = 255,
            description = "Only of this node: its name or its number."),
        ("interval_ms" = Option<u32>, Query, minimum = 100, maximum = 3_600_000,
            description = "The time between two messages of a stream; 1000 if absent."),
    ),
    responses(
        (status = 200, description = "Done.", content(
            (ClusterStats = "application/json"), (String = "text/event-stream"),
        )),
        BadRequest, NotFound, Guarded,
    ),
)]
pub(super) async fn stats(
    State(shared): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    query: Query,
) -> Answer {
    let viewer = caller.viewer()?;
    let interval = interval(&query)?;
    if !asks_for_stream(&headers) {
        return reply::json(&ClusterStats::from(viewer.stats(query.text("node")).await?));
    }
    Ok(ticks::stream(
        caller,
        &shared.lifecycle,
        interval,
        move |_| Some(ticks::message("stats", &Stats::from(viewer.stats_here()))),
    ))
}

/// The time between two readings of a stream.
fn interval(query: &Query) -> Result<Duration> {
    match query.number("interval_ms")?.unwrap_or(1000) {
        ms @ 100..=3_600_000 => Ok(Duration::from_millis(u64::from(ms))),
        _ => Err(Error::field("interval_ms", "expected 100 to 3600000")),
    }
}

/// Shows the statistics of the last hour in steps of 5 s
#[utoipa::path(
    get,
    path = "/api/v1/stats/history",
    tag = "connections",
    operation_id = "getStatsHistory",
    params(
        ("after" = Option<String>, Query, format = DateTime,
            description = "Only samples after this time."),
    ),
    responses((status = 200, description = "Done.", body = StatsHistory), BadRequest, Guarded),
)]
pub(super) async fn stats_history(caller: Caller, query: Query) -> Answer {
    let viewer = caller.viewer()?;
    let after = match query.text("after") {
        "" => None,
        text => Some(Timestamp::parse(text).ok_or_else(|| {
            Error::field(
                "after",
                "expected a time as in RFC 3339, such as 2026-11-21T10:00:00Z",
            )
        })?),
    };
    reply::json(&StatsHistory::from(viewer.stats_history(after).as_slice()))
}

/// Describes the server
///
/// Its version, nodes, store, limits with their use, namespaces and configuration.
#[utoipa::path(
    get,
    path = "/api/v1/server",
    tag = "connections",
    operation_id = "getServer",
    responses((status = 200, description = "Done.", body = Server), Guarded),
)]
pub(super) async fn server(caller: Caller) -> Answer {
    let info = caller.viewer()?.server_info().await;
    reply::json(&Server::new(info, caller.identity()))
}

/// Lists the sources of this node
///
/// State, lag, rate, failures and the newest dead letters of each.
#[utoipa::path(
    get,
    path = "/api/v1/sources",
    tag = "connections",
    operation_id = "listSources",
    responses((status = 200, description = "Done.", body = Sources), Guarded),
)]
pub(super) async fn sources(caller: Caller) -> Answer {
    let viewer = caller.viewer()?;
    reply::json(&Sources::new(viewer.node(), viewer.sources()))
}

/// Explains whether somebody may do something
///
/// Nothing is done: the rules are evaluated as they are now.
#[utoipa::path(
    post,
    path = "/api/v1/explain",
    tag = "connections",
    operation_id = "explain",
    request_body = Explain,
    responses(
        (status = 200, description = "Done.", body = Explanation),
        BadRequest, TooLarge, ResourceExhausted, Guarded,
    ),
)]
pub(super) async fn explain(caller: Caller, body: Body) -> Answer {
    let viewer = caller.viewer()?;
    let data = body::read(body, QUESTION, &caller.session()).await?;
    let asked: Explain = strict_json::operators_value(&data)
        .ok()
        .and_then(|value| serde_json::from_value(value).ok())
        .ok_or_else(|| {
            Error::invalid(
                "expected an object with action and channel, and with user or claims, roles and \
                 event_type where they matter",
            )
        })?;
    let Subject { user, claims } = asked.subject();
    let explained = viewer.explain(&ExplainRequest {
        user,
        claims,
        roles: asked.roles,
        action: asked.action,
        channel: asked.channel,
        event_type: asked.event_type,
    })?;
    reply::json(&Explanation::from(explained))
}

/// Lists the newest refusals, and closes with a reason
///
/// Newest first. With `Accept: text/event-stream` as `event: refusals`, oldest first and then new ones
/// as they happen.
#[utoipa::path(
    get,
    path = "/api/v1/refusals",
    tag = "connections",
    operation_id = "listRefusals",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000,
            description = "At most this many; 1000 if absent."),
        ("after" = Option<u64>, Query, maximum = 4_294_967_295_u64,
            description = "Only those after this `sequence`."),
    ),
    responses(
        (status = 200, description = "Done.", content(
            (Refusals = "application/json"), (String = "text/event-stream"),
        )),
        BadRequest, Guarded,
    ),
)]
pub(super) async fn refusals(
    State(shared): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    query: Query,
) -> Answer {
    let viewer = caller.viewer()?;
    let limit = query.number("limit")?.unwrap_or(MOST);
    if !(1..=MOST).contains(&limit) {
        return Err(Error::field("limit", "expected 1 to 1000").into());
    }
    let after = query.number("after")?.map_or(0, u64::from);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if !asks_for_stream(&headers) {
        let recent = viewer.refusals().after(after, limit);
        return reply::json(&Refusals::newest_first(&recent));
    }
    let mut last = after;
    Ok(ticks::stream(caller, &shared.lifecycle, PAUSE, move |_| {
        let recent = viewer.refusals().after(last, limit);
        last = recent.refusals.last()?.sequence;
        Some(ticks::message("refusals", &RefusalStream::from(&recent)))
    }))
}
