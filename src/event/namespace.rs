//! Namespaces: settings for all channels that share a name prefix.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::ChannelName;

/// Retention of a channel's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryPolicy {
    /// The most events. With 0, nothing is kept and events have no offsets.
    pub size: usize,
    /// The longest age.
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

/// The policy for a slow connection whose outbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlowConsumer {
    /// Close the connection (4411). The client resumes from its position.
    #[default]
    Disconnect,
    /// Drop the oldest queued events, and report them with `gap`.
    DropOldest,
    /// Keep only the newest queued event of each key, and report the skipped ones with `gap`.
    Conflate,
    /// Stop live delivery, and continue from history when the outbox drains.
    Resync,
}

/// The settings of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
    /// Retention of each channel.
    pub history: HistoryPolicy,
    /// Whether presence is tracked.
    pub presence: bool,
    /// The policy for slow connections.
    pub slow_consumer: SlowConsumer,
    /// How long a channel without subscribers and events is kept.
    pub max_idle: Duration,
}

impl Namespace {
    /// A namespace with default settings.
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

/// All namespaces, including the one that applies to undeclared names.
#[derive(Debug, Clone)]
pub struct Namespaces {
    declared: HashMap<Arc<str>, Arc<Namespace>>,
    other: Arc<Namespace>,
}

impl Namespaces {
    /// Takes the declared namespaces. One named `*` applies to every undeclared name.
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

    /// The declared namespaces, in no order, without the one for undeclared names.
    pub fn declared(&self) -> impl Iterator<Item = &Arc<Namespace>> {
        self.declared.values()
    }

    /// All namespaces by name; `*` is the one for undeclared names.
    pub fn by_name(&self) -> impl Iterator<Item = (Arc<str>, &Arc<Namespace>)> {
        let declared = self.declared.iter();
        let declared = declared.map(|(name, namespace)| (Arc::clone(name), namespace));
        declared.chain(std::iter::once((Arc::from("*"), &self.other)))
    }

    /// The settings of a channel.
    #[must_use]
    pub fn of(&self, channel: &ChannelName) -> &Arc<Namespace> {
        self.declared
            .get(channel.namespace())
            .unwrap_or(&self.other)
    }
}
