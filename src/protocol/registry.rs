//! The codecs by name: the built-in ones, those of the configuration, and the WebSocket
//! subprotocols that select one.

use std::sync::Arc;

use super::codec::Codec;
use super::custom::Definition;
use super::json::JsonCodec;
use super::protobuf::ProtobufCodec;

/// The default: JSON.
pub const TIDINGS: &str = "tidings";
/// The same with events as `CloudEvents`.
pub const CLOUD_EVENTS: &str = "cloudevents";
/// The same in protobuf.
pub const PROTO: &str = "tidings.v1.proto";
/// Every message is sent back unchanged.
pub const ECHO: &str = "echo";

/// The names of the built-in codecs, which a `[[dialect]]` can't have.
pub const BUILT_IN: [&str; 4] = [TIDINGS, CLOUD_EVENTS, PROTO, ECHO];

/// Subprotocols with the names of their codecs.
const SUBPROTOCOLS: [(&str, &str); 3] = [
    ("tidings.v1.json", TIDINGS),
    ("cloudevents.json", CLOUD_EVENTS),
    (PROTO, PROTO),
];

/// The first of the offered subprotocols that is known, in the client's order.
#[must_use]
pub fn choose(offered: &[String]) -> Option<&'static str> {
    let known = || SUBPROTOCOLS.iter().map(|(subprotocol, _)| *subprotocol);
    offered
        .iter()
        .find_map(|name| known().find(|known| known == name))
}

/// The name of the codec that a subprotocol selects.
#[must_use]
pub fn name_of(subprotocol: &str) -> Option<&'static str> {
    let mut known = SUBPROTOCOLS.iter();
    known
        .find(|(known, _)| *known == subprotocol)
        .map(|(_, name)| *name)
}

/// The codec of this name; `None` for `echo`, which decodes nothing.
#[must_use]
pub fn codec(name: &str, definition: Option<&Arc<Definition>>) -> Option<Codec> {
    match (definition, name) {
        (Some(definition), _) => Some(Codec::new(JsonCodec::new(Arc::clone(definition)))),
        (None, ECHO) => None,
        (None, PROTO) => Some(Codec::new(ProtobufCodec)),
        (None, CLOUD_EVENTS) => Some(Codec::new(JsonCodec::cloud_events())),
        (None, _) => Some(Codec::new(JsonCodec::tidings())),
    }
}
