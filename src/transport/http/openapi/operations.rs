//! What operators look at: the server, its statistics over time, its refusals, and its rules' answers.

use serde_json::{Value, json};

use super::paths::{flag, in_query, number, operation, schema, text, with};
use super::schemas::{count, counts, list_of, object, texts, time};

/// An order of a list: a name, with or without its direction.
pub(super) fn order(names: &[&str]) -> Value {
    json!({ "type": "string", "pattern": format!("^({})( desc)?$", names.join("|")) })
}

/// The operations.
pub(super) fn paths() -> Value {
    let tag = "connections";
    let streamed = |operation: Value, description: &str, parameters: Value| {
        let mut operation = with(
            operation,
            json!({ "description": description, "parameters": parameters }),
        );
        if let Some(Value::Object(content)) = operation.pointer_mut("/responses/200/content") {
            content.insert("text/event-stream".to_owned(), json!({ "schema": text() }));
        }
        operation
    };
    let stats = streamed(
        operation(
            tag,
            "getStats",
            "Shows the counters",
            &schema("Stats"),
            &["BadRequest"],
        ),
        "With `Accept: text/event-stream` again and again, as `event: stats`.",
        json!([in_query(
            "interval_ms",
            &number(100, 3_600_000),
            "Between two readings of a stream; 1000 if absent."
        )]),
    );
    let refusals = streamed(
        operation(
            tag,
            "listRefusals",
            "Lists the newest refusals and closes",
            &schema("Refusals"),
            &["BadRequest"],
        ),
        "Newest first. With `Accept: text/event-stream` as `event: refusals`, oldest first and \
         then as they happen.",
        json!([
            in_query(
                "limit",
                &number(1, 1000),
                "At most so many; 1000 if absent."
            ),
            in_query(
                "after",
                &number(0, u32::MAX),
                "Only those after this `sequence`."
            ),
        ]),
    );
    let history = with(
        operation(
            tag,
            "getStatsHistory",
            "Shows the last hour in steps of 5 s",
            &schema("StatsHistory"),
            &["BadRequest"],
        ),
        json!({ "parameters": [in_query("after", &time(), "Only samples after this time.")] }),
    );
    let explain = with(
        operation(
            tag,
            "explain",
            "Explains whether somebody may do something",
            &schema("Explanation"),
            &["BadRequest", "TooLarge", "ResourceExhausted"],
        ),
        json!({
            "description": "Nothing is done: the rules are asked as they hold now.",
            "requestBody": { "required": true, "content": { "application/json": { "schema": schema("Explain") } } },
        }),
    );
    let server = operation(
        tag,
        "getServer",
        "Describes the server",
        &schema("Server"),
        &[],
    );
    json!({
        "/api/v1/stats": { "get": stats },
        "/api/v1/stats/history": { "get": history },
        "/api/v1/server": { "get": server },
        "/api/v1/explain": { "post": explain },
        "/api/v1/refusals": { "get": refusals },
    })
}

/// The shapes of their answers.
pub(super) fn schemas() -> Value {
    let number = || json!({ "type": "number", "minimum": 0 });
    let maybe = |kind: &str| json!({ "type": [kind, "null"] });
    let mut sample = json!({
        "time": time(), "seconds": number(), "cpu_seconds": number(),
        "latency_p50_ms": number(), "latency_p99_ms": number(),
    });
    for name in [
        "connections",
        "subscriptions",
        "channels",
        "outbox_bytes",
        "resident_bytes",
        "opened",
        "published",
        "delivered",
        "replayed",
        "dropped",
        "conflated",
        "refused",
        "slow_consumers",
        "bytes_in",
        "bytes_out",
    ] {
        sample[name] = count();
    }
    let mut refusal = json!({
        "sequence": count(), "time": time(), "close_code": count(),
        "kind": { "enum": ["refused", "authentication_failed", "subscribe_refused", "publish_refused", "disconnect"] },
    });
    for name in [
        "code",
        "reason",
        "user",
        "address",
        "transport",
        "channel",
        "event_type",
        "connection_id",
        "by",
    ] {
        refusal[name] = json!({ "type": "string", "maxLength": 256 });
    }
    json!({
        "StatsHistory": object(&["step_seconds", "samples"], json!({
            "step_seconds": number(),
            "samples": { "type": "array", "items": object(&["time", "seconds"], sample) },
        })),
        "Refusal": object(&["sequence", "time", "kind", "reason"], refusal),
        "Refusals": object(&["refusals", "missed"], json!({ "refusals": list_of("Refusal"), "missed": count() })),
        "Explain": {
            "type": "object", "required": ["action", "channel"], "additionalProperties": false,
            "properties": {
                "user": text(),
                "claims": { "type": ["object", "string", "null"],
                    "description": "The claims of a token, or their JSON as a text; not beside `user`." },
                "roles": texts(),
                "action": { "enum": ["subscribe", "publish", "presence", "history"] },
                "channel": super::names::channel(), "event_type": text(),
            },
        },
        "Explanation": object(&["allowed", "rule", "source", "inputs", "reason"], json!({
            "allowed": flag(), "rule": text(), "source": text(), "reason": text(),
            "inputs": { "type": "object", "description": "What the rule read, by name." },
        })),
        "Server": object(&["node", "version", "started_at", "limits", "configuration"], json!({
            "node": text(), "version": text(), "started_at": time(), "now": time(), "dev": flag(),
            "caller": object(&["admin"], json!({
                "user": maybe("string"), "admin": flag(), "expires_at": maybe("string"),
            })),
            "public_address": maybe("string"), "internal_address": maybe("string"),
            "nodes": { "type": "array", "items": object(&["id", "self"], json!({ "id": text(), "self": flag() })) },
            "store": object(&["kind", "available"], json!({
                "kind": text(), "durability": text(), "available": flag(), "bytes": count(), "limit_bytes": count(),
            })),
            "process": object(&[], json!({
                "cpu_seconds": maybe("number"), "resident_bytes": maybe("integer"),
                "open_files": maybe("integer"), "open_files_limit": maybe("integer"),
                "threads": maybe("integer"), "processors": count(), "shards": count(),
            })),
            "limits": { "type": "array", "items": object(&["key", "limit", "reached"], json!({
                "key": text(), "limit": count(), "used": maybe("integer"), "reached": count(),
            })) },
            "closes": counts(),
            "namespaces": { "type": "array", "items": object(&["name"], json!({
                "name": text(), "history_size": count(), "history_ttl_ms": count(), "history_bytes": count(),
                "presence": flag(), "slow_consumer": text(), "max_idle_ms": count(),
                "subscribe": text(), "publish": text(),
            })) },
            "configuration": { "type": "array", "items": object(&["key", "value", "source"], json!({
                "key": text(), "value": text(), "source": text(), "secret": flag(), "reloads": flag(),
            })) },
        })),
    })
}
