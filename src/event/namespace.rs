//! Namespaces: what holds for all channels whose names begin alike.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::ChannelName;

/// How much of a channel is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryPolicy {
    /// The most events; 0 keeps none, and gives no offsets.
    pub size: usize,
    /// How long.
    pub ttl: Duration,
    /// The most bytes.
    pub bytes: usize,
}

impl HistoryPolicy {
    /// Keeps nothing.
    pub const NONE: HistoryPolicy = HistoryPolicy {
        size: 0,
        ttl: Duration::ZERO,
        bytes: 0,
    };
}

/// What happens when a slow connection's outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlowConsumer {
    /// Close it (4411); the client resumes.
    #[default]
    Disconnect,
    /// The oldest waiting events go; a `gap` says which.
    DropOldest,
    /// Of events with one key only the newest waits; a `gap` says which are skipped.
    Conflate,
    /// Live delivery stops, and goes on from history when the outbox drains.
    Resync,
}

/// The settings of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
    /// How much of each channel is kept.
    pub history: HistoryPolicy,
    /// Whether it is known who is in a channel.
    pub presence: bool,
    /// What happens to slow connections.
    pub slow_consumer: SlowConsumer,
    /// How long a channel without subscribers and events is kept.
    pub max_idle: Duration,
}

impl Namespace {
    /// A namespace of this name with every setting at its default.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Namespace {
            name: Arc::from(name),
            history: HistoryPolicy::NONE,
            presence: false,
            slow_consumer: SlowConsumer::Disconnect,
            max_idle: Duration::from_hours(1),
        }
    }
}

/// All namespaces, with the one that stands for every undeclared name.
#[derive(Debug, Clone)]
pub struct Namespaces {
    declared: HashMap<Arc<str>, Arc<Namespace>>,
    other: Arc<Namespace>,
}

impl Namespaces {
    /// Takes the declared ones; one named `*` stands for every other name.
    pub fn new(declared: impl IntoIterator<Item = Namespace>) -> Self {
        let mut declared: HashMap<Arc<str>, Arc<Namespace>> = declared
            .into_iter()
            .map(|n| (Arc::clone(&n.name), Arc::new(n)))
            .collect();
        let other = declared
            .remove("*")
            .unwrap_or_else(|| Arc::new(Namespace::named("*")));
        Namespaces { declared, other }
    }

    /// The declared ones, in no order; not the one that stands for every other name.
    pub fn declared(&self) -> impl Iterator<Item = &Arc<Namespace>> {
        self.declared.values()
    }

    /// The settings of a channel.
    #[must_use]
    pub fn of(&self, channel: &ChannelName) -> &Arc<Namespace> {
        self.declared
            .get(channel.namespace())
            .unwrap_or(&self.other)
    }
}
