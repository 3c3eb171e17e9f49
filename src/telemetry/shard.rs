//! The counters that every delivery updates, separate for each delivering thread.

use std::time::Duration;

use super::histogram::{Histogram, HistogramSnapshot};
use super::labels::Transport;
use super::names::{Counter, Gauge};

/// The counters of one delivering thread. No other thread writes to their cache lines. They are
/// summed when read.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ShardMetrics {
    delivered: [Counter; Transport::COUNT],
    bytes_out: Counter,
    filtered: Counter,
    filter_evaluations: Counter,
    filter_steps: Counter,
    outbox_bytes: Gauge,
    delivery_latency: Histogram,
    helped: Counter,
}

impl ShardMetrics {
    /// Events were delivered to connections of this transport.
    pub fn delivered(&self, transport: Transport, events: u64) {
        transport.pick(&self.delivered).add(events);
    }

    /// This many bytes were passed to a socket or stream.
    pub fn sent(&self, bytes: u64) {
        self.bytes_out.add(bytes);
    }

    /// Events were withheld from subscribers by a filter, a role or an audience.
    pub fn filtered(&self, n: u64) {
        self.filtered.add(n);
    }

    /// A filter was evaluated.
    pub fn filter_evaluated(&self) {
        self.filter_evaluations.add(1);
    }

    /// Filters took this many steps.
    pub fn filter_steps(&self, steps: u64) {
        self.filter_steps.add(steps);
    }

    /// The bytes in outboxes changed by this many.
    pub fn outbox_bytes(&self, delta: i64) {
        self.outbox_bytes.add(delta);
    }

    /// A publisher ran a round instead of the shard's thread.
    pub fn helped(&self) {
        self.helped.add(1);
    }

    /// This many deliveries took this long from the accepted publish to the socket.
    pub fn delivery_latency(&self, latency: Duration, deliveries: u64) {
        self.delivery_latency.record_many(latency, deliveries);
    }
}

/// The sum over all shards.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    /// Events by transport, in the order of [`Transport::ALL`].
    pub(super) delivered: [u64; Transport::COUNT],
    pub(super) bytes_out: u64,
    pub(super) filtered: u64,
    pub(super) filter_evaluations: u64,
    pub(super) filter_steps: u64,
    pub(super) outbox_bytes: i64,
    pub(super) latency: HistogramSnapshot,
    pub(super) helped: u64,
}

impl Deliveries {
    /// Adds the current values of one shard.
    pub(super) fn add(&mut self, shard: &ShardMetrics) {
        for (sum, delivered) in self.delivered.iter_mut().zip(&shard.delivered) {
            *sum += delivered.get();
        }
        self.bytes_out += shard.bytes_out.get();
        self.filtered += shard.filtered.get();
        self.filter_evaluations += shard.filter_evaluations.get();
        self.filter_steps += shard.filter_steps.get();
        self.outbox_bytes += shard.outbox_bytes.get();
        self.helped += shard.helped.get();
        self.latency.merge(&shard.delivery_latency.snapshot());
    }
}
