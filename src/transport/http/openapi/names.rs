//! The schemas of names and other small values, as strict as the server.

use serde_json::{Value, json};

use crate::event::{Audience, Headers};

/// A string of at most 255 bytes, or an empty one.
pub(super) fn short() -> Value {
    or_none(&bytes(0, 255))
}

/// A string of this many bytes in UTF-8. JSON Schema counts characters, which have up to four
/// bytes: longer strings are only described if they are ASCII.
pub(super) fn bytes(least: usize, most: usize) -> Value {
    let ascii = format!("^[\\x00-\\x7f]{{{least},{most}}}$");
    json!({
        "type": "string", "description": format!("{least} to {most} bytes in UTF-8."),
        "anyOf": [{ "minLength": least, "maxLength": most / 4 }, { "pattern": ascii }],
    })
}

/// The name of a channel.
pub(super) fn channel() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9_.:@/~-]{1,255}$" })
}

/// The name of a channel, or an empty string for none.
pub(super) fn channel_or_none() -> Value {
    json!({ "type": ["string", "null"], "pattern": "^[A-Za-z0-9_.:@/~-]{0,255}$" })
}

/// An event type.
pub(super) fn event_type() -> Value {
    json!({
        "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_.-]{0,127}$",
        "description": "No name of a message of the protocol.",
    })
}

/// A connection's id.
pub(super) fn connection_id() -> Value {
    json!({ "type": "string", "pattern": "^[0-9a-f]{28}$" })
}

/// A position in a channel, as EPOCH/OFFSET.
pub(super) fn position(description: &str) -> Value {
    json!({
        "type": "string", "pattern": "^[0-9a-f]{16}/[0-9]{1,19}$", "description": description,
    })
}

/// A time in RFC 3339; an empty one is none.
pub(super) fn time_or_none() -> Value {
    let time = json!({ "type": "string", "format": "date-time" });
    json!({ "anyOf": [time, { "enum": ["", null] }] })
}

/// Standard base64 with padding (RFC 4648 §4).
pub(super) fn base64() -> Value {
    json!({
        "type": ["string", "null"], "contentEncoding": "base64",
        "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$",
    })
}

/// The headers of an event.
pub(super) fn headers() -> Value {
    json!({
        "type": ["object", "null"], "maxProperties": Headers::MAX_PAIRS,
        "propertyNames": { "pattern": "^[!-~]{1,128}$" },
        "additionalProperties": { "type": "string" },
        "description": format!("At most {} bytes in all.", Headers::MAX_BYTES),
    })
}

/// Users or roles that a broadcast addresses, at most this many in one member.
pub(super) fn receivers(most: usize) -> Value {
    let several = json!({
        "type": "array", "minItems": 1, "maxItems": most, "items": bytes(1, 255),
    });
    json!({ "anyOf": [bytes(1, 255), several, { "type": "null" }] })
}

/// This, or `null`, which counts as absent.
pub(super) fn or_none(schema: &Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

/// Users or roles, at most this many.
fn names(most: usize) -> Value {
    json!({
        "type": "array", "maxItems": most, "items": bytes(1, 255),
    })
}

/// The audience of an event.
pub(super) fn audience() -> Value {
    let connections = json!({
        "type": "array", "maxItems": Audience::MAX_NAMES, "items": connection_id(),
    });
    // An audience must name somebody.
    let somebody = ["users", "roles", "connections", "except_connections"];
    let somebody = somebody.map(|name| {
        let properties = json!({ name: { "minItems": 1 } });
        json!({ "required": [name], "properties": properties })
    });
    json!({
        "type": "object", "additionalProperties": false, "properties": {
            "users": names(Audience::MAX_NAMES), "roles": names(Audience::MAX_ROLES),
            "connections": connections, "except_connections": connections,
        },
        "anyOf": somebody,
    })
}

/// The media types that [`Payload`](crate::event::Payload) treats as JSON; empty is
/// `application/json`.
pub(super) fn json_media() -> Value {
    json!({
        "type": ["string", "null"], "maxLength": 255,
        "pattern": format!("^({})? *(;[ -~]*)?$", json_essence()),
    })
}

/// Any other media type (RFC 9110 §8.3.1).
pub(super) fn other_media() -> Value {
    json!({
        "type": "string", "maxLength": 255, "pattern": format!("^{TOKEN}+/{TOKEN}+ *(;[ -~]*)?$"),
        "not": { "pattern": format!("^{} *(;|$)", json_essence()) },
    })
}

/// A character of a token (RFC 9110 §5.6.2).
const TOKEN: &str = "[!#$%&'*+.^_`|~0-9A-Za-z-]";

/// JSON media types, in any case.
fn json_essence() -> String {
    let any_case = |word: &str| -> String {
        let both = |letter: char| format!("[{letter}{}]", letter.to_ascii_uppercase());
        word.chars().map(both).collect()
    };
    let (application, json) = (any_case("application"), any_case("json"));
    format!("({application}/{json}|{TOKEN}+/{TOKEN}*[+]{json})")
}
