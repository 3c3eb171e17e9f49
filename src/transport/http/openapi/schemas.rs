//! The schemas of requests and responses.

use serde_json::{Map, Value, json};

use super::{names, operations, sources};
use crate::catalog::MAX_VIOLATIONS;
use crate::event::Audience;
use crate::telemetry::Transport;

/// All schemas by name.
pub(super) fn all() -> Value {
    let mut all = Map::new();
    for part in [
        problem(),
        publishing(),
        connections(),
        channels(),
        catalog(),
        operations::schemas(),
        sources::schemas(),
    ] {
        if let Value::Object(part) = part {
            all.extend(part);
        }
    }
    Value::Object(all)
}

pub(super) fn text() -> Value {
    json!({ "type": "string" })
}

pub(super) fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

pub(super) fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

pub(super) fn texts() -> Value {
    json!({ "type": "array", "items": { "type": "string" } })
}

pub(super) fn counts() -> Value {
    json!({ "type": "object", "additionalProperties": { "type": "integer", "minimum": 0 } })
}

pub(super) fn object(required: &[&str], properties: Value) -> Value {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("required".to_owned(), required.to_vec().into());
    schema.insert("properties".to_owned(), properties);
    Value::Object(schema)
}

pub(super) fn list_of(name: &str) -> Value {
    json!({ "type": "array", "items": { "$ref": format!("#/components/schemas/{name}") } })
}

fn page_of(members: &str, name: &str) -> Value {
    let next = json!({ "type": "string", "description": "Empty on the last page." });
    object(
        &[members, "next_page_token"],
        json!({ members: list_of(name), "next_page_token": next }),
    )
}

fn problem() -> Value {
    let codes = crate::error::Code::ALL.map(crate::error::Code::as_str);
    json!({
        "Problem": object(&["type", "title", "status", "code", "detail"], json!({
            "type": text(), "title": text(), "status": { "type": "integer" },
            "code": { "type": "string", "enum": codes }, "detail": text(),
            "errors": { "type": "array", "items": object(&["field", "message"], json!({
                "field": text(), "message": text(),
                "path": { "type": "string", "description": "A JSON Pointer (RFC 6901) into the field." },
            })) },
        })),
    })
}

fn publishing() -> Value {
    json!({
        "Audience": names::audience(),
        "PublishRequest": publish_request(),
        "Broadcast": broadcast(),
        "CloudEvent": cloud_event(),
        "Disconnected": object(&["disconnected"], json!({ "disconnected": count() })),
        "Published": object(&[], json!({
            "id": { "type": "string", "format": "uuid" },
            "results": { "type": "array", "items": object(&["subscribers", "duplicate"], json!({
                "channel": { "type": ["string", "null"] }, "epoch": text(), "offset": count(),
                "subscribers": count(), "duplicate": { "type": "boolean" },
            })) },
            "error": object(&["code", "message"], json!({ "code": text(), "message": text() })),
        })),
        "Event": object(&["type", "id", "timestamp"], json!({
            "type": text(), "channel": text(), "id": { "type": "string", "format": "uuid" },
            "timestamp": time(), "offset": count(), "headers": names::headers(),
            "data": { "description": "As published." }, "data_base64": names::base64(),
            "content_type": text(), "traceparent": text(), "tracestate": text(),
        })),
    })
}

/// A broadcast of the older systems: with `data`, or flat.
fn broadcast() -> Value {
    let envelope = json!({
        "type": names::event_type(), "channel": names::channel_or_none(),
        "user": names::receivers(Audience::MAX_NAMES), "users": names::receivers(Audience::MAX_NAMES),
        "user_id": names::receivers(Audience::MAX_NAMES), "user_ids": names::receivers(Audience::MAX_NAMES),
        "target_user": names::receivers(Audience::MAX_NAMES), "target_users": names::receivers(Audience::MAX_NAMES),
        "role": names::receivers(Audience::MAX_ROLES), "roles": names::receivers(Audience::MAX_ROLES),
        "target_role": names::receivers(Audience::MAX_ROLES), "target_roles": names::receivers(Audience::MAX_ROLES),
    });
    let mut named = with_no_others(object(&["type", "data"], envelope.clone()));
    insert(
        &mut named,
        "description",
        json!("The payload stands under `data`."),
    );
    if let Some(members) = named.pointer_mut("/properties") {
        insert(members, "data", json!({}));
        insert(members, "timestamp", names::time_or_none());
    }
    let mut flat = object(&["type"], envelope);
    insert(
        &mut flat,
        "description",
        json!("All other members are the payload."),
    );
    insert(&mut flat, "not", json!({ "required": ["data"] }));
    json!({ "anyOf": [named, flat] })
}

/// An event to publish: its payload is JSON, or bytes of another media type.
fn publish_request() -> Value {
    let mut request = with_no_others(object(
        &["type"],
        json!({
            "channels": {
                "type": ["array", "null"], "maxItems": 100, "uniqueItems": true,
                "items": names::channel(), "description": "None and no audience is `global`.",
            },
            "type": names::event_type(),
            "data": { "description": "Any JSON; passed on byte for byte." },
            "data_base64": names::base64(), "content_type": { "type": ["string", "null"] },
            "headers": names::headers(), "key": names::short(),
            "idempotency_key": names::short(),
            "audience": names::or_none(&json!({ "$ref": "#/components/schemas/Audience" })),
            "source": names::short(), "time": names::time_or_none(),
            "traceparent": { "type": ["string", "null"] },
            "tracestate": { "type": ["string", "null"] },
            "ttl": { "type": ["string", "null"], "pattern": "^([1-9][0-9]{0,5}(ms|s|m|h))?$",
                "description": "How long it may be replayed and read, such as `90s`." },
            "skip_history": { "type": ["boolean", "null"],
                "description": "Delivers it and keeps it nowhere." },
            "expected_offset": { "type": ["integer", "null"], "minimum": 0,
                "description": "Publishes only if this is the channel's newest offset; needs \
                    exactly one channel." },
        }),
    ));
    let either = json!([
        { "required": ["data"], "properties": {
            "content_type": names::json_media(), "data_base64": { "enum": ["", null] },
        } },
        { "required": ["data_base64", "content_type"], "not": { "required": ["data"] },
            "properties": { "content_type": names::other_media(), "data_base64": text() } },
    ]);
    insert(&mut request, "anyOf", either);
    // A key is scoped to a channel: `global` if neither channel nor audience is named.
    let key_needs_channel = json!([{ "anyOf": [
        { "properties": { "idempotency_key": { "enum": ["", null] } } },
        { "properties": { "audience": { "type": "null" } } },
        { "required": ["channels"], "properties": {
            "channels": { "type": "array", "minItems": 1 },
        } },
    ] }]);
    insert(&mut request, "allOf", key_needs_channel);
    request
}

fn cloud_event() -> Value {
    let mut event = object(
        &["specversion", "id", "source", "type"],
        json!({
            "specversion": { "const": "1.0" }, "id": { "type": "string", "minLength": 1 },
            "source": names::bytes(1, 255),
            "type": names::event_type(), "time": names::time_or_none(),
            "channel": names::channel_or_none(),
            "subject": { "type": ["string", "null"],
                "description": "The channel, where `channel` names none." },
            "datacontenttype": { "type": ["string", "null"] },
            "data": {}, "data_base64": names::base64(),
        }),
    );
    let scalar = json!({ "type": ["string", "number", "boolean", "null"] });
    insert(&mut event, "additionalProperties", scalar);
    let name = json!({ "pattern": "^([a-z0-9]{1,20}|data_base64)$" });
    insert(&mut event, "propertyNames", name);
    // Data of another media type is a string (JSON event format §3.1).
    let media = json!([
        { "properties": { "datacontenttype": names::json_media() },
            "not": { "required": ["data_base64"] } },
        { "required": ["datacontenttype"], "not": { "required": ["data_base64"] }, "properties": {
            "datacontenttype": names::other_media(), "data": text(),
        } },
        { "required": ["datacontenttype", "data_base64"], "not": { "required": ["data"] },
            "properties": { "datacontenttype": names::other_media(), "data_base64": text() } },
    ]);
    let place = json!([
        { "properties": { "subject": names::channel_or_none() } },
        { "required": ["channel"], "properties": { "channel": names::channel() } },
    ]);
    insert(
        &mut event,
        "allOf",
        json!([{ "anyOf": media }, { "anyOf": place }]),
    );
    event
}

fn insert(schema: &mut Value, name: &str, value: Value) {
    if let Value::Object(schema) = schema {
        schema.insert(name.to_owned(), value);
    }
}

/// Unknown members are refused: a misspelt one would be ignored silently.
fn with_no_others(mut schema: Value) -> Value {
    insert(&mut schema, "additionalProperties", false.into());
    schema
}

fn connections() -> Value {
    let position = json!({
        "channel": text(), "epoch": text(), "offset": count(), "filter": text(),
        "event_types": texts(), "live": { "type": "boolean" },
    });
    json!({
        "Connection": object(&["id", "transport", "connected_at"], json!({
            "id": text(), "user": { "type": ["string", "null"] }, "roles": texts(),
            "transport": { "enum": Transport::ALL.map(Transport::as_str) },
            "client_type": text(), "client_name": text(), "address": text(),
            "connected_at": time(), "last_seen_at": time(),
            "subscriptions": { "type": "array", "items": object(&["channel"], position) },
            "delivered": count(), "dropped": count(), "bytes_in": count(),
            "bytes_out": count(), "outbox_bytes": count(),
            "round_trip_ms": { "type": ["number", "null"] },
            "user_agent": text(), "origin": text(), "dialect": text(),
            "compression": { "type": "boolean" },
            "token_expires_at": { "type": ["string", "null"], "format": "date-time" },
            "messages_in": count(), "rate_limited": count(),
            "claims": { "type": "array", "items": { "type": "string" },
                "description": "The names of the token's claims, never their values." },
        })),
        "ConnectionPage": page_of("connections", "Connection"),
    })
}

fn channels() -> Value {
    json!({
        "Channel": object(&["channel", "subscribers"], json!({
            "channel": text(), "subscribers": count(), "epoch": text(), "offset": count(),
            "rate": { "type": "number", "description": "Events per second over the last 10 s." },
            "last_event_at": { "type": ["string", "null"], "format": "date-time" },
            "history_events": count(), "history_bytes": count(),
            "users": { "type": ["integer", "null"], "description": "Users present." },
        })),
        "ChannelPage": page_of("channels", "Channel"),
        "Purged": object(&["channel", "purged"], json!({
            "channel": names::channel(), "purged": { "type": "integer", "minimum": 0 },
            "epoch": text(), "offset": { "type": "integer", "minimum": 0 },
        })),
        "History": object(&["channel", "epoch", "offset", "events"], json!({
            "channel": text(), "epoch": text(), "offset": count(), "events": list_of("Event"),
            "next_since": {
                "type": "string", "description": "`since` of the next page; absent on the last.",
            },
        })),
        "Presence": object(&["channel", "users", "total"], json!({
            "channel": text(), "total": count(),
            "users": { "type": "array", "items": object(&["user", "connections"], json!({
                "user": text(), "connections": count(),
            })) },
        })),
    })
}

fn catalog() -> Value {
    json!({
        "EventType": object(&["name", "namespace", "description", "roles"], json!({
            "name": text(),
            "namespace": { "type": "string", "description": "Empty is any." },
            "description": text(),
            "roles": {
                "type": "array", "items": { "type": "string" },
                "description": "If not empty, only holders of one of these receive it.",
            },
            "schema": {
                "type": ["object", "boolean"],
                "description": "JSON Schema (2020-12) of the payload; absent if it has none.",
            },
            "example": { "description": "A payload that is valid; absent if there is none." },
        })),
        "EventTypePage": page_of("event_types", "EventType"),
        "Judgement": object(&["valid", "errors"], json!({
            "valid": { "type": "boolean" },
            "errors": { "type": "array", "maxItems": MAX_VIOLATIONS,
                "items": object(&["path", "message"], json!({
                    "path": {
                        "type": "string", "format": "json-pointer",
                        "description": "A place in the payload; empty is all of it.",
                    },
                    "message": { "type": "string", "description": "What was expected." },
                })),
            },
        })),
    })
}
