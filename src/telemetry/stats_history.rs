//! The last hour of the statistics, in steps of five seconds, for operators.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::histogram::HistogramSnapshot;
use super::metrics::Metrics;
use super::process;
use super::stats::{LatencyStats, StatsSnapshot};
use crate::event::Timestamp;

/// The time between two samples.
pub const STEP: Duration = Duration::from_secs(5);
/// How many samples are kept: one hour.
const KEPT: usize = 720;

/// The statistics of one step. What is counted is counted within the step; what is measured, such as
/// connections, is measured at its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StatsSample {
    /// The end of the step.
    pub time: Timestamp,
    /// How long the step was: five seconds, unless the server stood still.
    pub seconds: f64,
    /// Open connections.
    pub connections: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Channels.
    pub channels: u64,
    /// Bytes in outboxes.
    pub outbox_bytes: u64,
    /// Memory of the process.
    pub resident_bytes: u64,
    /// Processor time of the process within the step.
    pub cpu_seconds: f64,
    /// Connections that were opened.
    pub opened: u64,
    /// Events accepted from publishers.
    pub published: u64,
    /// Events delivered to connections.
    pub delivered: u64,
    /// Of these, replayed from history.
    pub replayed: u64,
    /// Events dropped for slow connections.
    pub dropped: u64,
    /// Events replaced by newer ones.
    pub conflated: u64,
    /// Errors returned to clients, refused tokens and reached rate limits.
    pub refused: u64,
    /// How often an outbox was full.
    pub slow_consumers: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// The median time from an accepted publish to the socket, in milliseconds, within the step.
    pub latency_p50_ms: f64,
    /// The 99th percentile of it.
    pub latency_p99_ms: f64,
}

/// A ring of samples.
#[derive(Debug)]
pub(super) struct StatsHistory(Mutex<Ring>);

#[derive(Debug)]
struct Ring {
    samples: VecDeque<StatsSample>,
    before: Totals,
}

/// What a step is counted from.
#[derive(Debug)]
struct Totals {
    at: Instant,
    opened: u64,
    events: [u64; 5],
    refused: u64,
    slow_consumers: u64,
    bytes: [u64; 2],
    cpu: Duration,
    latency: HistogramSnapshot,
}

impl Default for StatsHistory {
    fn default() -> Self {
        StatsHistory(Mutex::new(Ring {
            samples: VecDeque::new(),
            before: Totals {
                at: Instant::now(),
                opened: 0,
                events: [0; 5],
                refused: 0,
                slow_consumers: 0,
                bytes: [0; 2],
                cpu: Duration::ZERO,
                latency: HistogramSnapshot::default(),
            },
        }))
    }
}

impl Totals {
    fn now(at: Instant, stats: &StatsSnapshot, cpu: Duration, latency: HistogramSnapshot) -> Self {
        let events = &stats.events;
        Totals {
            at,
            opened: stats.connections.total,
            events: [
                events.published,
                events.delivered,
                events.replayed,
                events.dropped,
                events.conflated,
            ],
            refused: stats.errors.values().sum::<u64>() + stats.auth_failures + stats.rate_limited,
            slow_consumers: stats.slow_consumers,
            bytes: [stats.bytes.received, stats.bytes.sent],
            cpu,
            latency,
        }
    }
}

impl Metrics {
    /// Takes a sample if one is due. Called about once a second.
    pub(super) fn sample(&self, now: Instant) {
        let mut ring = self.recent.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(ring.before.at);
        if passed < STEP {
            return;
        }
        let stats = self.snapshot();
        let deliveries = self.deliveries();
        let usage = process::figures();
        let cpu = usage.cpu.unwrap_or_default();
        let totals = Totals::now(now, &stats, cpu, deliveries.latency);
        let before = &ring.before;
        let [published, delivered, replayed, dropped, conflated] = {
            let mut counts = totals.events;
            for (count, before) in counts.iter_mut().zip(&before.events) {
                *count = count.saturating_sub(*before);
            }
            counts
        };
        let [bytes_in, bytes_out] = totals.bytes;
        let latency = LatencyStats::from(&totals.latency.since(&before.latency));
        let sample = StatsSample {
            time: Timestamp::now(),
            seconds: passed.as_secs_f64(),
            connections: stats.connections.now,
            subscriptions: stats.subscriptions,
            channels: stats.channels,
            outbox_bytes: u64::try_from(deliveries.outbox_bytes).unwrap_or(0),
            resident_bytes: usage.resident_bytes.unwrap_or(0),
            cpu_seconds: cpu.saturating_sub(before.cpu).as_secs_f64(),
            opened: totals.opened.saturating_sub(before.opened),
            published,
            delivered,
            replayed,
            dropped,
            conflated,
            refused: totals.refused.saturating_sub(before.refused),
            slow_consumers: totals.slow_consumers.saturating_sub(before.slow_consumers),
            bytes_in: bytes_in.saturating_sub(before.bytes[0]),
            bytes_out: bytes_out.saturating_sub(before.bytes[1]),
            latency_p50_ms: latency.p50_ms,
            latency_p99_ms: latency.p99_ms,
        };
        ring.before = totals;
        if ring.samples.len() == KEPT {
            ring.samples.pop_front();
        }
        ring.samples.push_back(sample);
    }

    /// The samples of the last hour, oldest first: those after this time, or all.
    #[must_use]
    pub fn stats_history(&self, after: Option<Timestamp>) -> Vec<StatsSample> {
        let ring = self.recent.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Times are told in milliseconds.
        let is_wanted = |sample: &&StatsSample| {
            after.is_none_or(|after| sample.time.as_millis() > after.as_millis())
        };
        ring.samples.iter().filter(is_wanted).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventType;
    use crate::telemetry::Transport;

    #[test]
    fn sample_counts_what_happened_in_its_step_only() {
        let metrics = Metrics::new("n1");
        let (start, kind) = (Instant::now(), EventType::new("a.b").unwrap());
        metrics.sample(start);
        assert_eq!(metrics.stats_history(None), [], "no step has passed");
        metrics.connection_opened(Transport::WebSocket);
        metrics.published(&kind);
        metrics.delivery_latency(Duration::from_millis(2), 1);
        metrics.sample(start + STEP * 2);
        metrics.published(&kind);
        metrics.published(&kind);
        metrics.error(crate::error::Code::NotFound);
        metrics.sample(start + STEP * 3);
        let samples = metrics.stats_history(None);
        assert_eq!(samples.len(), 2);
        assert_eq!((samples[0].published, samples[0].opened), (1, 1));
        assert!(samples[0].latency_p50_ms > 1.0);
        assert_eq!((samples[1].published, samples[1].opened), (2, 0));
        assert_eq!((samples[1].connections, samples[1].refused), (1, 1));
        assert!(samples[1].latency_p99_ms == 0.0, "nothing was delivered");
        assert_eq!(metrics.stats_history(Some(samples[1].time)), []);
    }

    #[test]
    fn history_is_one_hour_long() {
        let metrics = Metrics::new("n1");
        let start = Instant::now();
        for n in 0..KEPT + 9 {
            metrics.sample(start + STEP * u32::try_from(n + 1).unwrap());
        }
        assert_eq!(metrics.stats_history(None).len(), KEPT);
    }
}
