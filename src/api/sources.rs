//! Sources, for operators.

use serde::Serialize;

use crate::telemetry::{self, SourceSnapshot};

/// The sources of a node.
#[derive(Debug, Clone, Serialize)]
pub struct Sources {
    /// The node's name.
    pub node: String,
    /// The sources, in the order of the configuration.
    pub sources: Vec<Source>,
}

/// A source.
#[derive(Debug, Clone, Serialize)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// `postgres`, `redis` or `nats`.
    pub kind: &'static str,
    /// The server, without user and password.
    pub server: String,
    /// Whether it is connected.
    pub connected: bool,
    /// Records that wait; `null` if it is not known.
    pub lag: Option<u64>,
    /// The age of the oldest record in the batch that was read last; 0 if none waits.
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
    pub rate: f64,
    /// The newest failure.
    pub last_failure: Option<String>,
    /// When that was.
    pub last_failure_at: Option<String>,
    /// The newest dead letters, newest first: at most 100.
    pub recent_dead_letters: Vec<DeadLetter>,
}

/// A record that can't be published.
#[derive(Debug, Clone, Serialize)]
pub struct DeadLetter {
    /// When it was given up.
    pub time: String,
    /// Its name in the source.
    pub record: String,
    /// Its channel, as it was given.
    pub channel: String,
    /// Why it can't be published.
    pub reason: String,
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
            kind: source.kind,
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
            recent_dead_letters: source.letters.into_iter().map(DeadLetter::from).collect(),
        }
    }
}

impl From<telemetry::DeadLetter> for DeadLetter {
    fn from(letter: telemetry::DeadLetter) -> Self {
        DeadLetter {
            time: letter.time.to_rfc3339(),
            record: letter.record,
            channel: letter.channel,
            reason: letter.reason,
        }
    }
}
