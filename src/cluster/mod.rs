//! Everything between nodes that is not an event: questions, commands, who is there.
//!
//! A question to this node and to another one take the same path: `admin` and `session` ask the
//! [`Cluster`], and the cluster asks the hub of each node. A server that is in no cluster has
//! [`Local`], which answers from its own hub at once.

mod local;

use std::sync::Arc;
use std::time::Duration;

use crate::auth::Identity;
use crate::event::{ChannelName, ConnectionId, NodeId};
use crate::hub::{ConnectionFilter, ConnectionInfo, Grant, Present};
use crate::maybe_ready::MaybeReady;
use crate::telemetry::StatsSnapshot;

pub use local::Local;

/// How long other nodes may take to answer an operator.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// The nodes that a message is for.
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
        /// Which one.
        connection: ConnectionId,
        /// What the client is told.
        reason: String,
        /// The operator's name, for the audit log.
        by: Arc<str>,
    },
    /// Close all connections of a user on behalf of the operator `by`.
    DisconnectUser {
        /// The user's name.
        user: Arc<str>,
        /// What the clients are told.
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
        /// Where.
        channel: ChannelName,
        /// Who.
        user: Arc<str>,
        /// False if the user left.
        joined: bool,
    },
}

/// A question to a node.
#[derive(Debug, Clone)]
pub enum Query {
    /// Its counters.
    Stats,
    /// A page of its connections.
    Connections(ConnectionsQuery),
    /// One of its connections.
    Connection(ConnectionId),
    /// Whose one of its connections is.
    Identity(ConnectionId),
    /// The channels that are followed there, by name.
    Channels {
        /// What their names start with.
        prefix: String,
        /// Only names after this one.
        after: String,
        /// The most channels.
        limit: usize,
    },
    /// Who is in a channel there.
    Presence {
        /// Which channel.
        channel: ChannelName,
        /// The most users.
        limit: usize,
    },
}

/// Which connections of a node are asked for, and from where on.
#[derive(Debug, Clone)]
pub struct ConnectionsQuery {
    /// Which connections.
    pub filter: ConnectionFilter,
    /// Where the page starts.
    pub from: Place,
    /// The most connections.
    pub limit: usize,
    /// The most bytes that they may take when they are written down.
    pub bytes: usize,
}

/// A place among the connections of a node.
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
    /// The connections, in the order of their places.
    pub connections: Vec<ConnectionInfo>,
    /// Where the next page starts; `None` if this is the last one.
    pub next: Option<Place>,
    /// How many bytes they take when they are written down.
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
    /// To [`Query::Connection`]; `None` where it has gone.
    Connection(Option<Box<ConnectionInfo>>),
    /// To [`Query::Identity`]: anonymous until it has authenticated, `None` where it has gone.
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
    /// Nodes that are alive and did not answer in time.
    pub unreachable: Vec<NodeId>,
}

/// The nodes that serve together.
pub trait Cluster: Send + Sync {
    /// This node.
    fn node(&self) -> NodeId;

    /// The nodes that are alive, this one included, by number.
    fn nodes(&self) -> Vec<NodeId>;

    /// Sends a command. Answers how many connections it has closed or subscribed, over all nodes; a node that is
    /// not alive has none.
    ///
    /// # Errors
    /// `unavailable` where a node that is alive did not carry it out.
    fn notify(&self, to: To, control: Control) -> MaybeReady<u64>;

    /// Asks, and waits until every node has answered, for other nodes at most until the deadline.
    ///
    /// # Errors
    /// `unavailable` where this node itself can't answer.
    fn survey(&self, to: To, query: Query, deadline: Duration) -> MaybeReady<Survey>;
}
