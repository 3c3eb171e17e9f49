//! The server, as operators see it.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::{NodeInfo, ServerInfo};
use crate::auth::Identity;
use crate::event::Timestamp;
use crate::session::{NamespaceFacts, Setting as Configured};

/// A server: what it is, what it was started with, what it uses.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Server {
    /// The node's name.
    pub node: String,
    /// The version of the program.
    pub version: &'static str,
    /// When it started.
    #[schema(format = DateTime)]
    pub started_at: String,
    /// The time of this answer.
    #[schema(format = DateTime)]
    pub now: String,
    /// Whether it runs with `--dev`.
    pub dev: bool,
    /// Who asks.
    pub caller: CallerInfo,
    /// The address of the public listener.
    #[schema(required = true)]
    pub public_address: Option<String>,
    /// The address of the internal listener.
    #[schema(required = true)]
    pub internal_address: Option<String>,
    /// The nodes that serve together.
    pub nodes: Vec<Node>,
    /// Where history is kept.
    pub store: Store,
    /// What the process uses.
    pub process: Process,
    /// The configured limits with their use.
    pub limits: Vec<Limit>,
    /// Closed connections since the start by close code; 0 stands for all other codes.
    pub closes: BTreeMap<String, u64>,
    /// The settings of each namespace.
    pub namespaces: Vec<Namespace>,
    /// Every configured value with its source.
    pub configuration: Vec<Setting>,
}

/// Who asks.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CallerInfo {
    /// The user; `null` for an anonymous caller.
    #[schema(required = true)]
    pub user: Option<String>,
    /// Whether it may also change something.
    pub admin: bool,
    /// When the token expires; `null` without a token.
    #[schema(required = true, format = DateTime)]
    pub expires_at: Option<String>,
}

/// A node of the cluster.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Node {
    /// Its number.
    pub id: String,
    /// Whether it is the one that answers.
    #[serde(rename = "self")]
    pub is_self: bool,
    /// Its name.
    pub name: String,
    /// The version of its program.
    pub version: String,
    /// When it started.
    #[schema(format = DateTime)]
    pub started_at: String,
    /// Its connections, at its last heartbeat.
    pub connections: u64,
    /// Whether it drains.
    pub leaving: bool,
    /// How long ago it was last heard, in seconds: heartbeats come every second.
    #[schema(minimum = 0)]
    pub heard_ago_seconds: f64,
    /// The round trip between it and the engine; `null` without an engine.
    #[schema(required = true, minimum = 0)]
    pub round_trip_ms: Option<f64>,
}

impl From<&NodeInfo> for Node {
    fn from(NodeInfo { node, is_self }: &NodeInfo) -> Self {
        Node {
            id: node.number.to_string(),
            is_self: *is_self,
            name: node.name.clone(),
            version: node.version.clone(),
            started_at: node.started_at.to_rfc3339(),
            connections: node.connections,
            leaving: node.leaving,
            heard_ago_seconds: node.heard.as_secs_f64(),
            round_trip_ms: node.round_trip.map(|took| took.as_secs_f64() * 1e3),
        }
    }
}

/// A store of history.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Store {
    /// Its kind: `memory` or `disk`.
    pub kind: String,
    /// `fsync` or `async`; empty for memory.
    pub durability: String,
    /// Whether it can write.
    pub available: bool,
    /// Bytes of history in memory.
    pub bytes: u64,
    /// The most bytes; 0 without a bound.
    pub limit_bytes: u64,
}

/// What a process uses; `null` where the system does not report it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Process {
    /// Processor time since the start.
    #[schema(required = true, minimum = 0)]
    pub cpu_seconds: Option<f64>,
    /// Resident memory.
    #[schema(required = true)]
    pub resident_bytes: Option<u64>,
    /// Open descriptors.
    #[schema(required = true)]
    pub open_files: Option<u64>,
    /// The most open descriptors.
    #[schema(required = true)]
    pub open_files_limit: Option<u64>,
    /// Threads.
    #[schema(required = true)]
    pub threads: Option<u64>,
    /// Processors that it may use.
    pub processors: u64,
    /// Shards.
    pub shards: u64,
}

/// A limit with its use.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Limit {
    /// Its key in the configuration.
    pub key: &'static str,
    /// The limit; 0 for none.
    pub limit: u64,
    /// How much is used; `null` for a limit of one connection or user.
    #[schema(required = true)]
    pub used: Option<u64>,
    /// How often it refused something.
    pub reached: u64,
}

/// The settings that apply to the channels of a namespace.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Namespace {
    /// Its name; `*` for all undeclared ones.
    pub name: String,
    /// The most events of a channel's history; 0 if it keeps none.
    pub history_size: u64,
    /// Their longest age.
    pub history_ttl_ms: u64,
    /// The most bytes of them.
    pub history_bytes: u64,
    /// Whether presence is tracked.
    pub presence: bool,
    /// The policy for slow connections.
    pub slow_consumer: String,
    /// How long an unused channel is kept.
    pub max_idle_ms: u64,
    /// Who may subscribe, in CEL; empty without a rule.
    pub subscribe: String,
    /// Who may publish, in CEL; empty without a rule.
    pub publish: String,
}

/// A configured value.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Setting {
    /// The key, as a dotted path.
    pub key: String,
    /// The value, as TOML; empty for a secret.
    pub value: String,
    /// Where it stands: a file and line, a variable, a flag, a preset, or `default`.
    pub source: String,
    /// Whether the value is withheld.
    pub secret: bool,
    /// Whether SIGHUP changes it.
    pub reloads: bool,
}

impl Server {
    /// What an operator sees of the server.
    #[must_use]
    pub fn new(info: ServerInfo, caller: &Identity) -> Self {
        let facts = info.facts;
        let nodes = info.nodes.iter().map(Node::from);
        let limits = info.limits.iter().map(|limit| Limit {
            key: limit.key,
            limit: limit.limit,
            used: limit.used,
            reached: limit.reached,
        });
        Server {
            node: info.node,
            version: info.version,
            started_at: info.started_at.to_rfc3339(),
            now: Timestamp::now().to_rfc3339(),
            dev: facts.dev,
            caller: CallerInfo {
                user: caller.user().map(ToString::to_string),
                admin: caller.is_admin(),
                expires_at: caller.expires_at().map(Timestamp::to_rfc3339),
            },
            public_address: facts.public.map(|address| address.to_string()),
            internal_address: facts.internal.map(|address| address.to_string()),
            nodes: nodes.collect(),
            store: Store {
                kind: facts.storage,
                durability: facts.durability,
                available: info.store_available,
                bytes: info.store_bytes,
                limit_bytes: facts.storage_limit,
            },
            process: Process {
                cpu_seconds: info.process.cpu.map(|cpu| cpu.as_secs_f64()),
                resident_bytes: info.process.resident_bytes,
                open_files: info.open_files,
                open_files_limit: info.process.open_files_limit,
                threads: info.process.threads,
                processors: info.processors,
                shards: info.shards,
            },
            limits: limits.collect(),
            closes: info
                .closes
                .into_iter()
                .map(|(code, count)| (code.to_string(), count))
                .collect(),
            namespaces: facts.namespaces.into_iter().map(Namespace::from).collect(),
            configuration: facts.settings.into_iter().map(Setting::from).collect(),
        }
    }
}

impl From<NamespaceFacts> for Namespace {
    fn from(facts: NamespaceFacts) -> Self {
        Namespace {
            name: facts.name,
            history_size: facts.history_size,
            history_ttl_ms: facts.history_ttl_ms,
            history_bytes: facts.history_bytes,
            presence: facts.presence,
            slow_consumer: facts.slow_consumer,
            max_idle_ms: facts.max_idle_ms,
            subscribe: facts.subscribe,
            publish: facts.publish,
        }
    }
}

impl From<Configured> for Setting {
    fn from(setting: Configured) -> Self {
        Setting {
            key: setting.key,
            value: setting.value,
            source: setting.source,
            secret: setting.secret,
            reloads: setting.reloads,
        }
    }
}
