//! Metrics, traces and logs: what happens in the server, told to those who run it.
//!
//! Three rules hold here. Whoever reports never waits: counters are atomics, spans go to a bounded
//! queue that drops when it is full. What is off costs a branch. And no token, secret or payload
//! may appear in any of them, nor a channel, user or connection in a metric's label.

mod arrival;
mod environment;
mod exemplars;
mod exporter;
mod families;
mod fanout;
mod histogram;
mod history;
mod labels;
pub mod logs;
mod metrics;
mod names;
mod otlp;
mod otlp_metrics;
mod otlp_spans;
mod process;
mod prometheus;
mod shard;
mod span;
mod spans;
mod stats;
mod store;

pub use arrival::{Arrival, Delivered};
pub use exporter::SPAN_BYTES;
pub use fanout::{FanoutSpan, commit_together};
pub use histogram::{Histogram, HistogramSnapshot};
pub use history::{Evicted, HistoryMetrics};
pub use labels::{Confirmation, DropReason, Transport};
pub use metrics::Metrics;
pub use names::{Counter, Gauge};
pub use otlp::{TracingError, TracingSettings};
pub use prometheus::TextFormat;
pub use shard::ShardMetrics;
pub use span::{Span, SpanId, TraceId};
pub use spans::{Tracing, extract};
pub use stats::{ByteStats, ConnectionStats, EventStats, LatencyStats, StatsSnapshot};
pub use store::StoreMetrics;

#[cfg(test)]
mod otlp_tests;
#[cfg(test)]
mod spans_tests;
