//! The known event types, and whether a payload would be accepted.

use axum::body::Body;
use axum::extract::State;
use http::Uri;
use serde_json::{Value, json};

use super::Shared;
use super::body;
use super::caller::Caller;
use super::query::{Query, name_in_path};
use super::reply::{self, Answer};
use crate::admin::page_size_of;
use crate::catalog::KnownType;
use crate::error::{Error, Result};
use crate::event::Payload;

/// The path of one type, before its name.
const ONE: &str = "/api/v1/catalog/";

/// `GET /api/v1/catalog`: a page of event types, by name.
pub(super) async fn list(State(shared): State<Shared>, caller: Caller, query: Query) -> Answer {
    caller.service()?;
    let size = page_size_of(query.number("page_size")?.unwrap_or_default())?;
    let catalog = shared.services.catalog.load();
    let mut types = catalog.after(query.text("page_token"));
    let page: Vec<&KnownType> = types.by_ref().take(size).collect();
    let more = types.next().is_some();
    let last = page.last().filter(|_| more).map(|last| last.name.as_str());
    reply::json(&json!({
        "event_types": page.iter().map(|known| describe(known)).collect::<Vec<_>>(),
        "next_page_token": last.unwrap_or_default(),
    }))
}

/// `GET /api/v1/catalog/{type}`: one event type.
pub(super) async fn show(State(shared): State<Shared>, caller: Caller, uri: Uri) -> Answer {
    caller.service()?;
    let name = name_in_path(&uri, ONE, "")?;
    let catalog = shared.services.catalog.load();
    reply::json(&describe(catalog.get(&name).ok_or_else(unknown)?))
}

/// `POST /api/v1/catalog/{type}/validate`: whether the body would be accepted as a payload.
pub(super) async fn validate(
    State(shared): State<Shared>,
    caller: Caller,
    uri: Uri,
    body: Body,
) -> Answer {
    caller.service()?;
    let name = name_in_path(&uri, ONE, "/validate")?;
    let limit = shared.services.limits.load().event_bytes;
    let data = body::read(body, limit).await?;
    if shared.services.catalog.load().get(&name).is_none() {
        return Err(unknown().into());
    }
    reply::json(&judgement(&Payload::new(data, "").map(|_| ())))
}

fn judgement(judged: &Result<()>) -> Value {
    let errors: Vec<Value> = match judged {
        Ok(()) => Vec::new(),
        Err(error) => vec![json!({ "path": "", "message": error.description() })],
    };
    json!({ "valid": judged.is_ok(), "errors": errors })
}

fn unknown() -> Error {
    Error::not_found("this event type is not in the catalog")
}

fn describe(known: &KnownType) -> Value {
    json!({
        "name": known.name.as_str(),
        "namespace": known.namespace,
        "description": known.description,
        "roles": known.roles.iter().map(|role| &**role).collect::<Vec<_>>(),
    })
}
