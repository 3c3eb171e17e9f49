//! What can be wrong with a Redis server.

use std::fmt;

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why a server can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It can't be reached.
    Unreachable {
        /// The server.
        address: String,
        /// The library's reason.
        reason: String,
    },
    /// It wants another user or password, or the user lacks rights.
    Refused {
        /// The server.
        address: String,
        /// The server's reason.
        reason: String,
    },
    /// It is too old.
    TooOld {
        /// The server.
        address: String,
        /// What it says it is.
        version: String,
    },
    /// It knows no sharded publish/subscribe.
    NoShardedPubSub {
        /// The server, or what stands before it.
        address: String,
    },
    /// It is a replica.
    Replica {
        /// The server.
        address: String,
    },
    /// It removes keys when its memory is full.
    Evicts {
        /// The server.
        address: String,
        /// Its `maxmemory-policy`.
        policy: String,
    },
    /// Several addresses of which one is no member of a cluster.
    NoCluster {
        /// The server.
        address: String,
    },
    /// A cluster in which some slots have no server.
    Incomplete {
        /// The server that says so.
        address: String,
    },
    /// The Sentinels know no such master.
    NoMaster {
        /// Its name.
        master: String,
    },
}

impl Trouble {
    pub(super) fn of(address: &str, error: &RedisError) -> Self {
        let address = address.to_owned();
        let code = error.code().unwrap_or_default();
        let kind = error.kind();
        if kind == ErrorKind::AuthenticationFailed
            || kind == ErrorKind::Server(ServerErrorKind::NoPerm)
            || matches!(code, "WRONGPASS" | "NOAUTH" | "NOPERM")
        {
            let reason = error.detail().unwrap_or(code).to_owned();
            return Trouble::Refused { address, reason };
        }
        if kind == ErrorKind::RESP3NotSupported {
            let version = "a server without RESP3".to_owned();
            return Trouble::TooOld { address, version };
        }
        Trouble::Unreachable {
            address,
            reason: error.to_string(),
        }
    }

    /// True if waiting may help.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Trouble::Unreachable { .. }
            | Trouble::Replica { .. }
            | Trouble::Incomplete { .. }
            | Trouble::NoMaster { .. } => true,
            Trouble::Refused { .. }
            | Trouble::TooOld { .. }
            | Trouble::NoShardedPubSub { .. }
            | Trouble::Evicts { .. }
            | Trouble::NoCluster { .. } => false,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Unreachable { address, reason } => {
                write!(f, "Redis at {address} can't be reached: {reason}")
            }
            Trouble::Refused { address, reason } => write!(
                f,
                "Redis at {address} refuses this user: {reason} (the user and password in \
                 cluster.redis.urls; the user needs all commands, keys and channels)"
            ),
            Trouble::TooOld { address, version } => write!(
                f,
                "Redis at {address} is too old ({version}): expected Redis 7.0 or Valkey 7.2 at least"
            ),
            Trouble::NoShardedPubSub { address } => write!(
                f,
                "Redis at {address} has no sharded publish/subscribe (SPUBLISH): a proxy can't \
                 stand between Tidings and Redis"
            ),
            Trouble::Replica { address } => write!(
                f,
                "Redis at {address} is a read-only replica: name its master, or its Sentinels as \
                 redis+sentinel://HOST:26379/MASTER (cluster.redis.urls)"
            ),
            Trouble::Evicts { address, policy } => write!(
                f,
                "Redis at {address} removes keys when its memory is full (maxmemory-policy \
                 {policy}), revocations among them: set maxmemory-policy to noeviction"
            ),
            Trouble::NoCluster { address } => write!(
                f,
                "Redis at {address} is no Redis Cluster: several addresses are the members of one \
                 (cluster.redis.urls)"
            ),
            Trouble::Incomplete { address } => write!(
                f,
                "the Redis Cluster of {address} has slots that no server serves"
            ),
            Trouble::NoMaster { master } => {
                write!(
                    f,
                    "no Sentinel knows the master {master} (cluster.redis.urls)"
                )
            }
        }
    }
}

impl std::error::Error for Trouble {}
