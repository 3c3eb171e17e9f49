//! The configuration: defaults, files, environment, validation.

pub(crate) mod certificates;
mod cluster;
mod cluster_tables;
mod declarations;
mod defaults;
mod dialect_tables;
mod dialects;
mod document;
mod environment;
mod event_tables;
mod hook_keys;
mod hooks;
mod json;
mod key_list;
mod keys;
mod kind;
mod layer;
mod listeners;
mod load;
mod machine_memory;
mod memory_bound;
mod namespaces;
mod nearest;
mod presets;
mod problem;
mod process_keys;
mod provenance;
#[cfg(test)]
mod refusals;
mod repeated_keys;
mod source_tables;
mod sources;
mod tables;
#[cfg(test)]
mod tests;
mod validate;
mod values;
mod warnings;
mod webhook_tables;

pub use crate::auth::Secret;
pub use crate::clock::duration;
pub use cluster_tables::{ClusterConfig, Engine, NatsConfig, RedisConfig};
pub use dialect_tables::{
    DialectCommand, DialectConfig, DialectControl, DialectEvent, DialectNames, DialectProtocol,
    DialectRefusals,
};
pub use document::KeyRow;
pub use event_tables::{Catalog, CatalogMode, EventTypeConfig, NamespaceConfig, NamespaceHistory};
pub use hooks::{HooksConfig, OnFailure};
pub use listeners::{Console, Documents, ForwardedHeader, Internal, InternalAuth, Public};
pub use load::Inputs;
pub use machine_memory::available_memory;
pub use memory_bound::{MemoryBound, Term};
pub use presets::Preset;
pub use problem::{Place, Problem, Problems};
pub use provenance::{ConfiguredValue, Provenance};
pub use source_tables::{SourceConfig, SourceKindName};
pub use tables::{
    Audit, Auth, Durability, Heartbeat, HistoryConfig, Limits, LogFormat, OnDamage, OtlpProtocol,
    Server, Storage, Telemetry, WebSocket,
};

pub use webhook_tables::{WebhookConfig, WebhooksConfig};

use serde::Deserialize;

/// All settings, one field for each table or top-level key of the TOML file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The listener for browsers and the HTTP API.
    pub public: Public,
    /// The listener for gRPC and metrics.
    pub internal: Internal,
    /// Tokens.
    pub auth: Auth,
    /// Limits.
    pub limits: Limits,
    /// Liveness of connections.
    pub heartbeat: Heartbeat,
    /// Where events are kept.
    pub history: HistoryConfig,
    /// The nodes that serve as one.
    pub cluster: ClusterConfig,
    /// Channels to which a new connection is subscribed automatically; `{user}` is replaced by its
    /// user, and entries with it are left out for anonymous ones.
    pub auto_subscribe: Vec<String>,
    /// The declared namespaces.
    pub namespace: Vec<NamespaceConfig>,
    /// The declared event types.
    pub event_type: Vec<EventTypeConfig>,
    /// Dialects besides the built-in ones.
    pub dialect: Vec<DialectConfig>,
    /// Systems of the application whose records are published.
    pub source: Vec<SourceConfig>,
    /// What all webhooks share.
    pub webhooks: WebhooksConfig,
    /// The application's addresses that get events.
    pub webhook: Vec<WebhookConfig>,
    /// How strictly events are checked against the catalog.
    pub catalog: Catalog,
    /// The WebSocket.
    pub websocket: WebSocket,
    /// Questions to the application.
    pub hooks: HooksConfig,
    /// Traces, metrics and logs.
    pub telemetry: Telemetry,
    /// The audit log.
    pub audit: Audit,
    /// The process itself.
    pub server: Server,
    /// The page for operators.
    pub console: Console,
    /// Where each value stands.
    #[serde(skip)]
    pub provenance: Provenance,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            public: Public::default(),
            internal: Internal::default(),
            auth: Auth::default(),
            limits: Limits::default(),
            heartbeat: Heartbeat::default(),
            history: HistoryConfig::default(),
            cluster: ClusterConfig::default(),
            auto_subscribe: defaults::of("auto_subscribe"),
            namespace: Vec::new(),
            event_type: Vec::new(),
            dialect: Vec::new(),
            source: Vec::new(),
            webhooks: WebhooksConfig::default(),
            webhook: Vec::new(),
            catalog: Catalog::default(),
            websocket: WebSocket::default(),
            hooks: HooksConfig::default(),
            telemetry: Telemetry::default(),
            audit: Audit::default(),
            server: Server::default(),
            console: Console::default(),
            provenance: Provenance::default(),
        }
    }
}
