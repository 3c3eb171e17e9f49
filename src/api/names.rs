//! Schemas of names and other small values, as strict as the server, for `schema_with`.
//!
//! JSON Schema counts characters and the server counts bytes: strings that are not ASCII are only
//! described up to the length at which each character may have four bytes. A `null` counts as absent.

use serde_json::{Value, json};
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, Object, ObjectBuilder, SchemaType,
};
use utoipa::openapi::{RefOr, Schema, Type};

use crate::auth::MAX_NAMES;
use crate::event::{Audience, Headers};
use crate::telemetry::Transport;

/// Keywords of JSON Schema that the builders have no methods for.
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

/// The pattern of a string of `least` to `most` bytes.
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
    short("Of several events with the same key, only the newest may be delivered.")
}

pub(super) fn idempotency_key() -> Object {
    short("A repeat within five minutes returns the id and position of the first one.")
}

pub(super) fn source() -> Object {
    short("The origin of the event; only services may set it.")
}

/// The name of a channel.
pub(super) fn channel() -> Object {
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

/// `next_page_token` of a list of connections: node, shard and slot; with an order a value and an id.
pub(super) fn connection_page_token() -> Object {
    // The node is a number of 16 bits.
    let node = "([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
    let by_place = format!("{node}\\.[0-9]{{1,4}}\\.[0-9]{{1,9}}");
    let in_order = "[0-9]{1,20}\\.[0-9a-f]{28}";
    text()
        .pattern(Some(format!("^({by_place}|{in_order})$")))
        .description(Some("`next_page_token` of the page before."))
        .build()
}

/// A user: 1 to 255 bytes without control characters.
pub(super) fn user() -> Object {
    text()
        .pattern(Some(printable(1)))
        .description(Some("1 to 255 bytes without control characters."))
        .build()
}

/// The name of an application's method: 1 to 255 bytes without control characters.
pub(super) fn method() -> Object {
    text()
        .pattern(Some(printable(1)))
        .description(Some(
            "The method: 1 to 255 bytes without control characters.",
        ))
        .build()
}

/// A user, or an empty text for none.
pub(super) fn user_or_none() -> Object {
    text()
        .pattern(Some(printable(0)))
        .description(Some(
            "A user; at most 255 bytes without control characters.",
        ))
        .build()
}

/// The roles of a user.
pub(super) fn user_roles() -> Schema {
    let role = text().pattern(Some(printable(1)));
    ArrayBuilder::new()
        .items(role.description(Some("1 to 255 bytes without control characters.")))
        .max_items(Some(MAX_NAMES))
        .description(Some("Roles, besides those of the claims."))
        .build()
        .into()
}

/// The pattern of `least` to 255 bytes without control characters.
fn printable(least: usize) -> String {
    format!("^([ -~]{{{least},255}}|[^\\x00-\\x1f\\x7f-\\x9f]{{{least},63}})$")
}

/// A lifetime, or an empty text for none.
pub(super) fn ttl() -> Object {
    // In the server a duration may have any number of parts, up to a hundred years together.
    let parts = "([0-9]{0,5}[1-9](ms|s|m)|[0-9]{0,4}[1-9]h|[0-9]{0,3}[1-9]d){1,3}";
    optional()
        .pattern(Some(format!("^({parts})?$")))
        .description(Some(
            "How long it may be replayed and read, such as `90s` or `1h30m`.",
        ))
        .build()
}

/// The least time between two events, or an empty text for none.
pub(super) fn min_interval() -> Object {
    text()
        .pattern(Some("^([1-9][0-9]{1,5}ms|[1-9][0-9]?[sm]|1h)?$"))
        .description(Some(
            "The least time between two events with the same key: 10 ms to 1 h.",
        ))
        .build()
}

/// The name of a transport.
pub(super) fn transport() -> Object {
    text()
        .enum_values(Some(Transport::ALL.map(Transport::as_str)))
        .description(Some("The transport of a connection."))
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
pub(super) fn headers() -> Object {
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

/// Users that receive a broadcast: a name or a list of names.
pub(super) fn receiving_users() -> Object {
    receivers("Users", Audience::MAX_NAMES)
}

/// Roles that receive a broadcast: a role or a list of roles.
pub(super) fn receiving_roles() -> Object {
    receivers("Roles", Audience::MAX_ROLES)
}

fn receivers(what: &str, most: usize) -> Object {
    identifiers(&bytes(1, 255), most, &format!("{what} that receive it"))
}

/// Channels of a broadcast: a name or a list of names.
pub(super) fn receiving_channels() -> Object {
    identifiers("^[A-Za-z0-9_.:@/~-]{1,255}$", 100, "The channel")
}

/// A name or a list of at most `most` names; an integer is the name with these digits. The schema has no
/// `type`, because generators of clients support only one.
fn identifiers(pattern: &str, most: usize, description: &str) -> Object {
    let one = json!({ "type": ["string", "integer"], "pattern": pattern });
    ObjectBuilder::new()
        .schema_type(SchemaType::any())
        .pattern(Some(pattern))
        .description(Some(format!("{description}: a name or a list of names.")))
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
