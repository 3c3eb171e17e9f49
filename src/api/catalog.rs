//! The declared event types, and the validation of payloads.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::schema::ArrayBuilder;
use utoipa::openapi::{Ref, RefOr, Schema};

use crate::catalog::{self, KnownType, MAX_VIOLATIONS};

/// An event type. Schema and example are as they were written.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventType<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its namespace; empty for any.
    pub namespace: &'a str,
    /// Its description.
    pub description: &'a str,
    /// If not empty, only holders of one of these receive it.
    pub roles: Vec<&'a str>,
    /// JSON Schema (2020-12) of the payload, an object or a boolean; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value, required = false)]
    pub schema: Option<&'a RawValue>,
    /// A valid payload; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = serde_json::Value, required = false)]
    pub example: Option<&'a RawValue>,
}

impl<'a> From<&'a KnownType> for EventType<'a> {
    fn from(known: &'a KnownType) -> Self {
        // Both were checked to be JSON when they were loaded.
        let raw = |text: &'a str| serde_json::from_str(text).ok();
        EventType {
            name: known.name.as_str(),
            namespace: &known.namespace,
            description: &known.description,
            roles: known.roles.iter().map(|role| &**role).collect(),
            schema: known
                .schema
                .as_ref()
                .map(catalog::Schema::text)
                .and_then(raw),
            example: known.example.as_deref().and_then(raw),
        }
    }
}

impl EventType<'_> {
    /// About its size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let raw = [self.schema, self.example].into_iter().flatten();
        let raw: usize = raw.map(|raw| raw.get().len()).sum();
        let texts = [self.name, self.namespace, self.description];
        let texts = texts.iter().chain(&self.roles);
        raw + texts.map(|text| text.len() + 16).sum::<usize>()
    }
}

/// A page of event types by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventTypePage<'a> {
    /// The event types.
    pub event_types: Vec<EventType<'a>>,
    /// `page_token` of the next page; empty on the last.
    pub next_page_token: &'a str,
}

/// Whether a payload is valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Judgement {
    /// Whether it is valid.
    pub valid: bool,
    /// The violations.
    #[schema(schema_with = violations)]
    pub errors: Vec<Violation>,
}

impl Judgement {
    /// The result with these violations.
    #[must_use]
    pub fn new(violations: Vec<catalog::Violation>) -> Self {
        Judgement {
            valid: violations.is_empty(),
            errors: violations
                .into_iter()
                .map(|catalog::Violation { path, message }| Violation { path, message })
                .collect(),
        }
    }
}

fn violations() -> RefOr<Schema> {
    let violations = ArrayBuilder::new()
        .items(Ref::from_schema_name("Violation"))
        .max_items(Some(MAX_VIOLATIONS));
    violations.build().into()
}

/// An invalid place in a payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Violation {
    /// A JSON Pointer (RFC 6901) into the payload; empty for all of it.
    #[schema(format = "json-pointer")]
    pub path: String,
    /// What was expected.
    pub message: String,
}
