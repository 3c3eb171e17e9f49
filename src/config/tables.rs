//! The tables of the TOML file, one struct each; fields are named as the keys are.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{Secret, duration, values};

/// `[auth]`: tokens (JWT, RFC 7519).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// The shared secret of the HMAC algorithms (HS256, HS384, HS512).
    #[serde(deserialize_with = "values::secret")]
    pub hs256_secret: Option<Secret>,
    /// A public key, PEM.
    #[serde(deserialize_with = "values::path")]
    pub public_key_file: Option<PathBuf>,
    /// A JWK Set (RFC 7517 §5), as a file.
    #[serde(deserialize_with = "values::path")]
    pub jwks_file: Option<PathBuf>,
    /// A JWK Set, as a URL.
    #[serde(deserialize_with = "values::text")]
    pub jwks_url: Option<String>,
    /// The algorithms that are accepted.
    pub algorithms: Vec<String>,
    /// What `iss` must be; empty: anything.
    pub issuer: String,
    /// What `aud` must hold; empty: anything.
    pub audience: String,
    /// How far clocks may differ.
    #[serde(deserialize_with = "duration::deserialize")]
    pub leeway: Duration,
    /// The claim with the user's name.
    pub user_claim: String,
    /// The claim with the roles.
    pub roles_claim: String,
    /// The claim with the channels that may be followed.
    pub channels_claim: String,
    /// False: connections without a token are let in as anonymous.
    pub required: bool,
    /// How long a connection may stay without a token where one is required.
    #[serde(deserialize_with = "duration::deserialize")]
    pub deadline: Duration,
    /// How long after its `iat` a token may expire, at most; zero: no limit.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_lifetime: Duration,
    /// The most revocations of tokens, and of users, that are kept.
    pub revocations: usize,
}

impl Default for Auth {
    fn default() -> Self {
        Auth {
            hs256_secret: None,
            public_key_file: None,
            jwks_file: None,
            jwks_url: None,
            algorithms: vec![String::from("HS256")],
            issuer: String::new(),
            audience: String::new(),
            leeway: Duration::from_secs(5),
            user_claim: String::from("sub"),
            roles_claim: String::from("roles"),
            channels_claim: String::from("channels"),
            required: true,
            deadline: Duration::from_secs(10),
            max_lifetime: Duration::ZERO,
            revocations: 10_000,
        }
    }
}

impl Auth {
    /// True if there is something to check tokens with.
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.hs256_secret.is_some()
            || self.public_key_file.is_some()
            || self.jwks_file.is_some()
            || self.jwks_url.is_some()
    }
}

/// `[limits]`: bounds, and so what no client can exhaust.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The most connections.
    pub connections: usize,
    /// The most connections of one user.
    pub connections_per_user: usize,
    /// The most connections from one network address.
    pub connections_per_ip: usize,
    /// The most subscriptions of one connection.
    pub subscriptions_per_connection: usize,
    /// The biggest message from a client, in bytes.
    pub message_bytes: usize,
    /// The biggest payload of an event, in bytes.
    pub event_bytes: usize,
    /// Messages per second from one connection; 0: no limit.
    pub messages_per_second: u32,
    /// Messages that may come at once; 0: as many as in a second.
    pub messages_burst: u32,
    /// Publishes per second by one identity; 0: no limit.
    pub publishes_per_second: u32,
    /// Publishes that may come at once; 0: as many as in a second.
    pub publishes_burst: u32,
    /// What may wait for one slow connection, in bytes.
    pub outbox_bytes: usize,
    /// The most steps of one evaluation of a filter.
    pub filter_steps: u64,
    /// Steps per second for the filters of one connection; 0: no limit.
    pub filter_steps_per_second: u64,
    /// The most memory of one compiled filter, in bytes.
    pub filter_bytes: usize,
    /// The most memory of all filters of one connection, in bytes.
    pub filter_bytes_per_connection: usize,
    /// The most memory of the filters of all connections, in bytes.
    pub filter_memory: usize,
    /// The most channels kept.
    pub channels: usize,
    /// Channels that one user may bring into being in a minute; 0: no limit.
    pub channels_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 10_000,
            connections_per_user: 100,
            connections_per_ip: 1000,
            subscriptions_per_connection: 128,
            message_bytes: 65_536,
            event_bytes: 1_048_576,
            messages_per_second: 50,
            messages_burst: 100,
            publishes_per_second: 0,
            publishes_burst: 0,
            outbox_bytes: 1_048_576,
            filter_steps: 250_000,
            filter_steps_per_second: 2_000_000,
            filter_bytes: 131_072,
            filter_bytes_per_connection: 1_048_576,
            filter_memory: 67_108_864,
            channels: 1_000_000,
            channels_per_minute: 300,
        }
    }
}

/// `[heartbeat]`: liveness of connections.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heartbeat {
    /// After this long without a word from the client, it is asked for a sign of life.
    #[serde(deserialize_with = "duration::deserialize")]
    pub interval: Duration,
    /// After this long without a word from the client, it is closed.
    #[serde(deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Heartbeat {
            interval: Duration::from_secs(30),
            timeout: Duration::from_mins(1),
        }
    }
}

/// `[history]`: where events are kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistoryConfig {
    /// The kind of store.
    pub storage: Storage,
    /// The store's directory, for `disk`.
    pub path: PathBuf,
    /// When a publish counts as stored, for `disk`.
    pub durability: Durability,
    /// The newest events that stay in memory, for `disk`: bytes over all channels; 0 for none.
    pub cache_bytes: usize,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        HistoryConfig {
            storage: Storage::Memory,
            path: PathBuf::from("./tidings-data"),
            durability: Durability::Fsync,
            cache_bytes: 64 * 1024 * 1024,
        }
    }
}

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// This process's memory.
    #[default]
    Memory,
    /// Files.
    Disk,
    /// NATS JetStream.
    Nats,
}

/// When a publish counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// When it is on disk.
    #[default]
    Fsync,
    /// When the operating system has it.
    Async,
}

/// `[websocket]`: the WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocket {
    /// Its path.
    pub path: String,
    /// What is spoken where the client asks for no subprotocol: a dialect's name.
    pub dialect: String,
    /// Whether permessage-deflate (RFC 7692) is offered.
    pub compression: bool,
}

impl Default for WebSocket {
    fn default() -> Self {
        WebSocket {
            path: String::from("/ws"),
            dialect: String::from("tidings"),
            compression: true,
        }
    }
}

/// `[telemetry]`: traces, metrics and logs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Where traces go; `None`: as `OTEL_EXPORTER_OTLP_ENDPOINT` says, or nowhere.
    #[serde(deserialize_with = "values::text")]
    pub otlp_endpoint: Option<String>,
    /// How they go there.
    pub otlp_protocol: OtlpProtocol,
    /// The name under which they are found.
    pub service_name: String,
    /// The share of traces without a parent that are recorded, 0 to 1.
    pub sample_ratio: f64,
    /// The share of deliveries in a recorded trace that get a span of their own, 0 to 1.
    pub delivery_spans: f64,
    /// The share of the events outside of recorded traces whose arrival pages are asked to
    /// confirm, 0 to 1.
    pub confirmations: f64,
    /// The most connections of one event that get a span of their own or are asked to confirm.
    pub connections_per_event: usize,
    /// What log lines look like.
    pub log_format: LogFormat,
}

impl Default for Telemetry {
    fn default() -> Self {
        Telemetry {
            otlp_endpoint: None,
            otlp_protocol: OtlpProtocol::Grpc,
            service_name: String::from("tidings"),
            sample_ratio: 1.0,
            delivery_spans: 0.01,
            confirmations: 0.0,
            connections_per_event: 8,
            log_format: LogFormat::Text,
        }
    }
}

/// An encoding of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum OtlpProtocol {
    /// gRPC.
    #[default]
    #[serde(rename = "grpc")]
    Grpc,
    /// Protobuf over HTTP.
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

/// What log lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[audit]`: the record of who did what.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// The file to append to, as JSON lines; `None`: no record is kept.
    #[serde(deserialize_with = "values::path")]
    pub file: Option<PathBuf>,
    /// Whether every published event stands in it too, without what it says.
    pub publishes: bool,
}

/// `[server]`: the process itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Threads that own connections; 0: one per core.
    pub shards: usize,
    /// Threads that serve HTTP and gRPC; 0: half as many as cores, at least one.
    pub runtime_threads: usize,
    /// Whether many sends go out in one system call by `io_uring`, where the system allows it.
    pub io_uring: bool,
    /// How long clients have to leave when the server stops.
    #[serde(deserialize_with = "duration::deserialize")]
    pub drain: Duration,
    /// The node's name in statistics and telemetry; the host's name unless set.
    #[serde(deserialize_with = "values::node")]
    pub node: String,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            shards: 0,
            runtime_threads: 0,
            io_uring: true,
            drain: Duration::from_secs(10),
            node: values::host_name(),
        }
    }
}
