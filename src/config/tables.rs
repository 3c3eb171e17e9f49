//! The tables of the TOML file, one struct each; fields have the names of the keys.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::machine_memory::available_memory;
use super::{Secret, duration, values};
use crate::auth::VerifierSettings;

/// `[auth]`: tokens (JWT, RFC 7519).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// The accepted algorithms; empty: those that fit the configured keys.
    pub algorithms: Vec<String>,
    /// The required `iss`; empty: any.
    pub issuer: String,
    /// The value that `aud` must contain; empty: any.
    pub audience: String,
    /// The tolerated clock skew.
    #[serde(deserialize_with = "duration::deserialize")]
    pub leeway: Duration,
    /// The claim with the user's name.
    pub user_claim: String,
    /// The claim with the roles.
    pub roles_claim: String,
    /// The claim with the channels that the token may subscribe to.
    pub channels_claim: String,
    /// False: connections without a token are accepted as anonymous.
    pub required: bool,
    /// How long a connection may stay without a token if one is required.
    #[serde(deserialize_with = "duration::deserialize")]
    pub deadline: Duration,
    /// The longest time from a token's `iat` to its `exp`; zero: no limit.
    #[serde(deserialize_with = "duration::deserialize")]
    pub max_lifetime: Duration,
    /// The most revocations of tokens, and of users, that are kept.
    pub revocations: usize,
}

impl Auth {
    /// The settings of the verifier.
    #[must_use]
    pub fn verifier(&self) -> VerifierSettings {
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        VerifierSettings {
            hs256_secret: self.hs256_secret.clone(),
            public_key_file: self.public_key_file.clone(),
            jwks_file: self.jwks_file.clone(),
            jwks_url: self.jwks_url.clone(),
            algorithms: self.algorithms.clone(),
            issuer: text(&self.issuer),
            audience: text(&self.audience),
            leeway: self.leeway,
            user_claim: self.user_claim.clone(),
            roles_claim: self.roles_claim.clone(),
            channels_claim: self.channels_claim.clone(),
            max_lifetime: self.max_lifetime,
            revocations: self.revocations,
        }
    }

    /// True if any key is configured.
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.hs256_secret.is_some()
            || self.public_key_file.is_some()
            || self.jwks_file.is_some()
            || self.jwks_url.is_some()
    }
}

/// `[limits]`: limits that keep a client from exhausting the server's resources.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The most connections.
    pub connections: usize,
    /// The most connections of one user.
    pub connections_per_user: usize,
    /// The most connections from one network address.
    pub connections_per_ip: usize,
    /// The most subscriptions of one connection.
    pub subscriptions_per_connection: usize,
    /// The largest message from a client, in bytes.
    pub message_bytes: usize,
    /// The largest payload of an event, in bytes.
    pub event_bytes: usize,
    /// Messages per second from one connection; 0: no limit.
    pub messages_per_second: u32,
    /// Messages that may be sent at once; 0: as many as in one second.
    pub messages_burst: u32,
    /// Publishes per second by one identity; 0: no limit.
    pub publishes_per_second: u32,
    /// Publishes that may be sent at once; 0: as many as in one second.
    pub publishes_burst: u32,
    /// The most bytes queued for one slow connection.
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
    /// The most channels that exist at once.
    pub channels: usize,
    /// The most cursors of durable subscriptions.
    pub cursors: usize,
    /// The most cursors of one user.
    pub cursors_per_user: usize,
    /// Channels that one user may create per minute; 0: no limit.
    pub channels_per_minute: u32,
    /// Bytes of request bodies that are held at once, in total.
    pub body_bytes: usize,
    /// Bytes of request bodies of one user.
    pub body_bytes_per_user: usize,
    /// Bytes of request bodies of one gRPC connection.
    pub body_bytes_per_connection: usize,
    /// The most idempotency keys kept.
    pub idempotency_keys: usize,
    /// The most idempotency keys of one publisher.
    pub idempotency_keys_per_publisher: usize,
}

/// `[heartbeat]`: liveness of connections.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Silence after which the server sends the client a heartbeat.
    #[serde(deserialize_with = "duration::deserialize")]
    pub interval: Duration,
    /// Silence after which the connection is closed.
    #[serde(deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
}

/// `[history]`: where events are kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryConfig {
    /// The kind of store.
    pub storage: Storage,
    /// The store's directory, for `disk`.
    pub path: PathBuf,
    /// When a publish is acknowledged, for `disk`.
    pub durability: Durability,
    /// How long an unused cursor is kept.
    #[serde(deserialize_with = "duration::deserialize")]
    pub cursor_ttl: Duration,
    /// What happens to a store that has lost acknowledged data, for `disk`.
    pub on_damage: OnDamage,
    /// The newest events that are cached in memory, for `disk`: bytes over all channels; 0 for
    /// none.
    pub cache_bytes: usize,
    /// The most bytes of events, for `disk`, over all channels; 0 for no limit.
    pub disk_bytes: u64,
    /// The most bytes of channels and their events, for `memory`; 0 for a quarter of the available
    /// memory.
    pub memory_bytes: usize,
}

impl HistoryConfig {
    /// The most bytes of channels and their events in memory.
    #[must_use]
    pub fn most_memory(&self) -> usize {
        match self.memory_bytes {
            0 => available_memory() / 4,
            bytes => bytes,
        }
    }
}

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// This process's memory.
    Memory,
    /// Files.
    Disk,
    /// NATS JetStream.
    Nats,
}

/// When a publish is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// When it is on disk.
    Fsync,
    /// When the operating system has it.
    Async,
}

/// What happens to a store that has lost acknowledged data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDamage {
    /// The server does not start.
    Refuse,
    /// The server continues with what can be read, and with new epochs.
    NewEpoch,
}

/// `[websocket]`: the WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebSocket {
    /// Its path.
    pub path: String,
    /// The dialect for clients that offer no subprotocol.
    pub dialect: String,
    /// Whether permessage-deflate (RFC 7692) is offered.
    pub compression: bool,
}

/// `[telemetry]`: traces, metrics and logs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// The collector of traces; `None`: `OTEL_EXPORTER_OTLP_ENDPOINT`, or none.
    #[serde(deserialize_with = "values::text")]
    pub otlp_endpoint: Option<String>,
    /// The protocol of the export.
    pub otlp_protocol: OtlpProtocol,
    /// The `service.name` of the exported traces.
    pub service_name: String,
    /// The share of traces without a parent that are recorded, 0 to 1.
    pub sample_ratio: f64,
    /// The share of deliveries in a recorded trace that get a span of their own, 0 to 1.
    pub delivery_spans: f64,
    /// The share of the events outside of recorded traces for which pages are asked to confirm the
    /// delivery, 0 to 1.
    pub confirmations: f64,
    /// The most connections of one event that get a span of their own or are asked to confirm.
    pub connections_per_event: usize,
    /// The format of log lines.
    pub log_format: LogFormat,
}

/// An encoding of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum OtlpProtocol {
    /// gRPC.
    #[serde(rename = "grpc")]
    Grpc,
    /// Protobuf over HTTP.
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[audit]`: the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// The file to append to, as JSON lines; `None`: no audit log.
    #[serde(deserialize_with = "values::path")]
    pub file: Option<PathBuf>,
    /// Whether every published event is recorded too, without its payload.
    pub publishes: bool,
}

/// `[server]`: the process itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Threads that own connections; 0: one per core.
    pub shards: usize,
    /// Threads that serve HTTP and gRPC; 0: half as many as cores, at least one.
    pub runtime_threads: usize,
    /// Whether many sends are batched into one system call by `io_uring`, where the system allows
    /// it.
    pub io_uring: bool,
    /// How long clients have to leave when the server stops.
    #[serde(deserialize_with = "duration::deserialize")]
    pub drain: Duration,
    /// The part of `drain` in which the server works as before and reports that it is not ready.
    #[serde(deserialize_with = "duration::deserialize")]
    pub drain_delay: Duration,
    /// How long an HTTP connection may be idle between two requests.
    #[serde(deserialize_with = "duration::deserialize")]
    pub keep_alive: Duration,
    /// The node's name in statistics and telemetry; the host's name unless set.
    #[serde(deserialize_with = "values::node")]
    pub node: String,
}
