//! The declared event types, and validation of payloads.

use axum::body::Body;
use axum::extract::State;
use http::Uri;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::Shared;
use super::body;
use super::caller::Caller;
use super::query::{Query, name_in_path};
use super::reply::{self, Answer};
use crate::admin::page_size_of;
use crate::catalog::{KnownType, Schema};

/// The path of one type, before its name.
const ONE: &str = "/api/v1/catalog/";
/// A page ends once it has this many bytes: a single schema or example may have 1 MiB.
const PAGE_BYTES: usize = 1 << 20;

/// `GET /api/v1/catalog`: a page of event types, by name.
pub(super) async fn list(State(shared): State<Shared>, caller: Caller, query: Query) -> Answer {
    caller.reader()?;
    let size = page_size_of(query.number("page_size")?.unwrap_or_default())?;
    let catalog = shared.services.catalog.load();
    let mut types = catalog.after(query.text("page_token")).peekable();
    let mut page: Vec<Described<'_>> = Vec::new();
    let mut bytes = 0_usize;
    while page.len() < size
        && bytes < PAGE_BYTES
        && let Some(known) = types.next()
    {
        let described = Described::new(known);
        bytes = bytes.saturating_add(described.bytes());
        page.push(described);
    }
    let more = types.peek().is_some();
    let last = page.last().filter(|_| more).map(|last| last.name);
    reply::json(&Page {
        next_page_token: last.unwrap_or_default(),
        event_types: page,
    })
}

/// `GET /api/v1/catalog/{type}`: one event type.
pub(super) async fn show(State(shared): State<Shared>, caller: Caller, uri: Uri) -> Answer {
    caller.reader()?;
    let name = name_in_path(&uri, ONE, "")?;
    let catalog = shared.services.catalog.load();
    reply::json(&Described::new(catalog.known(&name)?))
}

/// `POST /api/v1/catalog/{type}/validate`: whether a strict catalog would accept the body as a
/// payload.
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
    let errors = violations
        .iter()
        .map(|violation| json!({ "path": violation.path, "message": violation.message }));
    reply::json(&json!({
        "valid": violations.is_empty(),
        "errors": errors.collect::<Vec<_>>(),
    }))
}

#[derive(Serialize)]
struct Page<'a> {
    event_types: Vec<Described<'a>>,
    next_page_token: &'a str,
}

/// An event type in the response. Schema and example stay unchanged.
#[derive(Serialize)]
struct Described<'a> {
    name: &'a str,
    namespace: &'a str,
    description: &'a str,
    roles: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    example: Option<&'a RawValue>,
}

impl<'a> Described<'a> {
    fn new(known: &'a KnownType) -> Self {
        // Both were validated as JSON when they were loaded.
        let raw = |text: &'a str| serde_json::from_str(text).ok();
        Described {
            name: known.name.as_str(),
            namespace: &known.namespace,
            description: &known.description,
            roles: known.roles.iter().map(|role| &**role).collect(),
            schema: known.schema.as_ref().map(Schema::text).and_then(raw),
            example: known.example.as_deref().and_then(raw),
        }
    }

    /// Its approximate size in bytes.
    fn bytes(&self) -> usize {
        let raw = [self.schema, self.example].into_iter().flatten();
        let raw: usize = raw.map(|raw| raw.get().len()).sum();
        let texts = [self.name, self.namespace, self.description];
        let texts = texts.iter().chain(&self.roles);
        raw + texts.map(|text| text.len() + 16).sum::<usize>()
    }
}
