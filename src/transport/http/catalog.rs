//! The declared event types, and validation of payloads.

use axum::body::Body;
use axum::extract::State;
use http::Uri;

use super::Shared;
use super::body;
use super::caller::Caller;
use super::query::{Query, name_in_path};
use super::reply::{self, Answer};
use crate::admin::page_size_of;
use crate::api::refusals::{BadRequest, Guarded, NotFound, TooLarge};
use crate::api::{EventType, EventTypePage, Judgement};

/// The path of one type, before its name.
const ONE: &str = "/api/v1/catalog/";
/// A page ends once it has this many bytes: a single schema or example may have 1 MiB.
const PAGE_BYTES: usize = 1 << 20;

/// Lists event types
///
/// A page ends early when its schemas and examples have a mebibyte.
#[utoipa::path(
    get,
    path = "/api/v1/catalog",
    tag = "catalog",
    operation_id = "listEventTypes",
    params(
        ("page_size" = Option<u32>, Query, maximum = 1000,
            description = "At most 1000; 100 if absent or 0."),
        ("page_token" = Option<String>, Query,
            description = "`next_page_token` of the page before."),
    ),
    responses((status = 200, description = "Done.", body = EventTypePage), BadRequest, Guarded),
)]
pub(super) async fn list(State(shared): State<Shared>, caller: Caller, query: Query) -> Answer {
    caller.reader()?;
    let size = page_size_of(query.number("page_size")?.unwrap_or_default())?;
    let catalog = shared.services.catalog.load();
    let mut types = catalog.after(query.text("page_token")).peekable();
    let mut page: Vec<EventType<'_>> = Vec::new();
    let mut bytes = 0_usize;
    while page.len() < size
        && bytes < PAGE_BYTES
        && let Some(known) = types.next()
    {
        let described = EventType::from(known);
        bytes = bytes.saturating_add(described.bytes());
        page.push(described);
    }
    let more = types.peek().is_some();
    let last = page.last().filter(|_| more).map(|last| last.name);
    reply::json(&EventTypePage {
        next_page_token: last.unwrap_or_default(),
        event_types: page,
    })
}

/// Shows an event type
#[utoipa::path(
    get,
    path = "/api/v1/catalog/{type}",
    tag = "catalog",
    operation_id = "getEventType",
    params(("type" = String, Path, description = "The event type.")),
    responses((status = 200, description = "Done.", body = EventType), NotFound, Guarded),
)]
pub(super) async fn show(State(shared): State<Shared>, caller: Caller, uri: Uri) -> Answer {
    caller.reader()?;
    let name = name_in_path(&uri, ONE, "")?;
    let catalog = shared.services.catalog.load();
    reply::json(&EventType::from(catalog.known(&name)?))
}

/// Says whether a strict catalog would accept the body as a payload
#[utoipa::path(
    post,
    path = "/api/v1/catalog/{type}/validate",
    tag = "catalog",
    operation_id = "validateEvent",
    params(("type" = String, Path, description = "The event type.")),
    request_body(content = serde_json::Value, content_type = "application/json"),
    responses(
        (status = 200, description = "Done.", body = Judgement),
        BadRequest, NotFound, TooLarge, Guarded,
    ),
)]
pub(super) async fn validate(
    State(shared): State<Shared>,
    caller: Caller,
    uri: Uri,
    body: Body,
) -> Answer {
    let session = caller.reader()?;
    let name = name_in_path(&uri, ONE, "/validate")?;
    let limit = shared.services.limits.load().event_bytes;
    let data = body::read(body, limit, &session).await?;
    let violations = shared.services.catalog.load().validate(&name, &data)?;
    reply::json(&Judgement::new(violations))
}
