//! `[[source]]`: systems of the application whose records are published.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{Config, Secret, duration, values};
use crate::sources::{RecordDefaults, SourceKind, SourceSettings};

/// `[[source]]`: a system of the application whose records are published.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: SourceKindName,
    /// The server, with user and password.
    pub url: Secret,
    /// The certificates that sign the server's certificate.
    #[serde(deserialize_with = "values::path")]
    pub ca: Option<PathBuf>,
    /// A file with credentials.
    #[serde(deserialize_with = "values::path")]
    pub credentials_file: Option<PathBuf>,
    /// The stream.
    pub stream: String,
    /// The consumer group or durable consumer.
    pub group: String,
    /// The channel of a record that names none.
    #[serde(deserialize_with = "values::text")]
    pub channel: Option<String>,
    /// The event type of a record that names none.
    #[serde(deserialize_with = "values::text")]
    pub event_type: Option<String>,
    /// The most records of one batch.
    pub batch: u32,
    /// How often the source is asked without being woken.
    #[serde(deserialize_with = "duration::deserialize")]
    pub poll: Duration,
}

/// A kind of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKindName {
    /// A table in PostgreSQL.
    Postgres,
    /// A stream in Redis.
    Redis,
    /// A stream of NATS JetStream.
    Nats,
}

impl Config {
    /// The settings of the sources.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceSettings> {
        let limits = &self.limits;
        let share = limits.idempotency_keys / 2 / self.source.len().max(1);
        let keys = share.min(limits.idempotency_keys_per_publisher);
        let sources = self.source.iter().map(|source| SourceSettings {
            kind: match source.kind {
                SourceKindName::Postgres => SourceKind::Postgres,
                SourceKindName::Redis => SourceKind::Redis,
                SourceKindName::Nats => SourceKind::Nats,
            },
            url: source.url.clone(),
            ca: source.ca.clone(),
            credentials_file: source.credentials_file.clone(),
            stream: source.stream.clone(),
            group: source.group.clone(),
            consumer: self.server.node.clone(),
            batch: source.batch,
            poll: source.poll,
            event_bytes: limits.event_bytes,
            keys,
            defaults: RecordDefaults {
                name: source.name.clone(),
                channel: source.channel.clone(),
                event_type: source.event_type.clone(),
            },
        });
        sources.collect()
    }
}
