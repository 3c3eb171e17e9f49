//! Metrics of hooks: the questions that the application is asked.

use std::time::Duration;

use super::families::{Family, counter, counters, float, gauge, histogram};
use super::histogram::Histogram;
use super::names::{Counter, Gauge};

/// What the application is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HookType {
    /// A client connects.
    Connect,
    /// A client renews its identity.
    Refresh,
    /// A client subscribes to a channel.
    Subscribe,
    /// A client publishes an event.
    Publish,
    /// A client calls the application.
    Rpc,
    /// A connection has closed.
    Disconnected,
}

impl HookType {
    /// Every type, in the order of the metrics.
    pub const ALL: [HookType; 6] = [
        HookType::Connect,
        HookType::Refresh,
        HookType::Subscribe,
        HookType::Publish,
        HookType::Rpc,
        HookType::Disconnected,
    ];

    /// Its name in questions, in `hooks.ask` and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            HookType::Connect => "connect",
            HookType::Refresh => "refresh",
            HookType::Subscribe => "subscribe",
            HookType::Publish => "publish",
            HookType::Rpc => "rpc",
            HookType::Disconnected => "disconnected",
        }
    }

    /// The type with this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Its index in [`HookType::ALL`].
    #[must_use]
    #[expect(
        clippy::as_conversions,
        reason = "the only way to a discriminant in a const fn"
    )]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// How a question ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookOutcome {
    /// The application allowed it.
    Allowed,
    /// The application refused it.
    Refused,
    /// No connection, or it broke.
    Unreachable,
    /// No answer within `hooks.timeout`.
    Timeout,
    /// The answer exceeds `hooks.answer_bytes`.
    TooLarge,
    /// A status other than 200.
    Status,
    /// The answer could not be read.
    Malformed,
    /// `hooks.waiting` questions waited already.
    Busy,
    /// The circuit breaker is open: the application was not asked.
    BreakerOpen,
}

impl HookOutcome {
    /// Every outcome, in the order of the metrics.
    pub const ALL: [HookOutcome; 9] = [
        HookOutcome::Allowed,
        HookOutcome::Refused,
        HookOutcome::Unreachable,
        HookOutcome::Timeout,
        HookOutcome::TooLarge,
        HookOutcome::Status,
        HookOutcome::Malformed,
        HookOutcome::Busy,
        HookOutcome::BreakerOpen,
    ];

    /// Its label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            HookOutcome::Allowed => "allowed",
            HookOutcome::Refused => "refused",
            HookOutcome::Unreachable => "unreachable",
            HookOutcome::Timeout => "timeout",
            HookOutcome::TooLarge => "too_large",
            HookOutcome::Status => "status",
            HookOutcome::Malformed => "malformed",
            HookOutcome::Busy => "busy",
            HookOutcome::BreakerOpen => "breaker_open",
        }
    }

    #[expect(
        clippy::as_conversions,
        reason = "the only way to a discriminant of an enum"
    )]
    const fn index(self) -> usize {
        self as usize
    }
}

/// Metrics of the questions to the application.
#[derive(Debug, Default)]
pub struct HookMetrics {
    /// 1 where hooks are configured: a server without them shows none of these.
    configured: Gauge,
    pub(super) asked: [Counter; HookType::ALL.len()],
    pub(super) outcomes: [Counter; HookOutcome::ALL.len()],
    pub(super) seconds: Histogram,
    pub(super) cache_hits: Counter,
    pub(super) shared: Counter,
    pub(super) in_flight: Gauge,
    pub(super) waiting: Gauge,
    pub(super) breaker_open: Gauge,
}

impl HookMetrics {
    /// Hooks are configured.
    pub fn configured(&self) {
        self.configured.set(1);
    }

    /// True once hooks are configured.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.configured.get() > 0
    }

    /// A question to the application, which was not answered from the cache.
    pub fn asked(&self, kind: HookType) {
        if let Some(counter) = self.asked.get(kind.index()) {
            counter.add(1);
        }
    }

    /// A question ended.
    pub fn ended(&self, outcome: HookOutcome) {
        if let Some(counter) = self.outcomes.get(outcome.index()) {
            counter.add(1);
        }
    }

    /// The application took this long to answer.
    pub fn answered(&self, took: Duration) {
        self.seconds.record(took);
    }

    /// A question was answered from the cache.
    pub fn cache_hit(&self) {
        self.cache_hits.add(1);
    }

    /// A question got the answer to an equal one that was asked at the same time.
    pub fn shared(&self) {
        self.shared.add(1);
    }

    /// The number of requests to the application changed by this much.
    pub fn in_flight(&self, delta: i64) {
        self.in_flight.add(delta);
    }

    /// The number of questions that wait for a free request changed by this much.
    pub fn waiting(&self, delta: i64) -> i64 {
        self.waiting.add(delta)
    }

    /// Whether the circuit breaker is open.
    pub fn breaker_open(&self, is: bool) {
        self.breaker_open.set(i64::from(is));
    }

    /// The metrics by their public names.
    pub(super) fn families(&self) -> [Family; 8] {
        let hooks = self;
        let asked = HookType::ALL.iter().zip(&hooks.asked);
        let outcomes = HookOutcome::ALL.iter().zip(&hooks.outcomes);
        [
            counters(
                "tidings_hooks_asked",
                "Questions to the application, by type",
                "type",
                asked.map(|(kind, n)| (kind.as_str(), n.get())),
            ),
            counters(
                "tidings_hooks_outcomes",
                "How questions to the application ended",
                "outcome",
                outcomes.map(|(outcome, n)| (outcome.as_str(), n.get())),
            ),
            histogram(
                "tidings_hooks_seconds",
                "From the request to the application until its whole answer",
                hooks.seconds.snapshot(),
            ),
            counter(
                "tidings_hooks_cache_hits",
                "Questions answered from the cache",
                hooks.cache_hits.get(),
            ),
            counter(
                "tidings_hooks_shared",
                "Questions that got the answer to an equal one that was asked at the same time",
                hooks.shared.get(),
            ),
            gauge(
                "tidings_hooks_in_flight",
                "Requests that the application has not answered yet",
                float(hooks.in_flight.level()),
            ),
            gauge(
                "tidings_hooks_waiting",
                "Questions that wait for a free request",
                float(hooks.waiting.level()),
            ),
            gauge(
                "tidings_hooks_breaker_open",
                "Whether the circuit breaker is open: 1 while the application is not asked",
                float(hooks.breaker_open.level()),
            ),
        ]
    }
}
