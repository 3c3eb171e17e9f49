//! Schemas of texts and lists, as narrow as the server takes them, for `schema_with`.
//!
//! JSON Schema counts characters and the server counts bytes: a text of non-ASCII characters is
//! described only up to the length at which each may have four bytes. A `null` counts as absent.

use serde_json::{Value, json};
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, Object, ObjectBuilder, SchemaType,
};
use utoipa::openapi::{RefOr, Schema, Type};

use crate::event::{Audience, Headers};
use crate::telemetry::Transport;

/// Keywords of JSON Schema for which the builders have no method.
pub(super) fn keywords<const N: usize>(keywords: [(&str, Value); N]) -> Extensions {
    keywords.into_iter().collect()
}

/// A text or `null`.
fn optional() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::String, Type::Null]))
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// The pattern of a text of `least` to `most` bytes.
fn bytes(least: usize, most: usize) -> String {
    let characters = most / 4;
    format!("^([\\x00-\\x7f]{{{least},{most}}}|[\\s\\S]{{{least},{characters}}})$")
}

/// An optional text of at most 255 bytes.
fn short(description: &str) -> Object {
    optional()
        .pattern(Some(bytes(0, 255)))
        .description(Some(format!("{description} At most 255 bytes in UTF-8.")))
        .build()
}

pub(super) fn key() -> Object {
    short("Of two events with one key, the newer may stand for both.")
}

pub(super) fn idempotency_key() -> Object {
    short("A repeat within five minutes answers the first one's id and position.")
}

pub(super) fn source() -> Object {
    short("Where the event comes from; only services may name it.")
}

/// The name of a channel.
pub(crate) fn channel() -> Object {
    text().pattern(Some("^[A-Za-z0-9_.:@/~-]{1,255}$")).build()
}

/// Up to 100 channels.
pub(super) fn channels() -> Schema {
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .items(channel())
        .max_items(Some(100))
        .unique_items(true)
        .description(Some("None and no audience is `global`."))
        .build()
        .into()
}

/// A place in the list of connections, as `next_page_token` has it.
pub(crate) fn connection_page_token() -> Object {
    // The node is a number of 16 bits.
    let node = "([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
    text()
        .pattern(Some(format!("^{node}\\.[0-9]{{1,4}}\\.[0-9]{{1,9}}$")))
        .description(Some("`next_page_token` of the page before."))
        .build()
}

/// The name of a transport.
pub(crate) fn transport() -> Object {
    text()
        .enum_values(Some(Transport::ALL.map(Transport::as_str)))
        .description(Some("How a client is connected."))
        .build()
}

/// A time as in RFC 3339; an empty text is none.
pub(super) fn time() -> Object {
    optional()
        .description(Some("A time as in RFC 3339; an empty text is none."))
        .extensions(Some(keywords([
            ("if", json!({ "minLength": 1 })),
            ("then", json!({ "format": "date-time" })),
        ])))
        .build()
}

/// The headers of an event.
pub(crate) fn headers() -> Object {
    let schema = ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(text().into()))))
        .property_names(Some(text().pattern(Some("^[!-~]{1,128}$"))))
        .description(Some(format!(
            "At most {} bytes in all.",
            Headers::MAX_BYTES
        )));
    let most = json!(Headers::MAX_PAIRS);
    let most = keywords([("maxProperties", most)]);
    schema.extensions(Some(most)).build()
}

/// Users of an audience.
pub(super) fn users() -> Schema {
    names(Audience::MAX_NAMES)
}

/// Roles of an audience.
pub(super) fn roles() -> Schema {
    names(Audience::MAX_ROLES)
}

fn names(most: usize) -> Schema {
    let item = text()
        .pattern(Some(bytes(1, 255)))
        .description(Some("1 to 255 bytes in UTF-8."));
    ArrayBuilder::new()
        .items(item)
        .max_items(Some(most))
        .build()
        .into()
}

/// Connections of an audience.
pub(super) fn connections() -> Schema {
    ArrayBuilder::new()
        .items(text().pattern(Some("^[0-9a-f]{28}$")))
        .max_items(Some(Audience::MAX_NAMES))
        .build()
        .into()
}

/// Users that a broadcast is for: a name or several.
pub(super) fn receiving_users() -> Object {
    receivers("Users", Audience::MAX_NAMES)
}

/// Roles that a broadcast is for: a role or several.
pub(super) fn receiving_roles() -> Object {
    receivers("Roles", Audience::MAX_ROLES)
}

fn receivers(what: &str, most: usize) -> Object {
    identifiers(&bytes(1, 255), most, &format!("{what} that it is for"))
}

/// Channels of a broadcast: a name or several.
pub(super) fn receiving_channels() -> Object {
    identifiers("^[A-Za-z0-9_.:@/~-]{1,255}$", 100, "The channel")
}

/// A name or several, at most so many; an integer is the name of its digits. Without `type`, of which
/// generators of clients take only one.
fn identifiers(pattern: &str, most: usize, description: &str) -> Object {
    let one = json!({ "type": ["string", "integer"], "pattern": pattern });
    ObjectBuilder::new()
        .schema_type(SchemaType::any())
        .pattern(Some(pattern))
        .description(Some(format!("{description}: a name or several.")))
        .extensions(Some(keywords([
            ("items", one),
            ("minItems", json!(1)),
            ("maxItems", json!(most)),
            (
                "if",
                json!({ "type": ["string", "integer", "array", "null"] }),
            ),
            ("else", false.into()),
        ])))
        .build()
}

/// What [`Payload`](crate::event::Payload) takes for JSON; empty is `application/json`.
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

/// The types of JSON, in letters of any case.
fn json_essence() -> String {
    let any_case = |word: &str| -> String {
        let both = |letter: char| format!("[{letter}{}]", letter.to_ascii_uppercase());
        word.chars().map(both).collect()
    };
    let (application, json) = (any_case("application"), any_case("json"));
    format!("({application}/{json}|{TOKEN}+/{TOKEN}*[+]{json})")
}
