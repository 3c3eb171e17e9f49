//! A node's counters in a message.

use super::messages::pb;
use crate::telemetry::{ByteStats, ConnectionStats, EventStats, LatencyStats, StatsSnapshot};

/// The message with these counters.
pub(super) fn message(stats: StatsSnapshot) -> pb::NodeStats {
    // Named one by one, so that a new counter is not forgotten.
    let StatsSnapshot {
        node,
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
    } = stats;
    pb::NodeStats {
        node,
        uptime_seconds,
        connections: connections.now,
        connections_peak: connections.peak,
        connections_total: connections.total,
        by_transport: connections.by_transport.into_iter().collect(),
        by_client_type: connections.by_client_type.into_iter().collect(),
        subscriptions,
        channels,
        published: events.published,
        delivered: events.delivered,
        replayed: events.replayed,
        dropped: events.dropped,
        conflated: events.conflated,
        filtered: events.filtered,
        by_type: events.by_type.into_iter().collect(),
        bytes_in: bytes.received,
        bytes_out: bytes.sent,
        errors: errors.into_iter().collect(),
        auth_failures,
        rate_limited,
        slow_consumers,
        latency_ms: vec![
            latency.p50_ms,
            latency.p90_ms,
            latency.p99_ms,
            latency.max_ms,
        ],
    }
}

/// The counters in a message.
pub(super) fn stats(message: pb::NodeStats) -> StatsSnapshot {
    let latency = |at: usize| message.latency_ms.get(at).copied().unwrap_or(0.0);
    StatsSnapshot {
        latency: LatencyStats {
            p50_ms: latency(0),
            p90_ms: latency(1),
            p99_ms: latency(2),
            max_ms: latency(3),
        },
        node: message.node,
        uptime_seconds: message.uptime_seconds,
        connections: ConnectionStats {
            now: message.connections,
            peak: message.connections_peak,
            total: message.connections_total,
            by_transport: message.by_transport.into_iter().collect(),
            by_client_type: message.by_client_type.into_iter().collect(),
        },
        subscriptions: message.subscriptions,
        channels: message.channels,
        events: EventStats {
            published: message.published,
            delivered: message.delivered,
            replayed: message.replayed,
            dropped: message.dropped,
            conflated: message.conflated,
            filtered: message.filtered,
            by_type: message.by_type.into_iter().collect(),
        },
        bytes: ByteStats {
            received: message.bytes_in,
            sent: message.bytes_out,
        },
        errors: message.errors.into_iter().collect(),
        auth_failures: message.auth_failures,
        rate_limited: message.rate_limited,
        slow_consumers: message.slow_consumers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn counters_arrive_as_they_were_sent() {
        let metrics = Metrics::new("n1");
        metrics.received(9);
        metrics.client_type_changed(None, Some("web"));
        let sent = metrics.snapshot();
        assert_eq!(stats(message(sent.clone())), sent);
    }
}
