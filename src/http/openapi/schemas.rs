//! The shapes of requests and answers.

use serde_json::{Map, Value, json};

use crate::catalog::MAX_VIOLATIONS;

/// All schemas by name.
pub(super) fn all() -> Value {
    let mut all = Map::new();
    for part in [
        problem(),
        publishing(),
        connections(),
        channels(),
        catalog(),
    ] {
        if let Value::Object(part) = part {
            all.extend(part);
        }
    }
    Value::Object(all)
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn texts() -> Value {
    json!({ "type": "array", "items": { "type": "string" } })
}

fn counts() -> Value {
    json!({ "type": "object", "additionalProperties": { "type": "integer", "minimum": 0 } })
}

fn object(required: &[&str], properties: Value) -> Value {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("required".to_owned(), required.to_vec().into());
    schema.insert("properties".to_owned(), properties);
    Value::Object(schema)
}

fn list_of(name: &str) -> Value {
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
            })) },
        })),
    })
}

fn publishing() -> Value {
    let base64 = json!({ "type": "string", "contentEncoding": "base64" });
    let pairs = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    json!({
        "Audience": object(&[], json!({
            "users": texts(), "roles": texts(), "connections": texts(),
            "except_connections": texts(),
        })),
        "PublishRequest": with_no_others(object(&["type"], json!({
            "channels": { "type": "array", "maxItems": 100, "items": { "type": "string" },
                "description": "None and no audience is `global`." },
            "type": text(),
            "data": { "description": "Any JSON; passed on byte for byte." },
            "data_base64": base64, "content_type": text(), "headers": pairs,
            "key": text(), "idempotency_key": text(),
            "audience": { "$ref": "#/components/schemas/Audience" },
            "source": text(), "time": time(), "traceparent": text(),
        }))),
        "Broadcast": object(&[], json!({
            "type": text(), "event": text(), "channel": text(), "user": text(),
            "roles": texts(), "data": {},
        })),
        "CloudEvent": object(&["specversion", "id", "source", "type"], json!({
            "specversion": { "const": "1.0" }, "id": text(), "source": text(), "type": text(),
            "time": time(), "subject": text(), "channel": text(), "datacontenttype": text(),
            "data": {}, "data_base64": base64,
        })),
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
            "timestamp": time(), "offset": count(), "headers": pairs,
            "data": { "description": "As published." }, "data_base64": base64,
            "content_type": text(), "traceparent": text(), "tracestate": text(),
        })),
    })
}

/// Unknown members are refused: a misspelt one would be lost silently.
fn with_no_others(mut schema: Value) -> Value {
    if let Value::Object(schema) = &mut schema {
        schema.insert("additionalProperties".to_owned(), false.into());
    }
    schema
}

fn connections() -> Value {
    let position = json!({ "channel": text(), "epoch": text(), "offset": count() });
    let millis = json!({ "type": "number", "minimum": 0 });
    json!({
        "Connection": object(&["id", "transport", "connected_at"], json!({
            "id": text(), "user": { "type": ["string", "null"] }, "roles": texts(),
            "transport": { "enum": ["websocket", "sse", "grpc"] },
            "client_type": text(), "client_name": text(), "address": text(),
            "connected_at": time(), "last_seen_at": time(),
            "subscriptions": { "type": "array", "items": object(&["channel"], position) },
            "delivered": count(), "dropped": count(), "bytes_in": count(),
            "bytes_out": count(), "outbox_bytes": count(),
            "round_trip_ms": { "type": ["number", "null"] },
        })),
        "ConnectionPage": page_of("connections", "Connection"),
        "Stats": object(&["node", "uptime_seconds", "connections", "events"], json!({
            "node": text(), "uptime_seconds": millis,
            "connections": object(&["now", "peak", "total"], json!({
                "now": count(), "peak": count(), "total": count(),
                "by_transport": counts(), "by_client_type": counts(),
            })),
            "subscriptions": count(), "channels": count(),
            "events": object(&[], json!({
                "published": count(), "delivered": count(), "replayed": count(),
                "dropped": count(), "conflated": count(), "filtered": count(),
                "by_type": counts(),
            })),
            "bytes": object(&["in", "out"], json!({ "in": count(), "out": count() })),
            "errors": counts(), "auth_failures": count(), "rate_limited": count(),
            "slow_consumers": count(),
            "latency": object(&[], json!({
                "p50_ms": millis, "p90_ms": millis, "p99_ms": millis, "max_ms": millis,
            })),
        })),
    })
}

fn channels() -> Value {
    json!({
        "Channel": object(&["channel", "subscribers"], json!({
            "channel": text(), "subscribers": count(), "epoch": text(), "offset": count(),
        })),
        "ChannelPage": page_of("channels", "Channel"),
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
