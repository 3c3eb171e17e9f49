//! The declaration of the keys of telemetry, the audit log, the process and the console.

use super::keys::{Key, fixed};
use super::kind::Kind;

/// The keys outside repeated tables, from `[telemetry]` on.
pub(super) const PROCESS: &[Key] = &[
    fixed(
        "telemetry.otlp_endpoint",
        Kind::Text,
        r#""""#,
        "Collector to which traces are exported, as an http or https URL; empty: none, unless OTEL_* names one.",
    ),
    fixed(
        "telemetry.otlp_protocol",
        Kind::OneOf(&["grpc", "http/protobuf"]),
        r#""grpc""#,
        "Protocol of the export: grpc or http/protobuf.",
    ),
    fixed(
        "telemetry.service_name",
        Kind::Text,
        r#""tidings""#,
        "The `service.name` of the exported traces.",
    ),
    fixed(
        "telemetry.sample_ratio",
        Kind::Ratio,
        "1.0",
        "Share of the traces started by this server that are recorded, 0 to 1.",
    ),
    fixed(
        "telemetry.delivery_spans",
        Kind::Ratio,
        "0.01",
        "Share of the deliveries of a recorded trace that get a span of their own, 0 to 1.",
    ),
    fixed(
        "telemetry.confirmations",
        Kind::Ratio,
        "0.0",
        "Share of the other events for which pages are asked to confirm the delivery, 0 to 1.",
    ),
    fixed(
        "telemetry.connections_per_event",
        Kind::Whole(0, 64),
        "8",
        "Most connections of one event that get a span or are asked to confirm.",
    ),
    fixed(
        "telemetry.log_format",
        Kind::OneOf(&["text", "json"]),
        r#""text""#,
        "Format of log lines: text or json.",
    ),
    fixed(
        "audit.file",
        Kind::Path,
        r#""""#,
        "File to which the audit log is appended, as JSON lines; empty: no audit log. [Its records](../how-to/observe.md#audit-log).",
    ),
    fixed(
        "audit.publishes",
        Kind::Bool,
        "false",
        "Whether the audit log also records every published event: its publisher, channel and type; never its payload.",
    ),
    fixed(
        "server.shards",
        Kind::Whole(0, 1024),
        "0",
        "Threads that own connections; 0: one per core. Values above 64 count as 64.",
    ),
    fixed(
        "server.runtime_threads",
        Kind::Whole(0, 1024),
        "0",
        "Threads for everything but the connections: accepting, TLS handshakes, tokens, HTTP and gRPC; 0: half as many as cores, at least one.",
    ),
    fixed(
        "server.io_uring",
        Kind::Bool,
        "true",
        "Whether many sends are batched into one system call by io_uring, where the system allows it (Linux 5.6; containers mostly forbid it). Otherwise each send is a system call of its own.",
    ),
    fixed(
        "server.drain",
        Kind::Duration,
        r#""10s""#,
        "Time that clients have to leave when the server stops; it exits within this time. See [Stopping](../how-to/operate.md#stopping).",
    ),
    fixed(
        "server.drain_delay",
        Kind::Duration,
        r#""0s""#,
        "Part of `drain` in which the server works as before and only reports that it is not ready, so that load balancers notice. Less than `drain`.",
    ),
    fixed(
        "server.keep_alive",
        Kind::Duration,
        r#""75s""#,
        "How long an HTTP/1.1 connection may be idle between two requests. Set it longer than the keep-alive of proxies in front (nginx and most load balancers: 60 s). The head of a request must be complete 10 s after its first byte.",
    ),
    fixed(
        "server.node",
        Kind::Text,
        r#""""#,
        "The node's name in statistics and telemetry; empty: the host name.",
    ),
    fixed(
        "console.enabled",
        Kind::Bool,
        "true",
        "Whether `/console/` on the internal listener is the page for operators, which needs a token of role `admin` or `viewer` ([the console](../how-to/console.md)); beside it, `/api/v1/` answers there too.",
    ),
    fixed(
        "webhooks.path",
        Kind::Path,
        r#""""#,
        "The directory of the [webhooks'](../how-to/webhooks.md) queue. Empty: within `history.path` if history is on disk; otherwise the queue is in memory.",
    ),
];
