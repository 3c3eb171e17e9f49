//! `[cluster]`: the nodes that serve as one, and the engine that joins them.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{Durability, Secret, duration, values};

/// `[cluster]`: the nodes that serve as one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// The engine that joins them.
    pub engine: Engine,
    /// The prefix of every subject, stream and key.
    pub name: String,
    /// The node's name for operators. `None` derives one from the host name.
    #[serde(deserialize_with = "values::text")]
    pub node: Option<String>,
    /// The engine NATS.
    pub nats: NatsConfig,
    /// The engine Redis.
    pub redis: RedisConfig,
}

/// An engine that joins nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// This node is alone.
    None,
    /// NATS JetStream.
    Nats,
    /// Redis or Valkey.
    Redis,
}

/// `[cluster.nats]`: the engine NATS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsConfig {
    /// The servers.
    pub urls: Vec<String>,
    /// The user name.
    #[serde(deserialize_with = "values::text")]
    pub user: Option<String>,
    /// The user's password.
    #[serde(deserialize_with = "values::secret")]
    pub password: Option<Secret>,
    /// The token, in place of a user name.
    #[serde(deserialize_with = "values::secret")]
    pub token: Option<Secret>,
    /// A credentials file, in place of a user name.
    #[serde(deserialize_with = "values::path")]
    pub credentials_file: Option<PathBuf>,
    /// A file with an NKey seed, in place of a user name.
    #[serde(deserialize_with = "values::path")]
    pub nkey_file: Option<PathBuf>,
    /// The certificates that sign the servers' certificates.
    #[serde(deserialize_with = "values::path")]
    pub ca: Option<PathBuf>,
    /// The client certificate chain.
    #[serde(deserialize_with = "values::path")]
    pub cert: Option<PathBuf>,
    /// The private key of `cert`.
    #[serde(deserialize_with = "values::path")]
    pub key: Option<PathBuf>,
    /// Replicas of each stream. 0: 3 where the servers are a cluster, else 1.
    pub replicas: u8,
    /// What survives a power failure of the servers.
    pub durability: Durability,
    /// Streams over which each namespace is spread.
    pub partitions: u16,
    /// The most bytes of each stream. 0 for no limit.
    pub max_bytes: u64,
    /// How long a publish waits for the servers.
    #[serde(deserialize_with = "duration::deserialize")]
    pub publish_timeout: Duration,
    /// How often each subscribed channel is compared with its log.
    #[serde(deserialize_with = "duration::deserialize")]
    pub sweep: Duration,
}

/// `[cluster.redis]`: the engine Redis.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// One server, several nodes of a Redis Cluster, or Sentinels.
    pub urls: Vec<Secret>,
    /// Replicas that must have an event before its publish is acknowledged.
    pub wait_replicas: u32,
    /// How long a publish waits for the server.
    #[serde(deserialize_with = "duration::deserialize")]
    pub publish_timeout: Duration,
    /// How often each subscribed channel is compared with its log.
    #[serde(deserialize_with = "duration::deserialize")]
    pub sweep: Duration,
}
