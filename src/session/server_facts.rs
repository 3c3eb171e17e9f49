//! What the server was started with, for operators.

use std::net::SocketAddr;

/// Set at the start and by each reload. Holds no secret.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerFacts {
    /// Whether the server runs with `--dev`.
    pub dev: bool,
    /// The address of the public listener.
    pub public: Option<SocketAddr>,
    /// The address of the internal listener.
    pub internal: Option<SocketAddr>,
    /// Where history is kept: `memory`, `disk`, or the engine of the cluster.
    pub storage: String,
    /// How durable an acknowledged event is: `fsync` or `async`; empty for a store in memory.
    pub durability: String,
    /// The most bytes of the store.
    pub storage_limit: u64,
    /// Every setting, in the order of the reference.
    pub settings: Vec<Setting>,
    /// The configured limits.
    pub limits: Vec<(&'static str, u64)>,
    /// The namespaces.
    pub namespaces: Vec<NamespaceFacts>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key, as a dotted path.
    pub key: String,
    /// The value, as TOML; empty for a secret.
    pub value: String,
    /// Where it stands: a file with its line, a variable, a flag, a preset, or `default`.
    pub source: String,
    /// Whether its value is withheld.
    pub secret: bool,
    /// Whether SIGHUP changes it.
    pub reloads: bool,
}

/// The settings that apply to the channels of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// Its name; `*` for all undeclared ones.
    pub name: String,
    /// The most events of a channel's history.
    pub history_size: u64,
    /// Their longest age, in milliseconds.
    pub history_ttl_ms: u64,
    /// The most bytes of them.
    pub history_bytes: u64,
    /// Whether presence is tracked.
    pub presence: bool,
    /// The policy for slow connections.
    pub slow_consumer: String,
    /// How long an unused channel is kept, in milliseconds.
    pub max_idle_ms: u64,
    /// Who may subscribe, in CEL; empty where there is no rule.
    pub subscribe: String,
    /// Who may publish, in CEL; empty where there is no rule.
    pub publish: String,
}
