//! Metrics of webhooks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::families::{Family, counter, counters, float, gauges, histogram};
use super::histogram::Histogram;
use super::names::{Counter, Gauge};
use crate::clock::wall_micros;

/// The outcomes of a request. The first is the good one.
pub(super) const OUTCOMES: [&str; 7] = [
    "delivered",
    "refused",
    "gone",
    "unreachable",
    "timeout",
    "too_large",
    "unsigned",
];

/// Metrics of all webhooks.
#[derive(Debug, Default)]
pub(super) struct WebhooksMetrics {
    webhooks: Mutex<Vec<Arc<WebhookMetrics>>>,
    pub(super) edges_lost: Counter,
}

/// Metrics of one webhook.
#[derive(Debug, Default)]
pub struct WebhookMetrics {
    url: String,
    pub(super) queued: Gauge,
    pub(super) queued_bytes: Gauge,
    pub(super) dead: Gauge,
    pub(super) died: Counter,
    pub(super) dropped: Counter,
    pub(super) delivered: Counter,
    pub(super) sent: [Counter; OUTCOMES.len()],
    pub(super) seconds: Histogram,
    /// When the oldest event was queued, in microseconds since 1970; 0 without one.
    oldest: AtomicU64,
}

impl WebhooksMetrics {
    /// The metrics of the webhook with this URL. There are as many as the configuration declares.
    pub(super) fn webhook(&self, url: &str) -> Arc<WebhookMetrics> {
        let webhook = Arc::new(WebhookMetrics {
            url: url.to_owned(),
            ..WebhookMetrics::default()
        });
        self.locked().push(Arc::clone(&webhook));
        webhook
    }

    /// All webhooks.
    pub(super) fn all(&self) -> Vec<Arc<WebhookMetrics>> {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Arc<WebhookMetrics>>> {
        self.webhooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WebhookMetrics {
    /// Its URL without the query.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What its queue holds.
    pub fn level(&self, queued: u64, bytes: u64, dead: u64) {
        let set = |gauge: &Gauge, now: u64| gauge.set(i64::try_from(now).unwrap_or(i64::MAX));
        set(&self.queued, queued);
        set(&self.queued_bytes, bytes);
        set(&self.dead, dead);
    }

    /// When its oldest event was queued, in microseconds since 1970.
    pub fn oldest(&self, micros: Option<u64>) {
        self.oldest.store(micros.unwrap_or(0), Relaxed);
    }

    /// Counts events that did not fit.
    pub fn dropped(&self, events: u64) {
        self.dropped.add(events);
    }

    /// Counts events that became dead letters.
    pub fn died(&self, events: usize) {
        self.died.add(u64::try_from(events).unwrap_or(0));
    }

    /// Counts delivered events.
    pub fn delivered(&self, events: u64) {
        self.delivered.add(events);
    }

    /// A request has ended.
    pub fn sent(&self, outcome: &str, took: Duration) {
        let counters = OUTCOMES.iter().zip(&self.sent);
        for (_, counter) in counters.filter(|(name, _)| **name == outcome) {
            counter.add(1);
        }
        self.seconds.record(took);
    }

    /// How long its oldest event has waited.
    pub(super) fn lag(&self) -> Duration {
        let oldest = self.oldest.load(Relaxed);
        let now = u64::try_from(wall_micros()).unwrap_or(0);
        match oldest {
            0 => Duration::ZERO,
            _ => Duration::from_micros(now.saturating_sub(oldest)),
        }
    }
}

/// The families of all webhooks. A node without webhooks shows none.
pub(super) fn families(metrics: &WebhooksMetrics) -> Vec<Family> {
    let webhooks = metrics.all();
    if webhooks.is_empty() {
        return Vec::new();
    }
    let each = |value: fn(&WebhookMetrics) -> f64| {
        let series = webhooks.iter();
        let series = series.map(|webhook| (webhook.url.clone(), value(webhook)));
        series.collect::<Vec<_>>()
    };
    let count = |value: fn(&WebhookMetrics) -> &Counter| {
        let series = webhooks.iter();
        let series = series.map(|webhook| (webhook.url.clone(), value(webhook).get()));
        series.collect::<Vec<_>>()
    };
    let outcomes = OUTCOMES.iter().enumerate().map(|(index, outcome)| {
        let requests = webhooks
            .iter()
            .filter_map(|webhook| webhook.sent.get(index));
        (*outcome, requests.map(Counter::get).sum())
    });
    let mut took = Histogram::default().snapshot();
    webhooks
        .iter()
        .for_each(|webhook| took.merge(&webhook.seconds.snapshot()));
    vec![
        gauges(
            "tidings_webhooks_queued",
            "Events in the queue of each webhook",
            "url",
            each(|webhook| float(webhook.queued.level())),
        ),
        gauges(
            "tidings_webhooks_queued_bytes",
            "Bytes of the queue of each webhook",
            "url",
            each(|webhook| float(webhook.queued_bytes.level())),
        ),
        gauges(
            "tidings_webhooks_lag_seconds",
            "How long the oldest queued event of each webhook has waited",
            "url",
            each(|webhook| webhook.lag().as_secs_f64()),
        ),
        gauges(
            "tidings_webhooks_dead_letters",
            "Events of each webhook that were given up and are kept",
            "url",
            each(|webhook| float(webhook.dead.level())),
        ),
        counters(
            "tidings_webhooks_dead_lettered",
            "Events of each webhook that were given up",
            "url",
            count(|webhook| &webhook.died),
        ),
        counters(
            "tidings_webhooks_delivered",
            "Events delivered to each webhook",
            "url",
            count(|webhook| &webhook.delivered),
        ),
        counters(
            "tidings_webhooks_dropped",
            "Events of each webhook that did not fit into its queue, or were not kept as dead letters",
            "url",
            count(|webhook| &webhook.dropped),
        ),
        counters(
            "tidings_webhooks_sent",
            "Requests to webhooks, by outcome",
            "outcome",
            outcomes,
        ),
        histogram(
            "tidings_webhooks_seconds",
            "How long requests to webhooks took",
            took,
        ),
        counter(
            "tidings_webhooks_edges_lost",
            "Changes of connections and channels that were not recorded at once, after which everything is compared",
            metrics.edges_lost.get(),
        ),
    ]
}
