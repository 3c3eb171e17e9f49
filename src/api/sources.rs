//! Sources, for operators.

use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::{Object, ObjectBuilder, Type};

use crate::telemetry::{self, SourceSnapshot};

/// The sources of a node.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Sources {
    /// The node's name.
    pub node: String,
    /// The sources, in the order of the configuration.
    pub sources: Vec<Source>,
}

/// A source.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// `postgres`, `redis` or `nats`.
    #[schema(schema_with = kind)]
    pub kind: String,
    /// The server, without user and password.
    pub server: String,
    /// Whether it is connected.
    pub connected: bool,
    /// Records that wait; `null` if it is not known.
    #[schema(required = true)]
    pub lag: Option<u64>,
    /// The age of the oldest record in the batch that was read last; 0 if none waits.
    #[schema(minimum = 0)]
    pub lag_seconds: f64,
    /// Records that were published.
    pub events: u64,
    /// Of these, records that had been published before, and were dropped.
    pub duplicates: u64,
    /// Records that can't be published.
    pub dead_letters: u64,
    /// Lost or refused connections, and publishes that had to be repeated.
    pub failures: u64,
    /// Published records per second, over the last ten seconds.
    #[schema(minimum = 0)]
    pub rate: f64,
    /// The newest failure.
    #[schema(required = true)]
    pub last_failure: Option<String>,
    /// When that was.
    #[schema(required = true, format = DateTime)]
    pub last_failure_at: Option<String>,
    /// The newest dead letters, newest first: at most 100.
    pub recent_dead_letters: Vec<SourceDeadLetter>,
}

/// A record that can't be published.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SourceDeadLetter {
    /// When it was given up.
    #[schema(format = DateTime)]
    pub time: String,
    /// Its name in the source.
    pub record: String,
    /// Its channel, as it was given.
    pub channel: String,
    /// Why it can't be published.
    pub reason: String,
}

/// The kinds of sources.
fn kind() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(["postgres", "redis", "nats"]))
        .build()
}

impl Sources {
    /// The sources of the node with this name.
    #[must_use]
    pub fn new(node: String, sources: Vec<SourceSnapshot>) -> Self {
        Sources {
            node,
            sources: sources.into_iter().map(Source::from).collect(),
        }
    }
}

impl From<SourceSnapshot> for Source {
    fn from(source: SourceSnapshot) -> Self {
        let (at, why) = source.failure.unzip();
        Source {
            name: source.name,
            kind: source.kind.to_owned(),
            server: source.server,
            connected: source.connected,
            lag: source.lag,
            lag_seconds: source.lag_time.as_secs_f64(),
            events: source.events,
            duplicates: source.duplicates,
            dead_letters: source.dead_letters,
            failures: source.failures,
            rate: source.rate,
            last_failure: why,
            last_failure_at: at.map(crate::event::Timestamp::to_rfc3339),
            recent_dead_letters: source
                .letters
                .into_iter()
                .map(SourceDeadLetter::from)
                .collect(),
        }
    }
}

impl From<telemetry::DeadLetter> for SourceDeadLetter {
    fn from(letter: telemetry::DeadLetter) -> Self {
        SourceDeadLetter {
            time: letter.time.to_rfc3339(),
            record: letter.record,
            channel: letter.channel,
            reason: letter.reason,
        }
    }
}
