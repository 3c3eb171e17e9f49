//! The description of `/api/v1/sources`.

use serde_json::{Value, json};

use super::paths::{flag, operation, schema, text};
use super::schemas::{count, list_of, object, time};

/// The operation.
pub(super) fn paths() -> Value {
    let list = operation(
        "connections",
        "listSources",
        "Lists the sources of this node",
        &schema("Sources"),
        &[],
    );
    json!({ "/api/v1/sources": { "get": list } })
}

/// The shape of its answer.
pub(super) fn schemas() -> Value {
    let seconds = || json!({ "type": "number", "minimum": 0 });
    let maybe = |kind: &str| json!({ "type": [kind, "null"] });
    let required = [
        "name",
        "kind",
        "server",
        "connected",
        "lag",
        "lag_seconds",
        "events",
        "duplicates",
        "dead_letters",
        "failures",
        "rate",
        "last_failure",
        "last_failure_at",
        "recent_dead_letters",
    ];
    json!({
        "Sources": object(&["node", "sources"], json!({ "node": text(), "sources": list_of("Source") })),
        "Source": object(&required, json!({
            "name": text(),
            "kind": { "enum": ["postgres", "redis", "nats"] },
            "server": { "type": "string", "description": "Without user and password." },
            "connected": flag(),
            "lag": { "type": ["integer", "null"], "minimum": 0,
                "description": "Records that wait; null if the source does not tell." },
            "lag_seconds": seconds(),
            "events": count(), "duplicates": count(), "dead_letters": count(), "failures": count(),
            "rate": seconds(),
            "last_failure": maybe("string"), "last_failure_at": maybe("string"),
            "recent_dead_letters": list_of("SourceDeadLetter"),
        })),
        "SourceDeadLetter": object(&["time", "record", "channel", "reason"], json!({
            "time": time(), "record": text(), "channel": text(), "reason": text(),
        })),
    })
}
