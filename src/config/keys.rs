//! Every key there is, with its kind, its default and what it means.
//!
//! The one list from which files are checked, suggestions are made and the default file is written.

use super::kind::{Kind, MANY};
use super::nearest::nearest;

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its dotted path; `[]` stands for the place in an array of tables.
    pub(super) path: &'static str,
    /// What it takes.
    pub(super) kind: Kind,
    /// Its default, as TOML.
    pub(super) default: &'static str,
    /// What it means, with its unit.
    pub(super) help: &'static str,
}

const fn key(path: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
        help,
    }
}

/// Tables with what they are about, in the order of the default file.
pub(super) const TABLES: [(&str, &str); 14] = [
    ("public", "The listener for browsers and the HTTP API."),
    ("internal", "The listener for gRPC, gRPC-Web and /metrics."),
    (
        "auth",
        "Tokens (JWT). At least one of the four keys is needed, except with --dev.",
    ),
    ("limits", "Bounds. Reloaded on SIGHUP."),
    ("heartbeat", "Liveness of connections."),
    (
        "history",
        "Where events are kept. How much is a namespace's setting.",
    ),
    ("catalog", "The known event types."),
    ("websocket", "The WebSocket."),
    (
        "telemetry",
        "Traces, metrics and logs. The standard OTEL_* variables are honoured too.",
    ),
    (
        "audit",
        "The record of who connected, was refused, subscribed, was disconnected, and by whom.",
    ),
    ("server", "The process itself."),
    (
        "namespace",
        "Settings for the channels whose names begin with this name and a colon. Repeat as needed.",
    ),
    ("namespace[].history", "How much of each channel is kept."),
    ("event_type", "A known event type. Repeat as needed."),
];

const ONE: Kind = Kind::Whole(1, MANY);
const RATE: Kind = Kind::Whole(0, 4_294_967_295);
/// Sizes of one message or event: what protobuf and HTTP/2 carry without strain.
const MESSAGE: Kind = Kind::Whole(1, 1 << 30);
const POLICIES: Kind = Kind::OneOf(&["disconnect", "drop_oldest", "conflate", "resync"]);

/// Every key, table by table.
pub(super) const KEYS: &[Key] = &[
    key(
        "auto_subscribe",
        Kind::List,
        r#"["global", "user:{user}"]"#,
        "Channels that a new connection follows unasked; {user} stands for its user.",
    ),
    key(
        "public.listen",
        Kind::Address,
        r#""127.0.0.1:8000""#,
        "Where to listen; port 0 takes a free one.",
    ),
    key(
        "public.allowed_origins",
        Kind::List,
        "[]",
        "Origins of pages that may connect, such as \"https://app.example.com\"; empty: same origin only; [\"*\"]: any.",
    ),
    key(
        "public.cert",
        Kind::Path,
        r#""""#,
        "TLS certificate chain (PEM file); empty: no TLS.",
    ),
    key(
        "public.key",
        Kind::Path,
        r#""""#,
        "TLS private key (PEM file).",
    ),
    key(
        "internal.listen",
        Kind::Address,
        r#""127.0.0.1:50051""#,
        "Where to listen; port 0 takes a free one.",
    ),
    key(
        "internal.auth",
        Kind::OneOf(&["jwt", "mtls", "none"]),
        r#""jwt""#,
        "How callers prove who they are: jwt, mtls, or none (only on loopback or with --dev).",
    ),
    key(
        "internal.cert",
        Kind::Path,
        r#""""#,
        "TLS certificate chain (PEM file); empty: no TLS.",
    ),
    key(
        "internal.key",
        Kind::Path,
        r#""""#,
        "TLS private key (PEM file).",
    ),
    key(
        "internal.client_ca",
        Kind::Path,
        r#""""#,
        "Authorities of client certificates (PEM file); if set, callers need a certificate.",
    ),
    key(
        "auth.hs256_secret",
        Kind::Text,
        r#""""#,
        "Shared secret of HS256, HS384 and HS512; 32 bytes or more.",
    ),
    key(
        "auth.public_key_file",
        Kind::Path,
        r#""""#,
        "Public key (PEM file) of the RS, PS, ES and EdDSA algorithms.",
    ),
    key(
        "auth.jwks_file",
        Kind::Path,
        r#""""#,
        "JWK Set (JSON file).",
    ),
    key(
        "auth.jwks_url",
        Kind::Text,
        r#""""#,
        "JWK Set, as an http or https URL.",
    ),
    key(
        "auth.algorithms",
        Kind::List,
        r#"["HS256"]"#,
        "Algorithms that are accepted; a key is only used with its own family.",
    ),
    key(
        "auth.issuer",
        Kind::Text,
        r#""""#,
        "What the claim iss must be; empty: anything.",
    ),
    key(
        "auth.audience",
        Kind::Text,
        r#""""#,
        "What the claim aud must hold; empty: anything.",
    ),
    key(
        "auth.leeway",
        Kind::Duration,
        r#""5s""#,
        "How far clocks may differ.",
    ),
    key(
        "auth.user_claim",
        Kind::Text,
        r#""sub""#,
        "The claim with the user's name.",
    ),
    key(
        "auth.roles_claim",
        Kind::Text,
        r#""roles""#,
        "The claim with the roles.",
    ),
    key(
        "auth.channels_claim",
        Kind::Text,
        r#""channels""#,
        "The claim with the channels that may be followed.",
    ),
    key(
        "auth.required",
        Kind::Bool,
        "true",
        "false: connections without a token are let in as anonymous.",
    ),
    key(
        "auth.deadline",
        Kind::Duration,
        r#""10s""#,
        "A connection without a token is closed after this.",
    ),
    key("limits.connections", ONE, "10000", "Connections in all."),
    key(
        "limits.connections_per_user",
        ONE,
        "100",
        "Connections of one user.",
    ),
    key(
        "limits.connections_per_ip",
        ONE,
        "1000",
        "Connections from one network address.",
    ),
    key(
        "limits.subscriptions_per_connection",
        ONE,
        "128",
        "Subscriptions of one connection.",
    ),
    key(
        "limits.message_bytes",
        MESSAGE,
        "65536",
        "Biggest message from a client, in bytes.",
    ),
    key(
        "limits.event_bytes",
        MESSAGE,
        "1048576",
        "Biggest payload of an event, in bytes.",
    ),
    key(
        "limits.messages_per_second",
        RATE,
        "50",
        "Messages per second from one connection; 0: no limit.",
    ),
    key(
        "limits.messages_burst",
        RATE,
        "100",
        "Messages that may come at once; 0: as many as in a second.",
    ),
    key(
        "limits.publishes_per_second",
        RATE,
        "0",
        "Publishes per second by one identity; 0: no limit.",
    ),
    key(
        "limits.publishes_burst",
        RATE,
        "0",
        "Publishes that may come at once; 0: as many as in a second.",
    ),
    key(
        "limits.outbox_bytes",
        ONE,
        "1048576",
        "What may wait for one slow connection, in bytes.",
    ),
    key("limits.channels", ONE, "1000000", "Channels that are kept."),
    key(
        "heartbeat.interval",
        Kind::Duration,
        r#""30s""#,
        "Silence after which a client is asked for a sign of life.",
    ),
    key(
        "heartbeat.timeout",
        Kind::Duration,
        r#""60s""#,
        "Silence after which it is closed (4408); longer than the interval.",
    ),
    key(
        "history.storage",
        Kind::OneOf(&["memory", "disk", "nats"]),
        r#""memory""#,
        "The kind of store: memory, disk or nats.",
    ),
    key(
        "history.path",
        Kind::Path,
        r#""./tidings-data""#,
        "The store's directory, for disk; relative to this file.",
    ),
    key(
        "history.durability",
        Kind::OneOf(&["fsync", "async"]),
        r#""fsync""#,
        "When a publish is acknowledged, for disk: fsync (on disk) or async.",
    ),
    key(
        "catalog.mode",
        Kind::OneOf(&["open", "strict"]),
        r#""open""#,
        "open: unknown types pass; strict: unknown or invalid events are refused.",
    ),
    key("websocket.path", Kind::Text, r#""/ws""#, "Its path."),
    key(
        "websocket.dialect",
        Kind::OneOf(&["tidings", "echo"]),
        r#""tidings""#,
        "What is spoken where no subprotocol is asked for: tidings, or echo for measuring.",
    ),
    key(
        "websocket.compression",
        Kind::Bool,
        "true",
        "Whether permessage-deflate is offered.",
    ),
    key(
        "telemetry.otlp_endpoint",
        Kind::Text,
        r#""""#,
        "Where traces go, as an http or https URL; empty: nowhere, unless OTEL_* says so.",
    ),
    key(
        "telemetry.otlp_protocol",
        Kind::OneOf(&["grpc", "http/protobuf"]),
        r#""grpc""#,
        "How they go there: grpc or http/protobuf.",
    ),
    key(
        "telemetry.service_name",
        Kind::Text,
        r#""tidings""#,
        "The name under which they are found.",
    ),
    key(
        "telemetry.sample_ratio",
        Kind::Ratio,
        "1.0",
        "Share of the traces that begin here to record, 0 to 1.",
    ),
    key(
        "telemetry.delivery_spans",
        Kind::Ratio,
        "0.01",
        "Share of deliveries in a recorded trace that get a span of their own, 0 to 1.",
    ),
    key(
        "telemetry.log_format",
        Kind::OneOf(&["text", "json"]),
        r#""text""#,
        "What log lines look like: text or json.",
    ),
    key(
        "audit.file",
        Kind::Path,
        r#""""#,
        "File to append to, as JSON lines; empty: no record is kept.",
    ),
    key(
        "server.shards",
        Kind::Whole(0, 1024),
        "0",
        "Threads that own connections, at most 1024; 0: one per core.",
    ),
    key(
        "server.drain",
        Kind::Duration,
        r#""10s""#,
        "How long clients have to leave when the server stops.",
    ),
    key(
        "server.node",
        Kind::Text,
        r#""""#,
        "The node's name in statistics and telemetry; empty: the host's name.",
    ),
    key("namespace", Kind::Tables, "[]", "Namespaces."),
    key(
        "namespace[].name",
        Kind::Text,
        r#""project""#,
        "Its name, or \"*\" for every undeclared one.",
    ),
    key(
        "namespace[].presence",
        Kind::Bool,
        "false",
        "Whether it is known who is in a channel.",
    ),
    key(
        "namespace[].subscribe",
        Kind::Text,
        r#""""#,
        "Who may follow (CEL over user, roles, claims, client, id, channel); empty: services and admins only.",
    ),
    key(
        "namespace[].publish",
        Kind::Text,
        r#""""#,
        "Who may publish from a browser (CEL, as above); empty: services and admins only.",
    ),
    key(
        "namespace[].slow_consumer",
        POLICIES,
        r#""disconnect""#,
        "When an outbox is full: disconnect, drop_oldest, conflate or resync (needs history).",
    ),
    key(
        "namespace[].max_idle",
        Kind::Duration,
        r#""1h""#,
        "An empty, unused channel is forgotten after this.",
    ),
    key(
        "namespace[].history.size",
        Kind::Whole(0, 100_000_000),
        "0",
        "Events of each channel; 0: none, and no offsets.",
    ),
    key(
        "namespace[].history.ttl",
        Kind::Duration,
        r#""1h""#,
        "How long.",
    ),
    key(
        "namespace[].history.bytes",
        ONE,
        "67108864",
        "Bytes of each channel.",
    ),
    key("event_type", Kind::Tables, "[]", "Event types."),
    key(
        "event_type[].name",
        Kind::Text,
        r#""project.updated""#,
        "Its name.",
    ),
    key(
        "event_type[].namespace",
        Kind::Text,
        r#""""#,
        "The namespace in whose channels it is published; empty: any.",
    ),
    key(
        "event_type[].description",
        Kind::Text,
        r#""""#,
        "What it means.",
    ),
    key(
        "event_type[].roles",
        Kind::List,
        "[]",
        "If set, only holders of one of these receive it.",
    ),
    key(
        "event_type[].schema_file",
        Kind::Path,
        r#""""#,
        "JSON Schema (2020-12) of its payload; empty: none.",
    ),
    key(
        "event_type[].conflate_key",
        Kind::Text,
        r#""""#,
        "Where the key for conflation stands, such as \"data.job_id\"; empty: only the publisher's own key.",
    ),
];

/// The same setting by another path.
pub(super) const ALIAS: (&str, &str) = ("history.auto_subscribe", "auto_subscribe");

/// The key with this path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    let path = if path == ALIAS.0 { ALIAS.1 } else { path };
    KEYS.iter().find(|key| key.path == path)
}

/// True if this path is a table that holds keys.
pub(super) fn is_table(path: &str) -> bool {
    KEYS.iter().any(|key| {
        key.path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

/// The known key or table that is nearest to this path.
pub(super) fn suggest(path: &str) -> &'static str {
    let tables = TABLES.iter().map(|(name, _)| *name);
    nearest(path, KEYS.iter().map(|key| key.path).chain(tables)).unwrap_or("auth.hs256_secret")
}
