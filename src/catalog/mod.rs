//! The known event types.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::event::{ChannelName, EventType, Payload};

/// Whether types that are not in the catalog pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Unknown types pass.
    #[default]
    Open,
    /// Unknown types are refused, and known ones outside their namespace.
    Strict,
}

/// One known event type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownType {
    /// Its name.
    pub name: EventType,
    /// The namespace in whose channels it is published; empty is any.
    pub namespace: String,
    /// What it means.
    pub description: String,
    /// If not empty, only holders of one of these roles receive it.
    pub roles: Vec<Arc<str>>,
    /// Where in the payload the key for conflation stands, such as `data.job_id`.
    pub conflate_key: Option<String>,
}

/// All known event types, by name.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    mode: Mode,
    types: BTreeMap<EventType, KnownType>,
}

impl Catalog {
    /// A catalog of these types; of two with one name the later counts.
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

    /// All types by name, from behind `after` on.
    pub fn after(&self, after: &str) -> impl Iterator<Item = &KnownType> {
        let after = after.to_owned();
        self.types
            .values()
            .filter(move |known| known.name.as_str() > after.as_str())
    }

    /// Whether an event of this type may be published to this channel.
    ///
    /// # Errors
    /// In strict mode, `invalid_argument` for the field `type`.
    pub fn check(&self, event_type: &EventType, channel: Option<&ChannelName>) -> Result<()> {
        if self.mode == Mode::Open {
            return Ok(());
        }
        let Some(known) = self.types.get(event_type) else {
            return Err(Error::field(
                "type",
                format!("{event_type} is not in the catalog"),
            ));
        };
        match channel {
            Some(channel)
                if !known.namespace.is_empty() && channel.namespace() != known.namespace =>
            {
                let text = format!("{event_type} belongs to the namespace {}", known.namespace);
                Err(Error::field("type", text))
            }
            _ => Ok(()),
        }
    }

    /// The key for conflation, as the type's `conflate_key` finds it in the payload.
    #[must_use]
    pub fn conflation_key(&self, event_type: &EventType, payload: &Payload) -> Option<Arc<str>> {
        let path = self.types.get(event_type)?.conflate_key.as_deref()?;
        if !payload.is_json() {
            return None;
        }
        let data: Value = serde_json::from_slice(payload.data()).ok()?;
        let mut at = &data;
        for step in path.strip_prefix("data.").unwrap_or(path).split('.') {
            at = at.get(step)?;
        }
        let key = match at {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        (key.len() <= 255).then(|| Arc::from(key))
    }

    /// Which types are meant for which roles.
    #[must_use]
    pub fn type_roles(&self) -> std::collections::HashMap<EventType, Arc<[Arc<str>]>> {
        let limited = self.types.values().filter(|known| !known.roles.is_empty());
        limited
            .map(|known| (known.name.clone(), known.roles.clone().into()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn catalog(mode: Mode) -> Catalog {
        let name = EventType::new("job.progress").unwrap();
        Catalog::new(
            mode,
            [KnownType {
                name,
                namespace: "jobs".into(),
                description: String::new(),
                roles: Vec::new(),
                conflate_key: Some("data.job.id".into()),
            }],
        )
    }

    #[test]
    fn strict_mode_refuses_unknown_types_and_foreign_namespaces() {
        let catalog = catalog(Mode::Strict);
        let known = EventType::new("job.progress").unwrap();
        let home = ChannelName::new("jobs:1").unwrap();
        let foreign = ChannelName::new("other:1").unwrap();
        assert!(catalog.check(&known, Some(&home)).is_ok());
        assert_eq!(
            catalog
                .check(&known, Some(&foreign))
                .unwrap_err()
                .field_name(),
            Some("type")
        );
        let unknown = EventType::new("x").unwrap();
        assert_eq!(
            catalog
                .check(&unknown, Some(&home))
                .unwrap_err()
                .field_name(),
            Some("type")
        );
    }

    #[test]
    fn the_conflation_key_is_found_in_the_payload() {
        let catalog = catalog(Mode::Open);
        let known = EventType::new("job.progress").unwrap();
        let payload =
            |json: &'static str| Payload::new(Bytes::from_static(json.as_bytes()), "").unwrap();
        let key = catalog.conflation_key(&known, &payload(r#"{"job":{"id":7}}"#));
        assert_eq!(key.as_deref(), Some("7"));
        assert_eq!(
            catalog.conflation_key(&known, &payload(r#"{"job":[]}"#)),
            None
        );
    }
}
