//! The tables of the TOML file that say what events there are and who may have them.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{duration, values};
use crate::catalog::{Source, Sources};
use crate::event::SlowConsumer;

/// `[[namespace]]`: what holds for all channels whose names begin alike.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamespaceConfig {
    /// The part of the channel's name before the first `:`, or `*` for every undeclared one.
    pub name: String,
    /// How much of each channel is kept.
    pub history: NamespaceHistory,
    /// Whether it is known who is in a channel.
    pub presence: bool,
    /// Who may follow (CEL); `None`: services and admins only.
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
    /// The least time between two events of a key, for each subscriber; 0: none.
    #[serde(deserialize_with = "duration::deserialize")]
    pub min_interval: Duration,
}

impl Default for NamespaceConfig {
    fn default() -> Self {
        NamespaceConfig {
            name: String::new(),
            history: NamespaceHistory::default(),
            presence: false,
            subscribe: None,
            publish: None,
            slow_consumer: SlowConsumer::Disconnect,
            max_idle: Duration::from_hours(1),
            min_interval: Duration::ZERO,
        }
    }
}

/// `history` of a namespace: how much of each channel is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamespaceHistory {
    /// The most events of a channel; 0: none, and no offsets.
    pub size: usize,
    /// How long.
    #[serde(deserialize_with = "duration::deserialize")]
    pub ttl: Duration,
    /// The most bytes of a channel.
    pub bytes: usize,
}

impl Default for NamespaceHistory {
    fn default() -> Self {
        NamespaceHistory {
            size: 0,
            ttl: Duration::from_hours(1),
            bytes: 64 * 1024 * 1024,
        }
    }
}

/// `[[event_type]]`: a known kind of event.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventTypeConfig {
    /// Its name.
    pub name: String,
    /// The namespace in whose channels it is published; empty: any.
    pub namespace: String,
    /// What it means.
    pub description: String,
    /// If not empty, only holders of one of these roles receive it.
    pub roles: Vec<String>,
    /// Whether it may also go to `global`, to everyone, where `namespace` is set.
    pub broadcast: bool,
    /// Whether it is one of the server's own messages, which can be looked up but not published.
    pub control: bool,
    /// JSON Schema (2020-12) of its payload, as JSON.
    #[serde(deserialize_with = "values::text")]
    pub schema: Option<String>,
    /// The same, in a file.
    #[serde(deserialize_with = "values::path")]
    pub schema_file: Option<PathBuf>,
    /// A payload that is valid, as JSON.
    #[serde(deserialize_with = "values::text")]
    pub example: Option<String>,
    /// The same, in a file. Where neither is set: the first of the schema's `examples`.
    #[serde(deserialize_with = "values::path")]
    pub example_file: Option<PathBuf>,
    /// Where in the event the key for conflation stands, such as `data.job_id`.
    #[serde(deserialize_with = "values::text")]
    pub conflate_key: Option<String>,
}

impl EventTypeConfig {
    /// Where its schema and its example stand.
    #[must_use]
    pub fn sources(&self) -> Sources<'_> {
        Sources {
            schema: Source::of(self.schema.as_deref(), self.schema_file.as_deref()),
            example: Source::of(self.example.as_deref(), self.example_file.as_deref()),
        }
    }
}

/// `[catalog]`: how strictly event types are held to the catalog.
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
    /// Unknown types pass.
    Open,
    /// Unknown types pass, and invalid payloads of known ones are refused.
    Known,
    /// Unknown types and invalid payloads are refused.
    Strict,
}
