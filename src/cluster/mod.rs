//! Communication between nodes other than events: queries, commands, presence.
//!
//! A query to this node and to another one take the same path: `admin` and `session` ask the
//! [`Cluster`], and the cluster asks the hub of each node. A server that is not in a cluster has
//! [`Local`], which answers from its own hub at once.

mod link;
mod local;
mod messages;
mod nats;
mod nats_cursors;
mod occupancy;
mod presence;
mod redis;
mod remote;
mod stats_message;

use std::sync::Arc;
use std::time::Duration;

use crate::auth::Identity;
use crate::event::{ChannelName, ConnectionId, NodeId, Timestamp};
use crate::hub::{ConnectionFilter, ConnectionInfo, Grant, Present, RankQuery, Ranked};
use crate::maybe_ready::MaybeReady;
use crate::telemetry::StatsSnapshot;

pub use self::redis::RedisLink;
pub use link::{Address, Link, Receive};
pub use local::Local;
pub use nats::NatsLink;
pub use nats_cursors::NatsCursors;
pub use occupancy::{ClusterOccupancy, OccupancyChange};
pub use presence::{Changed, ClusterPresence};
pub use remote::{Me, Remote, Shared, claim};

/// How long other nodes may take to answer an operator's query.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// The nodes that receive a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// One node.
    Node(NodeId),
    /// Every node, this one included.
    All,
}

/// A command to a node.
#[derive(Debug, Clone)]
pub enum Control {
    /// Close a connection on behalf of the operator `by`.
    Disconnect {
        /// The connection.
        connection: ConnectionId,
        /// The reason sent to the client.
        reason: String,
        /// The operator's name, for the audit log.
        by: Arc<str>,
    },
    /// Close all connections of a user on behalf of the operator `by`.
    DisconnectUser {
        /// The user's name.
        user: Arc<str>,
        /// The reason sent to the clients.
        reason: Arc<str>,
        /// The operator's name, for the audit log.
        by: Arc<str>,
    },
    /// Make or end subscriptions of a user's connections, or of one connection, for a service.
    /// Answers how many connections there are.
    Grant(Arc<Grant>),
    /// A revocation was added: close the connections whose identity is no longer valid.
    Revoked,
    /// A user joined a channel for the first time, or left it for the last time: notify the
    /// subscribers that watch its presence.
    Presence {
        /// The channel.
        channel: ChannelName,
        /// The user.
        user: Arc<str>,
        /// False if the user left.
        joined: bool,
    },
}

/// A query to a node.
#[derive(Debug, Clone)]
pub enum Query {
    /// Its counters.
    Stats,
    /// A page of its connections.
    Connections(ConnectionsQuery),
    /// The first of its connections in an order.
    Ranked(RankQuery),
    /// One of its connections.
    Connection(ConnectionId),
    /// The identity of one of its connections.
    Identity(ConnectionId),
    /// The channels with subscribers on the node, by name.
    Channels {
        /// The prefix of their names.
        prefix: String,
        /// Only names after this one.
        after: String,
        /// The most channels.
        limit: usize,
    },
    /// The users in a channel on the node.
    Presence {
        /// The channel.
        channel: ChannelName,
        /// The most users.
        limit: usize,
    },
}

/// Selects connections of a node, and where to start.
#[derive(Debug, Clone)]
pub struct ConnectionsQuery {
    /// Selects connections.
    pub filter: ConnectionFilter,
    /// Where the page starts.
    pub from: Place,
    /// The most connections.
    pub limit: usize,
    /// The most bytes of their encoded form.
    pub bytes: usize,
}

/// A position in the list of a node's connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// The shard.
    pub shard: usize,
    /// The slot in the shard.
    pub slot: u32,
}

/// Some connections of a node.
#[derive(Debug, Default)]
pub struct ConnectionsPage {
    /// The connections, in order of position.
    pub connections: Vec<ConnectionInfo>,
    /// Where the next page starts; `None` if this is the last one.
    pub next: Option<Place>,
    /// The bytes of their encoded form.
    pub bytes: usize,
    /// True if the next connection did not fit.
    pub is_full: bool,
}

/// The answer of one node.
#[derive(Debug)]
pub enum Answer {
    /// To [`Query::Stats`].
    Stats(Box<StatsSnapshot>),
    /// To [`Query::Connections`].
    Connections(ConnectionsPage),
    /// To [`Query::Ranked`]: in its order.
    Ranked(Vec<(Ranked, ConnectionInfo)>),
    /// To [`Query::Connection`]; `None` if it no longer exists.
    Connection(Option<Box<ConnectionInfo>>),
    /// To [`Query::Identity`]: anonymous until it has authenticated, `None` if it no longer exists.
    Identity(Option<Arc<Identity>>),
    /// To [`Query::Channels`]: with the subscriptions on the node.
    Channels(Vec<(ChannelName, u64)>),
    /// To [`Query::Presence`].
    Presence(Present),
}

/// The answers of several nodes.
#[derive(Debug, Default)]
pub struct Survey {
    /// By node.
    pub answers: Vec<(NodeId, Answer)>,
    /// Nodes that are alive but did not answer in time.
    pub unreachable: Vec<NodeId>,
}

/// A node, as shown to operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its number.
    pub number: NodeId,
    /// Its name for operators.
    pub name: String,
    /// The version of its program.
    pub version: String,
    /// When its process started.
    pub started_at: Timestamp,
    /// Its connections, at its last heartbeat.
    pub connections: u64,
    /// True while it drains.
    pub leaving: bool,
    /// How long ago it was last heard. Zero for this node.
    pub heard: Duration,
    /// The round trip between it and the engine; `None` without an engine, or while it is unknown.
    pub round_trip: Option<Duration>,
}

/// The nodes that serve together.
pub trait Cluster: Send + Sync {
    /// This node.
    fn node(&self) -> NodeId;

    /// The nodes that are alive, this one included, by number.
    fn nodes(&self) -> Vec<NodeId>;

    /// The nodes for operators, this one included, by number. A node whose heartbeats have stopped
    /// is shown for a short time.
    fn describe(&self) -> Vec<NodeInfo>;

    /// Sends a command. Returns how many connections it has closed or subscribed, over all nodes; a
    /// node that is not alive has none.
    ///
    /// # Errors
    ///
    /// `unavailable` if a node that is alive did not execute it.
    fn notify(&self, to: To, control: Control) -> MaybeReady<u64>;

    /// Sends a query, and waits until every node has answered, for other nodes at most until the
    /// deadline.
    ///
    /// # Errors
    ///
    /// `unavailable` if this node itself can't answer.
    fn survey(&self, to: To, query: Query, deadline: Duration) -> MaybeReady<Survey>;
}
