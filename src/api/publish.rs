//! Publishing: requests and results.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::names;
use crate::error::{Error, Result};
use crate::event::{self, ConnectionId};
use crate::session::Published as Outcome;

/// An event to publish. The payload is JSON in `data`, or bytes of another media type in `data_base64`.
#[derive(Debug, ToSchema)]
pub struct PublishRequest<'a> {
    /// The channels.
    #[schema(schema_with = names::channels, required = false)]
    pub channels: Vec<String>,
    /// The event type; not the name of a protocol message.
    #[schema(pattern = "^[A-Za-z][A-Za-z0-9_.-]{0,127}$")]
    pub r#type: Cow<'a, str>,
    /// Any JSON; passed on byte for byte.
    #[schema(value_type = Value, required = false)]
    pub data: Option<&'a RawValue>,
    /// Bytes in standard base64 with padding (RFC 4648 §4).
    #[schema(
        content_encoding = "base64",
        pattern = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"
    )]
    pub data_base64: Option<Cow<'a, str>>,
    /// The payload's media type; `application/json` if absent.
    pub content_type: Option<Cow<'a, str>>,
    /// Application headers of the event.
    #[schema(schema_with = names::headers, required = false)]
    pub headers: HashMap<String, String>,
    /// Of several events with the same key, only the newest may be delivered.
    #[schema(schema_with = names::key, required = false)]
    pub key: Cow<'a, str>,
    /// A repeat within five minutes returns the id and position of the first one.
    #[schema(schema_with = names::idempotency_key, required = false)]
    pub idempotency_key: Cow<'a, str>,
    /// Who receives it; everybody in the channels if absent.
    pub audience: Option<Audience>,
    /// The origin of the event.
    #[schema(schema_with = names::source, required = false)]
    pub source: Cow<'a, str>,
    /// When it happened.
    #[schema(schema_with = names::time, required = false)]
    pub time: Cow<'a, str>,
    /// The trace context (W3C Trace Context).
    pub traceparent: Option<Cow<'a, str>>,
    /// The vendors' part of the trace context.
    pub tracestate: Option<Cow<'a, str>>,
    /// How long it may be replayed and read.
    #[schema(schema_with = names::ttl, required = false)]
    pub ttl: Cow<'a, str>,
    /// Whether it is only delivered, and not kept in the history.
    pub skip_history: Option<bool>,
    /// Publishes only if this is the channel's newest offset; needs exactly one channel.
    #[schema(maximum = 18_446_744_073_709_551_615_u64)]
    pub expected_offset: Option<u64>,
}

impl PublishRequest<'_> {
    /// The names of its members.
    pub const MEMBERS: [&'static str; 16] = [
        "channels",
        "type",
        "data",
        "data_base64",
        "content_type",
        "headers",
        "key",
        "idempotency_key",
        "audience",
        "source",
        "time",
        "traceparent",
        "tracestate",
        "ttl",
        "skip_history",
        "expected_offset",
    ];

    /// The conditions on several members together. They are `if` and `then`, which generators of
    /// clients ignore: from `anyOf` they would generate several types.
    pub(super) fn conditions() -> Vec<(&'static str, Value)> {
        let json_payload = json!({ "properties": {
            "content_type": names::json_media(), "data_base64": { "enum": ["", null] },
        } });
        let bytes_payload = json!({
            "required": ["data_base64", "content_type"],
            "properties": {
                "content_type": names::other_media(), "data_base64": { "type": "string" },
            },
        });
        // A key is scoped to a channel: `global` if neither channel nor audience is named.
        let key_needs_channel = json!({
            "if": {
                "required": ["idempotency_key"],
                "properties": {
                    "idempotency_key": { "type": "string", "minLength": 1 },
                    "audience": { "type": "object" },
                },
            },
            "then": {
                "required": ["channels"],
                "properties": { "channels": { "type": "array", "minItems": 1 } },
            },
        });
        // An offset belongs to one channel: `global` if neither channel nor audience is named.
        let offset_needs_channel = json!({
            "if": { "properties": { "expected_offset": { "type": "integer" } } },
            "then": {
                "properties": { "channels": { "maxItems": 1 } },
                "if": {
                    "required": ["audience"],
                    "properties": { "audience": { "type": "object" } },
                },
                "then": {
                    "required": ["channels"],
                    "properties": { "channels": { "type": "array", "minItems": 1 } },
                },
            },
        });
        vec![
            ("additionalProperties", false.into()),
            ("if", json!({ "required": ["data"] })),
            ("then", json_payload),
            ("else", bytes_payload),
            (
                "dependentSchemas",
                json!({ "audience": key_needs_channel, "expected_offset": offset_needs_channel }),
            ),
        ]
    }
}

/// Who receives an event. At least one list must have an entry.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Audience {
    /// Users.
    #[schema(schema_with = names::users)]
    pub users: Vec<Arc<str>>,
    /// Holders of one of these roles.
    #[schema(schema_with = names::roles)]
    pub roles: Vec<Arc<str>>,
    /// Ids of connections.
    #[schema(schema_with = names::connections)]
    pub connections: Vec<String>,
    /// Ids of connections that do not receive it.
    #[schema(schema_with = names::connections)]
    pub except_connections: Vec<String>,
}

impl Audience {
    /// The expected value, for error messages.
    pub const EXPECTED: &'static str =
        "expected {users, roles, connections, except_connections}, each a list of strings";

    /// The audience.
    ///
    /// # Errors
    /// `invalid_argument` if a connection's id is malformed, or nobody is named.
    pub fn checked(self) -> Result<event::Audience> {
        let ids = |names: &[String]| -> Result<Vec<ConnectionId>> {
            let ids = names.iter().map(|name| name.parse());
            ids.collect::<Result<_>>()
                .map_err(|error| error.within("audience"))
        };
        let audience = event::Audience {
            connections: ids(&self.connections)?,
            except_connections: ids(&self.except_connections)?,
            users: self.users,
            roles: self.roles,
        };
        // An empty list must not become everybody.
        if audience.is_everyone() && audience.except_connections.is_empty() {
            let expected = "expected users, roles or connections: it names nobody; \
                            leave it out for everybody";
            return Err(Error::field("audience", expected));
        }
        Ok(audience)
    }

    /// At least one list must have an entry.
    pub(super) fn conditions() -> Vec<(&'static str, Value)> {
        let none = json!({ "maxItems": 0 });
        let nobody = json!({ "properties": {
            "users": none, "roles": none, "connections": none, "except_connections": none,
        } });
        vec![("if", nobody), ("then", false.into())]
    }
}

/// A CloudEvent 1.0 in the structured mode. Other attributes become headers of the event.
#[derive(Debug, ToSchema)]
pub struct CloudEvent {
    /// The version of the specification.
    #[schema(pattern = "^1\\.0$")]
    pub specversion: String,
    /// With `source`, the event's idempotency key.
    #[schema(min_length = 1)]
    pub id: String,
    /// Its origin: 1 to 255 bytes in UTF-8.
    #[schema(pattern = "^([\\x00-\\x7f]{1,255}|[\\s\\S]{1,63})$")]
    pub source: String,
    /// The event type; not the name of a protocol message.
    #[schema(pattern = "^[A-Za-z][A-Za-z0-9_.-]{0,127}$")]
    pub r#type: String,
    /// When it happened.
    #[schema(schema_with = names::time)]
    pub time: Option<String>,
    /// The channel.
    #[schema(pattern = "^[A-Za-z0-9_.:@/~-]{0,255}$")]
    pub channel: Option<String>,
    /// The channel if `channel` is absent; `global` without either.
    pub subject: Option<String>,
    /// The payload's media type; `application/json` if absent.
    pub datacontenttype: Option<String>,
    /// The payload; a string if `datacontenttype` is not JSON.
    #[schema(value_type = Value, required = false)]
    pub data: Option<Value>,
    /// The payload's bytes in standard base64 with padding (RFC 4648 §4).
    #[schema(
        content_encoding = "base64",
        pattern = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"
    )]
    pub data_base64: Option<String>,
}

impl CloudEvent {
    /// The conditions on several attributes together, and on extensions.
    pub(super) fn conditions() -> Vec<(&'static str, Value)> {
        let has_other_media = json!({
            "required": ["datacontenttype"],
            "properties": { "datacontenttype": names::other_media() },
        });
        // Data of another media type is a string (JSON event format §3.1).
        let has_data = json!({
            "if": has_other_media,
            "then": { "properties": { "data": { "type": "string" } } },
            "else": { "properties": { "datacontenttype": names::json_media() } },
        });
        let has_bytes = json!({
            "required": ["datacontenttype"],
            "properties": {
                "datacontenttype": names::other_media(), "data_base64": { "type": "string" },
                "data": false,
            },
        });
        let subject_is_channel = json!({
            "if": {
                "required": ["channel"],
                "properties": { "channel": { "type": "string", "minLength": 1 } },
            },
            "else": { "properties": { "subject": { "pattern": "^[A-Za-z0-9_.:@/~-]{0,255}$" } } },
        });
        vec![
            (
                "additionalProperties",
                json!({ "type": ["string", "number", "boolean", "null"] }),
            ),
            (
                "propertyNames",
                json!({ "pattern": "^([a-z0-9]{1,20}|data_base64)$" }),
            ),
            ("if", json!({ "required": ["data_base64"] })),
            ("then", has_bytes),
            ("else", has_data),
            ("dependentSchemas", json!({ "subject": subject_is_channel })),
        ]
    }
}

/// A batch of CloudEvents.
#[derive(Debug, ToSchema)]
#[schema(max_items = 1000)]
pub struct CloudEventBatch(pub Vec<Value>);

/// The result of a publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Published {
    /// The event's id.
    #[schema(format = "uuid")]
    pub id: String,
    /// The result in each channel.
    pub results: Vec<PublishResult>,
}

/// The result of a publish in one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PublishResult {
    /// The channel; `null` for an event that was sent directly to its audience.
    #[schema(required = true)]
    pub channel: Option<String>,
    /// With `offset`, the event's position; absent without history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub epoch: Option<String>,
    /// Its offset in the channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub offset: Option<u64>,
    /// The number of subscriptions that it was passed to.
    pub subscribers: u64,
    /// Whether its idempotency key was known already.
    pub duplicate: bool,
}

impl From<&Outcome> for Published {
    fn from(outcome: &Outcome) -> Self {
        let results = outcome.results.iter().map(|result| PublishResult {
            channel: result.channel.as_ref().map(ToString::to_string),
            epoch: result.receipt.position.map(|at| at.epoch.to_string()),
            offset: result.receipt.position.map(|at| at.offset),
            subscribers: result.receipt.subscribers,
            duplicate: result.receipt.duplicate,
        });
        Published {
            id: outcome.id.to_string(),
            results: results.collect(),
        }
    }
}

/// The result of one event of a batch: `id` and `results`, or `error`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct BatchEntry {
    /// The event's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = "uuid")]
    pub id: Option<String>,
    /// The result in each channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub results: Option<Vec<PublishResult>>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub error: Option<ErrorBody>,
}

impl From<Published> for BatchEntry {
    fn from(published: Published) -> Self {
        BatchEntry {
            id: Some(published.id),
            results: Some(published.results),
            error: None,
        }
    }
}

impl From<&Error> for BatchEntry {
    fn from(error: &Error) -> Self {
        BatchEntry {
            id: None,
            results: None,
            error: Some(error.into()),
        }
    }
}

/// An error, like the protocol's message `error`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ErrorBody {
    /// Its code, with gRPC's name.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// The invalid field, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub details: Option<ErrorDetails>,
    /// How long to wait before a retry, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub retry_after_ms: Option<u64>,
}

/// An invalid field.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ErrorDetails {
    /// Its name.
    pub field: String,
    /// What was expected.
    pub expected: String,
    /// Invalid places in the field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<super::Violation>,
}

impl From<&Error> for ErrorBody {
    fn from(error: &Error) -> Self {
        let places = error.wrong_places().iter();
        let details = error.field_name().map(|field| ErrorDetails {
            field: field.to_owned(),
            expected: error.description().to_owned(),
            errors: places
                .map(|(path, expected)| super::Violation {
                    path: path.clone(),
                    message: expected.clone(),
                })
                .collect(),
        });
        let millis = |wait: std::time::Duration| wait.as_micros().div_ceil(1000);
        ErrorBody {
            code: error.code().as_str().to_owned(),
            message: error.message(),
            details,
            retry_after_ms: error
                .retry_delay()
                .map(|wait| u64::try_from(millis(wait)).unwrap_or(u64::MAX)),
        }
    }
}

/// An event.
#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    /// The event type.
    pub r#type: String,
    /// The channel; absent for an event that was sent directly to its audience.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub channel: Option<String>,
    /// The id.
    #[schema(format = "uuid")]
    pub id: String,
    /// When it happened.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// Its offset in the channel; absent without history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub offset: Option<u64>,
    /// The epoch of the offset; only from `tidings tail` and `tidings history`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub epoch: Option<String>,
    /// Its application headers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The payload as published, if it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value, required = false)]
    pub data: Option<Box<RawValue>>,
    /// The payload's bytes, if it is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, content_encoding = "base64")]
    pub data_base64: Option<String>,
    /// The payload's media type; absent for `application/json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub content_type: Option<String>,
    /// The trace context (W3C Trace Context).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub traceparent: Option<String>,
    /// The vendors' part of the trace context.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub tracestate: Option<String>,
}
