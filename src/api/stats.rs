//! A node's counters.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::admin;
use crate::telemetry::StatsSnapshot;

/// A node's counters. Values that change meanwhile may differ from each other by one event.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Stats {
    /// The node's name.
    pub node: String,
    /// Since the start of the process.
    #[schema(minimum = 0)]
    pub uptime_seconds: f64,
    /// Connected clients.
    pub connections: ConnectionCounts,
    /// Connections × channels.
    pub subscriptions: u64,
    /// Existing channels.
    pub channels: u64,
    /// Events since the start.
    pub events: EventCounts,
    /// Traffic since the start.
    pub bytes: Bytes,
    /// Errors sent to clients, by code. Only those that occurred.
    pub errors: BTreeMap<String, u64>,
    /// Refused tokens and certificates.
    pub auth_failures: u64,
    /// Requests refused by a rate limit.
    pub rate_limited: u64,
    /// How often an outbox was full.
    pub slow_consumers: u64,
    /// From the accepted publish to passing the bytes to the socket.
    pub latency: Latency,
}

/// The counters of several nodes.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ClusterStats {
    /// The nodes together: counters and levels are added; uptime and percentiles are the largest of
    /// any node. The name is that of the node that answered.
    #[serde(flatten)]
    pub total: Stats,
    /// Each node that answered.
    pub nodes: Vec<Stats>,
    /// The names of nodes that did not answer within 2 s. Their counters are missing.
    pub unreachable: Vec<String>,
}

impl From<admin::ClusterStats> for ClusterStats {
    fn from(stats: admin::ClusterStats) -> Self {
        ClusterStats {
            total: stats.total.into(),
            nodes: stats.nodes.into_iter().map(Into::into).collect(),
            unreachable: stats.unreachable,
        }
    }
}

/// Connected clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ConnectionCounts {
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct EventCounts {
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

/// Traffic since the start, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Bytes {
    /// From clients.
    pub r#in: u64,
    /// To clients.
    pub out: u64,
}

/// Percentiles in milliseconds, at most 10 % above the exact ones. `max_ms` is exact.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Latency {
    /// The median.
    #[schema(minimum = 0)]
    pub p50_ms: f64,
    /// The 90th percentile.
    #[schema(minimum = 0)]
    pub p90_ms: f64,
    /// The 99th percentile.
    #[schema(minimum = 0)]
    pub p99_ms: f64,
    /// The maximum.
    #[schema(minimum = 0)]
    pub max_ms: f64,
}

impl From<StatsSnapshot> for Stats {
    fn from(snapshot: StatsSnapshot) -> Self {
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
        } = snapshot;
        Stats {
            node,
            uptime_seconds,
            connections: ConnectionCounts {
                now: connections.now,
                peak: connections.peak,
                total: connections.total,
                by_transport: connections.by_transport,
                by_client_type: connections.by_client_type,
            },
            subscriptions,
            channels,
            events: EventCounts {
                published: events.published,
                delivered: events.delivered,
                replayed: events.replayed,
                dropped: events.dropped,
                conflated: events.conflated,
                filtered: events.filtered,
                by_type: events.by_type,
            },
            bytes: Bytes {
                r#in: bytes.received,
                out: bytes.sent,
            },
            errors,
            auth_failures,
            rate_limited,
            slow_consumers,
            latency: Latency {
                p50_ms: latency.p50_ms,
                p90_ms: latency.p90_ms,
                p99_ms: latency.p99_ms,
                max_ms: latency.max_ms,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Code;
    use crate::event::EventType;
    use crate::telemetry::{DropReason, Metrics, Transport};

    #[test]
    fn stats_json_has_the_documented_shape() {
        let metrics = Metrics::new("n1");
        metrics.connection_opened(Transport::WebSocket);
        metrics.published(&EventType::new("a.b").unwrap());
        metrics.published(&EventType::new("a.b").unwrap());
        metrics.shard(1).delivered(Transport::WebSocket, 5);
        metrics.shard(1).sent(100);
        metrics.shard(0).delivered(Transport::Sse, 1);
        metrics.shard(0).sent(10);
        metrics
            .shard(1)
            .delivery_latency(Duration::from_millis(2), 6);
        metrics.dropped(DropReason::DropOldest, 3);
        metrics.dropped(DropReason::NoHistory, 1);
        metrics.error(Code::NotFound);
        metrics.auth_failure("expired");
        metrics.rate_limited("messages_per_second");
        metrics.received(9);
        let mut json = serde_json::to_value(Stats::from(metrics.snapshot())).unwrap();
        assert!(json["uptime_seconds"].take().as_f64().unwrap() >= 0.0);
        let expected = serde_json::json!({
            "node": "n1", "uptime_seconds": null,
            "connections": {
                "now": 1, "peak": 1, "total": 1,
                "by_transport": {"websocket": 1, "socketio": 0, "sse": 0, "grpc": 0},
                "by_client_type": {"unknown": 1},
            },
            "subscriptions": 0, "channels": 0,
            "events": {
                "published": 2, "delivered": 6, "replayed": 0, "dropped": 4, "conflated": 0,
                "filtered": 0, "by_type": {"a.b": 2},
            },
            "bytes": {"in": 9, "out": 110},
            "errors": {"not_found": 1},
            "auth_failures": 1, "rate_limited": 1, "slow_consumers": 0,
            "latency": {"p50_ms": 2.0, "p90_ms": 2.0, "p99_ms": 2.0, "max_ms": 2.0},
        });
        assert_eq!(json, expected);
    }
}
