//! The statistics for operators, over gRPC and HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::histogram::HistogramSnapshot;
use super::labels::{DropReason, Transport};
use super::metrics::Metrics;
use super::names::Counter;
use crate::error::Code;

/// A snapshot of all statistics. Read from counters, so the cost does not depend on the number of
/// connections. Values that change meanwhile may differ from each other by one event.
#[derive(Debug, Clone, PartialEq)]
pub struct StatsSnapshot {
    /// The node.
    pub node: String,
    /// Since the start of the process.
    pub uptime_seconds: f64,
    /// Connected clients.
    pub connections: ConnectionStats,
    /// Connections × channels.
    pub subscriptions: u64,
    /// Existing channels.
    pub channels: u64,
    /// Events since the start.
    pub events: EventStats,
    /// Traffic since the start.
    pub bytes: ByteStats,
    /// Errors sent to clients, by code. Only those that occurred.
    pub errors: BTreeMap<String, u64>,
    /// Refused tokens and certificates.
    pub auth_failures: u64,
    /// Requests refused by a rate limit.
    pub rate_limited: u64,
    /// How often an outbox was full.
    pub slow_consumers: u64,
    /// From the accepted publish to passing the bytes to the socket.
    pub latency: LatencyStats,
}

/// Connected clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionStats {
    /// Now.
    pub now: u64,
    /// The maximum so far.
    pub peak: u64,
    /// All since the start.
    pub total: u64,
    /// Now, by `websocket`, `socketio`, `sse`, `grpc`.
    pub by_transport: BTreeMap<String, u64>,
    /// Now, by registered type. Only types with connections.
    pub by_client_type: BTreeMap<String, u64>,
}

/// Events since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventStats {
    /// Accepted from publishers.
    pub published: u64,
    /// Delivered to connections.
    pub delivered: u64,
    /// Replayed from history.
    pub replayed: u64,
    /// Dropped for a subscriber, for any reason except conflation.
    pub dropped: u64,
    /// Replaced by a newer one of the same key.
    pub conflated: u64,
    /// Withheld from a subscriber by a filter, a role or an audience.
    pub filtered: u64,
    /// Published, by event type: the declared ones, at most 1000 others, and "other".
    pub by_type: BTreeMap<String, u64>,
}

/// Traffic since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteStats {
    /// From clients.
    pub received: u64,
    /// To clients.
    pub sent: u64,
}

/// Percentiles in milliseconds, at most 10 % above the exact ones. `max_ms` is exact.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencyStats {
    /// The median.
    pub p50_ms: f64,
    /// The 90th percentile.
    pub p90_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// The maximum.
    pub max_ms: f64,
}

impl From<&HistogramSnapshot> for LatencyStats {
    fn from(histogram: &HistogramSnapshot) -> Self {
        LatencyStats {
            p50_ms: millis(histogram.percentile(50.0)),
            p90_ms: millis(histogram.percentile(90.0)),
            p99_ms: millis(histogram.percentile(99.0)),
            max_ms: millis(histogram.max()),
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl StatsSnapshot {
    /// The statistics of several nodes together, under the name of the first: counters and levels are
    /// added, and uptime and percentiles are the largest of any node. `None` of no node.
    #[must_use]
    pub fn together(nodes: &[StatsSnapshot]) -> Option<StatsSnapshot> {
        let (first, others) = nodes.split_first()?;
        let mut all = first.clone();
        for node in others {
            all.add(node);
        }
        Some(all)
    }

    fn add(&mut self, other: &StatsSnapshot) {
        // Named one by one, so that a new counter is not forgotten.
        let StatsSnapshot {
            node: _,
            uptime_seconds,
            connections,
            subscriptions,
            channels,
            events,
            bytes,
            errors,
            auth_failures,
            rate_limited,
            slow_consumers,
            latency,
        } = other;
        self.uptime_seconds = self.uptime_seconds.max(*uptime_seconds);
        self.connections.now += connections.now;
        self.connections.peak += connections.peak;
        self.connections.total += connections.total;
        add_all(
            &mut self.connections.by_transport,
            &connections.by_transport,
        );
        add_all(
            &mut self.connections.by_client_type,
            &connections.by_client_type,
        );
        self.subscriptions += subscriptions;
        self.channels += channels;
        self.events.published += events.published;
        self.events.delivered += events.delivered;
        self.events.replayed += events.replayed;
        self.events.dropped += events.dropped;
        self.events.conflated += events.conflated;
        self.events.filtered += events.filtered;
        add_all(&mut self.events.by_type, &events.by_type);
        self.bytes.received += bytes.received;
        self.bytes.sent += bytes.sent;
        add_all(&mut self.errors, errors);
        self.auth_failures += auth_failures;
        self.rate_limited += rate_limited;
        self.slow_consumers += slow_consumers;
        self.latency = LatencyStats {
            p50_ms: self.latency.p50_ms.max(latency.p50_ms),
            p90_ms: self.latency.p90_ms.max(latency.p90_ms),
            p99_ms: self.latency.p99_ms.max(latency.p99_ms),
            max_ms: self.latency.max_ms.max(latency.max_ms),
        };
    }
}

fn add_all(to: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    for (name, count) in from {
        *to.entry(name.clone()).or_default() += count;
    }
}

impl Metrics {
    /// The name of the node.
    #[must_use]
    pub fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// All statistics now.
    #[must_use]
    pub fn snapshot(&self) -> StatsSnapshot {
        let deliveries = self.deliveries();
        StatsSnapshot {
            node: self.node.to_string(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            connections: self.connection_stats(),
            subscriptions: self.subscriptions.level(),
            channels: self.channels.level(),
            events: self.event_stats(deliveries.delivered.iter().sum(), deliveries.filtered),
            bytes: ByteStats {
                received: self.bytes_in.get(),
                sent: deliveries.bytes_out,
            },
            errors: Code::ALL
                .iter()
                .zip(&self.errors)
                .filter(|(_, count)| count.get() > 0)
                .map(|(code, count)| (code.as_str().to_owned(), count.get()))
                .collect(),
            auth_failures: self
                .auth_failures
                .read(Counter::get, |_| true)
                .iter()
                .map(|(_, n)| n)
                .sum(),
            rate_limited: self.rate_limited.get(),
            slow_consumers: self.slow_consumers.get(),
            latency: LatencyStats::from(&deliveries.latency),
        }
    }

    fn connection_stats(&self) -> ConnectionStats {
        ConnectionStats {
            now: self.connections_now.level(),
            peak: self.connections_peak.level(),
            total: self.connections_total.get(),
            by_transport: Transport::ALL
                .iter()
                .map(|t| (t.as_str().to_owned(), t.pick(&self.connections).level()))
                .collect(),
            by_client_type: self.client_types.all().into_iter().collect(),
        }
    }

    fn event_stats(&self, delivered: u64, filtered: u64) -> EventStats {
        let by_type: BTreeMap<String, u64> = self
            .published
            .all()
            .into_iter()
            .filter(|(_, n)| *n > 0)
            .collect();
        EventStats {
            published: by_type.values().sum(),
            delivered,
            replayed: self.replayed.get(),
            dropped: DropReason::ALL
                .iter()
                .filter(|reason| **reason != DropReason::Conflated)
                .map(|reason| reason.pick(&self.dropped).get())
                .sum(),
            conflated: self.conflated.get(),
            filtered,
            by_type,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_return_to_zero_after_disconnects() {
        let metrics = Metrics::new("test");
        std::thread::scope(|scope| {
            for transport in Transport::ALL {
                let metrics = &metrics;
                scope.spawn(move || {
                    let shard = metrics.shard(0);
                    for n in 0..1_000 {
                        metrics.connection_opened(transport);
                        let name = format!("client{}", n % 200);
                        metrics.client_type_changed(None, Some(&name));
                        metrics.subscriptions_added(3);
                        metrics.channels_changed(2);
                        shard.outbox_bytes(77);
                        metrics.outbox_bytes(-77);
                        metrics.channels_changed(-2);
                        metrics.subscriptions_removed(3);
                        metrics.connection_closed(transport, 1000, Some(&name));
                    }
                });
            }
        });
        let stats = metrics.snapshot();
        assert_eq!(
            (stats.connections.now, stats.subscriptions, stats.channels),
            (0, 0, 0)
        );
        assert!(stats.connections.by_transport.values().all(|n| *n == 0));
        assert_eq!(stats.connections.by_client_type, BTreeMap::new());
        assert_eq!(stats.connections.total, 4_000);
        assert!((1..=4).contains(&stats.connections.peak));
        assert_eq!(metrics.deliveries().outbox_bytes, 0);
    }
}
