//! Metrics, traces and logs.
//!
//! Three rules apply. Recording never blocks: counters are atomics, and spans go to a bounded queue
//! that drops when it is full. What is disabled costs one branch. And no token, secret or payload
//! may appear in any of them, nor a channel, user or connection in a metric's label.

mod arrival;
mod client_types;
mod cluster;
mod environment;
mod event_types;
mod exemplars;
mod exporter;
mod families;
mod fanout;
mod histogram;
mod history;
mod hooks;
mod keys;
mod labels;
pub mod logs;
mod metrics;
mod names;
mod open_fanouts;
mod otlp;
mod otlp_http;
mod otlp_metrics;
mod otlp_spans;
mod process;
mod prometheus;
mod resource;
mod shard;
mod source_families;
mod sources;
mod span;
mod spans;
mod stats;
mod stats_history;
mod store;
mod webhooks;

pub use arrival::{Arrival, Delivered};
pub use cluster::ClusterMetrics;
pub use exporter::SPAN_BYTES;
pub use fanout::FanoutSpan;
pub use histogram::{Histogram, HistogramSnapshot};
pub use history::{Evicted, HistoryMetrics};
pub use hooks::{HookMetrics, HookOutcome, HookType};
pub use labels::{Confirmation, DropReason, Stalled, Transport};
pub use metrics::Metrics;
pub use names::{Counter, Gauge};
pub use open_fanouts::{OPEN_SPAN_BYTES, OpenFanout};
pub use otlp::{TracingError, TracingSettings};
pub use process::{ProcessFigures, figures as process_figures, open_files};
pub use prometheus::TextFormat;
pub use shard::ShardMetrics;
pub use sources::{DEAD_LETTERS, DeadLetter, SourceMetrics, SourceSnapshot, SourcesMetrics};
pub use span::{Span, SpanId, TraceId};
pub use spans::{Tracing, extract};
pub use stats::{ByteStats, ConnectionStats, EventStats, LatencyStats, StatsSnapshot};
pub use stats_history::{STEP as STATS_STEP, StatsSample};
pub use store::StoreMetrics;
pub use webhooks::WebhookMetrics;

#[cfg(test)]
mod otlp_tests;
#[cfg(test)]
mod spans_tests;
