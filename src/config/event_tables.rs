//! The tables of the TOML file that declare namespaces and event types.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{duration, values};
use crate::catalog::{Source, Sources};
use crate::event::SlowConsumer;

/// `[[namespace]]`: settings of all channels whose names have the same first part.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceConfig {
    /// The part of the channel's name before the first `:`, or `*` for every undeclared one.
    pub name: String,
    /// How much of each channel is kept.
    pub history: NamespaceHistory,
    /// Whether the server tracks which users are subscribed to a channel.
    pub presence: bool,
    /// Who may subscribe (CEL); `None`: services and admins only.
    #[serde(deserialize_with = "values::text")]
    pub subscribe: Option<String>,
    /// Who may publish from a browser (CEL); `None`: services and admins only.
    #[serde(deserialize_with = "values::text")]
    pub publish: Option<String>,
    /// What happens to a connection whose outbox is full.
    #[serde(deserialize_with = "values::slow_consumer")]
    pub slow_consumer: SlowConsumer,
    /// How long an empty, unused channel is kept.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_idle: Duration,
}

/// `history` of a namespace: how much of each channel is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceHistory {
    /// The most events of a channel; 0: no history, and no offsets.
    pub size: usize,
    /// How long an event is kept.
    #[serde(deserialize_with = "duration::deserialize")]
    pub ttl: Duration,
    /// The most bytes of a channel.
    pub bytes: usize,
}

/// `[[event_type]]`: a declared event type.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventTypeConfig {
    /// Its name.
    pub name: String,
    /// The namespace in whose channels it may be published; empty: any.
    pub namespace: String,
    /// Its meaning.
    pub description: String,
    /// If not empty, only connections with one of these roles receive it.
    pub roles: Vec<String>,
    /// Whether an event type with a `namespace` may also be published to everyone, in `global`.
    pub broadcast: bool,
    /// Whether it is a message of the protocol that is listed in the catalog but can't be
    /// published.
    pub control: bool,
    /// JSON Schema (2020-12) of its payload, as JSON.
    #[serde(deserialize_with = "values::text")]
    pub schema: Option<String>,
    /// The schema, in a file.
    #[serde(deserialize_with = "values::path")]
    pub schema_file: Option<PathBuf>,
    /// A valid payload, as JSON.
    #[serde(deserialize_with = "values::text")]
    pub example: Option<String>,
    /// The example, in a file. If neither is set: the first of the schema's `examples`.
    #[serde(deserialize_with = "values::path")]
    pub example_file: Option<PathBuf>,
    /// The path of the conflation key in the event, such as `data.job_id`.
    #[serde(deserialize_with = "values::text")]
    pub conflate_key: Option<String>,
}

impl EventTypeConfig {
    /// The sources of its schema and its example.
    #[must_use]
    pub fn sources(&self) -> Sources<'_> {
        Sources {
            schema: Source::of(self.schema.as_deref(), self.schema_file.as_deref()),
            example: Source::of(self.example.as_deref(), self.example_file.as_deref()),
        }
    }
}

/// `[catalog]`: how strictly events are checked against the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    /// What happens to unknown and invalid events.
    pub mode: CatalogMode,
}

/// What happens to unknown and invalid events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatalogMode {
    /// Unknown types are accepted.
    Open,
    /// Unknown types are accepted, and invalid payloads of known ones are refused.
    Known,
    /// Unknown types and invalid payloads are refused.
    Strict,
}
