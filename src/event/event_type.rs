//! Event type names.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The name of an event type: 1–128 of `A-Z a-z 0-9 _ - .`, starting with a letter, and none of
/// [`RESERVED_EVENT_TYPES`]. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventType(Arc<str>);

impl EventType {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Parses a name.
    ///
    /// # Errors
    /// `invalid_argument` for the field `type`.
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        if is_reserved(name) {
            return Err(Error::field(
                "type",
                "the name of a control message can't be an event type",
            ));
        }
        EventType::described(name)
    }

    /// Like [`EventType::new`], but also accepts a reserved name. For types that are only described
    /// and never published.
    ///
    /// # Errors
    /// As [`EventType::new`].
    pub fn described(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        if !is_well_formed(name) {
            return Err(Error::field(
                "type",
                "expected 1 to 128 of A-Z a-z 0-9 _ - . starting with a letter",
            ));
        }
        Ok(EventType(Arc::from(name)))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_well_formed(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    name.len() <= EventType::MAX_LEN
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && name.bytes().all(allowed)
}

/// The names that no event type may have: those of the first messages of the protocol, in both
/// directions.
///
/// The list is closed. Commands have a name space of their own, so a command that is added later
/// reserves nothing and makes no event type illegal. Its reply may be named like an event type,
/// because it echoes the `id` of its request, while the `id` of an event is a UUID. A *notice* that
/// is added later must have a name that no event type can have, such as one that begins with `$`.
pub const RESERVED_EVENT_TYPES: [&str; 25] = [
    "authenticate",
    "authenticated",
    "register",
    "registered",
    "subscribe",
    "subscribed",
    "unsubscribe",
    "unsubscribed",
    "publish",
    "published",
    "history",
    "presence",
    "ping",
    "pong",
    "heartbeat",
    "heartbeat_response",
    "connection_established",
    "presence_joined",
    "presence_left",
    "token_expiring",
    "gap",
    "reconnect",
    "error",
    "receive",
    "received",
];

/// Whether a name is one of [`RESERVED_EVENT_TYPES`].
fn is_reserved(name: &str) -> bool {
    RESERVED_EVENT_TYPES.contains(&name)
}

impl Borrow<str> for EventType {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// A pattern of event types: an exact name, or a prefix with a trailing `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypePattern(Arc<str>);

impl TypePattern {
    /// Parses an exact name or a prefix with a trailing `*`.
    ///
    /// # Errors
    /// `invalid_argument` for the field `event_types`.
    pub fn parse(text: &str) -> Result<Self> {
        let prefix = text.strip_suffix('*').unwrap_or(text);
        if text == "*" || is_well_formed(prefix) {
            Ok(TypePattern(Arc::from(text)))
        } else {
            Err(Error::field(
                "event_types",
                "expected event types, exact or with a trailing *",
            ))
        }
    }

    /// True if the pattern matches this type.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => event_type.starts_with(prefix),
            None => event_type == &*self.0,
        }
    }

    /// The pattern as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_refused_as_event_types() {
        for name in RESERVED_EVENT_TYPES {
            assert_eq!(EventType::new(name).unwrap_err().field_name(), Some("type"));
            assert_eq!(EventType::described(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn later_commands_and_replies_reserve_no_event_type() {
        for name in ["rpc", "ack", "rpc_result", "Publish", "subscribed.now"] {
            assert_eq!(EventType::new(name).unwrap().as_str(), name);
        }
        // A name for a later notice: no event type begins like this.
        assert!(EventType::described("$notice").is_err());
    }
}
