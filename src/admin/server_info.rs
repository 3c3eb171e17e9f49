//! What the server is, what it was started with, and how far its limits are used.

use std::time::SystemTime;

use super::viewer::Viewer;
use crate::cluster;
use crate::event::Timestamp;
use crate::session::ServerFacts;
use crate::telemetry::{ProcessFigures, open_files, process_figures};

/// The server, as operators see it.
#[derive(Debug, Clone)]
pub struct ServerInfo {
    /// The node's name.
    pub node: String,
    /// The version of the program.
    pub version: &'static str,
    /// When the process began to count.
    pub started_at: Timestamp,
    /// What it was started with.
    pub facts: ServerFacts,
    /// The nodes that serve together.
    pub nodes: Vec<NodeInfo>,
    /// Whether the store can write.
    pub store_available: bool,
    /// Bytes of the history in memory.
    pub store_bytes: u64,
    /// What the process uses.
    pub process: ProcessFigures,
    /// Open descriptors.
    pub open_files: Option<u64>,
    /// Processors that it may use.
    pub processors: u64,
    /// Shards.
    pub shards: u64,
    /// The limits with their use.
    pub limits: Vec<LimitUse>,
    /// Closed connections, by close code; 0 stands for the rest.
    pub closes: Vec<(u16, u64)>,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// What every node knows of it.
    pub node: cluster::NodeInfo,
    /// Whether it is the one that answers.
    pub is_self: bool,
}

/// A limit with its use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitUse {
    /// Its key.
    pub key: &'static str,
    /// The limit; 0 for none.
    pub limit: u64,
    /// How much of it is used; `None` for limits of one connection or user.
    pub used: Option<u64>,
    /// How often it has refused something.
    pub reached: u64,
}

impl Viewer {
    /// The server at this moment. Counting open descriptors takes a while where there are very many.
    pub async fn server_info(&self) -> ServerInfo {
        let services = &self.services;
        let metrics = &services.metrics;
        let facts = services.facts.load_full();
        let snapshot = metrics.snapshot();
        let cluster = &services.cluster;
        let here = cluster.node();
        let nodes = cluster.describe().into_iter();
        let open_files = tokio::task::spawn_blocking(open_files).await;
        let (revocations, idempotency_keys) = metrics.levels();
        let used = |key: &str| match key {
            "limits.connections" => Some(snapshot.connections.now),
            "limits.channels" => Some(snapshot.channels),
            "limits.idempotency_keys" => Some(idempotency_keys),
            "auth.revocations" => Some(revocations),
            "history.memory_bytes" => Some(metrics.history_bytes()),
            _ => None,
        };
        let reached = metrics.limits_reached();
        let reached = |key: &str| {
            let name = key.rsplit('.').next().unwrap_or(key);
            let found = reached.iter().find(|(reached, _)| reached == name);
            found.map_or(0, |(_, count)| *count)
        };
        let limits = facts.limits.iter().map(|(key, limit)| LimitUse {
            key,
            limit: *limit,
            used: used(key),
            reached: reached(key),
        });
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        ServerInfo {
            node: snapshot.node,
            version: env!("CARGO_PKG_VERSION"),
            started_at: since_epoch(metrics.started_at()),
            limits: limits.collect(),
            nodes: nodes
                .map(|node| NodeInfo {
                    is_self: node.number == here,
                    node,
                })
                .collect(),
            store_available: services.broker.is_available(),
            store_bytes: metrics.history_bytes(),
            process: process_figures(),
            open_files: open_files.ok().flatten(),
            processors: count(processors),
            shards: count(services.hub.shards()),
            closes: metrics.closes(),
            facts: ServerFacts::clone(&facts),
        }
    }
}

fn since_epoch(time: SystemTime) -> Timestamp {
    let passed = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_micros(i64::try_from(passed.as_micros()).unwrap_or(i64::MAX))
}
