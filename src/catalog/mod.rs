//! The catalog of event types.

mod definition;
mod embedded;
mod expected;
mod schema;
pub mod typescript;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

pub use definition::{Definition, DefinitionError, Part, Source, Sources};
pub use embedded::{embedded, pointer_part};
pub use schema::{MAX_VIOLATIONS, Schema, SchemaError, Violation};

use crate::error::{Error, Result};
use crate::event::{ChannelName, EventType, Payload, strict_json};

/// The channel for events to everyone.
const GLOBAL: &str = "global";
/// The namespace of the users' own channels.
const USER: &str = "user";

/// Whether events that the catalog does not describe are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Accept unknown types, and payloads that violate their schema.
    #[default]
    Open,
    /// Accept unknown types. Check known ones as in `strict`.
    Known,
    /// Refuse unknown types, types outside of their namespace, and payloads that violate their
    /// schema.
    Strict,
}

/// One event type.
#[derive(Debug, Clone)]
pub struct KnownType {
    /// Its name.
    pub name: EventType,
    /// The namespace to whose channels it may be published. Empty and `*` mean any.
    pub namespace: String,
    /// Whether a type with a namespace may also be published to `global`.
    pub broadcast: bool,
    /// Whether it is a control message of the server, which is never published.
    pub control: bool,
    /// Its description.
    pub description: String,
    /// If not empty, only connections with one of these roles receive it.
    pub roles: Vec<Arc<str>>,
    /// The path of the conflation key in the payload, such as `data.job_id`.
    pub conflate_key: Option<String>,
    /// The schema of its payload. `None` allows any.
    pub schema: Option<Schema>,
    /// A valid payload, as JSON.
    pub example: Option<Arc<str>>,
}

impl KnownType {
    /// True if it may be published to any namespace.
    #[must_use]
    pub fn is_anywhere(&self) -> bool {
        matches!(&*self.namespace, "" | "*")
    }

    /// True if it may be published to this channel. A user's own channel accepts every type, as an
    /// audience does, because it stores events for one user who is offline.
    fn belongs(&self, channel: &ChannelName) -> bool {
        self.is_anywhere()
            || channel.namespace() == self.namespace
            || channel.namespace() == USER
            || (self.broadcast && channel.as_str() == GLOBAL)
    }
}

/// All event types, by name.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    mode: Mode,
    types: BTreeMap<EventType, KnownType>,
}

impl Catalog {
    /// A catalog of these types. If a name is repeated, the last one counts.
    pub fn new(mode: Mode, types: impl IntoIterator<Item = KnownType>) -> Self {
        let types = types
            .into_iter()
            .map(|known| (known.name.clone(), known))
            .collect();
        Catalog { mode, types }
    }

    /// One type.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&KnownType> {
        self.types.get(name)
    }

    /// One type, or an error.
    ///
    /// # Errors
    /// `not_found`.
    pub fn known(&self, name: &str) -> Result<&KnownType> {
        self.get(name)
            .ok_or_else(|| match EventType::described(name) {
                Ok(name) => Error::not_found(format!("{name} is not in the catalog")),
                // A text that is not a type name is not echoed.
                Err(_) => Error::not_found("no such event type in the catalog"),
            })
    }

    /// The names of all types.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.types.keys().map(EventType::as_str)
    }

    /// All types after `after`, ordered by name.
    pub fn after(&self, after: &str) -> impl Iterator<Item = &KnownType> {
        let after = after.to_owned();
        self.types
            .values()
            .filter(move |known| known.name.as_str() > after.as_str())
    }

    /// Checks whether an event of this type may be published to this channel, or directly to an
    /// audience without one.
    ///
    /// # Errors
    /// `invalid_argument` for the field `type`: for control messages, and in strict mode for
    /// unknown types and types outside of their namespace.
    pub fn check(&self, event_type: &EventType, channel: Option<&ChannelName>) -> Result<()> {
        let Some(known) = self.types.get(event_type) else {
            return match self.mode {
                Mode::Open | Mode::Known => Ok(()),
                Mode::Strict => Err(Error::field(
                    "type",
                    format!("{event_type} is not in the catalog"),
                )),
            };
        };
        if known.control {
            let text = format!("{event_type} is the server's own message, and no event");
            return Err(Error::field("type", text));
        }
        if self.mode == Mode::Open || channel.is_none_or(|channel| known.belongs(channel)) {
            return Ok(());
        }
        let also = if known.broadcast {
            ", or to global"
        } else {
            ""
        };
        let home = &known.namespace;
        let text = format!("{event_type} belongs to the namespace {home}{also}");
        Err(Error::field("type", text))
    }

    /// Checks a payload. In open mode every payload is accepted. A type without a schema is not
    /// checked.
    ///
    /// # Errors
    /// In strict mode, `invalid_argument` for the field `data`, with up to [`MAX_VIOLATIONS`]
    /// places, each a JSON Pointer and what was expected there.
    pub fn check_payload(&self, event_type: &EventType, payload: &Payload) -> Result<()> {
        if self.mode == Mode::Open {
            return Ok(());
        }
        let known = self.types.get(event_type);
        let Some(schema) = known.and_then(|known| known.schema.as_ref()) else {
            return Ok(());
        };
        if !payload.is_json() {
            let text = format!("expected JSON: {event_type} has a schema");
            return Err(Error::field("data", text));
        }
        let violations = schema.violations(payload.data());
        if violations.is_empty() {
            return Ok(());
        }
        let places = violations
            .into_iter()
            .map(|violation| (violation.path, violation.message));
        Err(Error::places("data", places))
    }

    /// The violations of a JSON payload in any mode, at most [`MAX_VIOLATIONS`]. The caller bounds
    /// its size.
    ///
    /// # Errors
    /// `not_found` if the type is not in the catalog.
    pub fn validate(&self, event_type: &str, data: &[u8]) -> Result<Vec<Violation>> {
        let known = self.known(event_type)?;
        let payload = match Payload::new(Bytes::copy_from_slice(data), "") {
            Ok(payload) => payload,
            Err(error) => return Ok(vec![Violation::of_all(error.description())]),
        };
        Ok(match &known.schema {
            Some(schema) => schema.violations(payload.data()),
            None => Vec::new(),
        })
    }

    /// The conflation key: the value at the type's `conflate_key` in the payload.
    #[must_use]
    pub fn conflation_key(&self, event_type: &EventType, payload: &Payload) -> Option<Arc<str>> {
        let path = self.types.get(event_type)?.conflate_key.as_deref()?;
        if !payload.is_json() {
            return None;
        }
        let path = path.strip_prefix("data.").unwrap_or(path);
        let found = strict_json::find(payload.data(), path.split('.'))?;
        let key = match found.get().as_bytes().first()? {
            // The text of the number. Two events share a key only if they spell it alike.
            b'-' | b'0'..=b'9' => Cow::Borrowed(found.get()),
            _ => strict_json::identifier(found)?,
        };
        (key.len() <= 255).then(|| Arc::from(&*key))
    }

    /// Which types are restricted to which roles.
    #[must_use]
    pub fn type_roles(&self) -> std::collections::HashMap<EventType, Arc<[Arc<str>]>> {
        let limited = self.types.values().filter(|known| !known.roles.is_empty());
        limited
            .map(|known| (known.name.clone(), known.roles.clone().into()))
            .collect()
    }
}

#[cfg(test)]
mod tests;
