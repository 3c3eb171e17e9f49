//! Metrics of a node in a cluster.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::histogram::Histogram;
use super::names::{Counter, Gauge};

/// Metrics of the engine that joins nodes, and of the nodes.
#[derive(Debug, Default)]
pub struct ClusterMetrics {
    /// True where an engine is configured: a node that is alone shows none of these.
    pub(super) configured: Gauge,
    pub(super) up: Gauge,
    pub(super) nodes: Gauge,
    pub(super) channels: Gauge,
    pub(super) queue_bytes: Gauge,
    pub(super) received: Counter,
    pub(super) sent: Counter,
    pub(super) holes: Counter,
    pub(super) late: Counter,
    pub(super) conflicts: Counter,
    pub(super) round_trip: Histogram,
    /// The last round trip, in microseconds.
    last_round_trip: AtomicU64,
}

impl ClusterMetrics {
    /// An engine is configured.
    pub fn configured(&self) {
        set(&self.configured, 1);
    }

    /// True once this node has an engine.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.configured.get() > 0
    }

    /// Whether the engine answered the last probe.
    pub fn up(&self, is: bool) {
        set(&self.up, usize::from(is));
    }

    /// The number of live nodes.
    pub fn nodes(&self, now: usize) {
        set(&self.nodes, now);
    }

    /// The number of channels of which this node holds the state.
    pub fn channels(&self, now: usize) {
        set(&self.channels, now);
    }

    /// The bytes of events that wait to be appended.
    pub fn queue_bytes(&self, now: usize) {
        set(&self.queue_bytes, now);
    }

    /// Counts events received from the engine.
    pub fn received(&self, events: usize) {
        self.received.add(u64::try_from(events).unwrap_or(u64::MAX));
    }

    /// Counts events sent to the engine.
    pub fn sent(&self, events: usize) {
        self.sent.add(u64::try_from(events).unwrap_or(u64::MAX));
    }

    /// A missing part of a channel is read from its log.
    pub fn hole(&self) {
        self.holes.add(1);
    }

    /// The loss of a channel's last event was noticed by comparing positions.
    pub fn late(&self) {
        self.late.add(1);
    }

    /// Another node appended first.
    pub fn conflict(&self) {
        self.conflicts.add(1);
    }

    /// How long the engine took to answer a probe.
    pub fn round_trip(&self, took: Duration) {
        self.round_trip.record(took);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.last_round_trip.store(micros.max(1), Ordering::Relaxed);
    }

    /// The last round trip, in microseconds; 0 before the first.
    #[must_use]
    pub fn last_round_trip_us(&self) -> u64 {
        self.last_round_trip.load(Ordering::Relaxed)
    }
}

fn set(gauge: &Gauge, now: usize) {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    gauge.add(now.saturating_sub(gauge.get()));
}
