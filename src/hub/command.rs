//! The commands and queries of a shard.
//!
//! A shard is an actor: its state is private to the thread that runs it, and the only way in is its
//! queue. [`ShardCommand`] is that interface. Each query carries the channel for its answer; the
//! typed functions of [`Hub`](super::Hub) send it and await the answer.

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::evaluator::Verdict;
use super::shard::ConnectionInfo;
use super::shard::{
    ConnCtx, ConnectionPage, ConnectionQuery, FilterBatch, Lookup, Opening, PendingJoin, RankQuery,
    Ranked, SubscriptionRef, Tops, TransportUpgrade,
};
use crate::auth::Identity;
use crate::broker::Page;
use crate::error::Result;
use crate::event::{Audience, ChannelName, ChannelPattern, ConnectionId, EventType};
use crate::filter::EventFilter;
use crate::lifecycle::Departure;

/// A protocol's operation on one of its connections, run on the shard's thread.
pub(in crate::hub) type Continuation = Box<dyn FnOnce(&mut ConnCtx<'_>) + Send>;

/// Decides whether an identity may keep a subscription.
pub(in crate::hub) type SubscribeRule =
    Arc<dyn Fn(&Identity, &ChannelPattern, ConnectionId) -> Result<()> + Send + Sync>;

/// Subscriptions that a service makes or ends for a user's connections, or for one connection.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Whose.
    pub to: GrantTo,
    /// The channels, or patterns.
    pub patterns: Vec<ChannelPattern>,
    /// Which events are wanted; all if `None`.
    pub filter: Option<Arc<EventFilter>>,
    /// False if the subscriptions end.
    pub begins: bool,
}

/// The connections of a [`Grant`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantTo {
    /// One connection.
    Connection(ConnectionId),
    /// All connections that a user has at this moment.
    User(Arc<str>),
}

/// The sender of an answer.
pub(in crate::hub) struct Reply<T>(oneshot::Sender<T>);

impl<T> Reply<T> {
    /// A reply, and the receiver that gets its answer.
    pub(in crate::hub) fn channel() -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Reply(sender), receiver)
    }

    /// Sends the answer. It is dropped if nobody waits for it any more.
    pub(in crate::hub) fn send(self, answer: T) {
        drop(self.0.send(answer));
    }
}

/// One message to a shard.
pub(in crate::hub) enum ShardCommand {
    /// Take over a new connection.
    Open(Box<Opening>),
    /// Bytes of a client arrived outside its connection's IO, by an HTTP request of long polling.
    /// `before` runs first. Ignored if the connection no longer exists or owns a socket by now.
    Receive {
        connection: ConnectionId,
        bytes: Vec<u8>,
        before: Continuation,
    },
    /// Replace a connection's pipe with a socket. The socket is closed if the connection no longer
    /// exists.
    Upgrade {
        connection: ConnectionId,
        upgrade: Box<TransportUpgrade>,
    },
    /// The reader of a connection's pipe has made room.
    PipeDrained(ConnectionId),
    /// The reader of a connection's pipe was dropped.
    PipeClosed(ConnectionId),

    /// List connections, one page.
    ListConnections {
        query: Box<ConnectionQuery>,
        reply: Reply<ConnectionPage>,
    },
    /// The first connections in an order, of a part of the shard from the slot `from`. Answers them
    /// and the slot to continue from.
    RankConnections {
        query: Arc<RankQuery>,
        from: u32,
        reply: Reply<(Vec<Ranked>, Option<u32>)>,
    },
    /// Describe one connection.
    GetConnection {
        connection: ConnectionId,
        reply: Reply<Option<ConnectionInfo>>,
    },
    /// The identity of a connection: anonymous until it has authenticated, `None` if it no longer
    /// exists.
    GetIdentity {
        connection: ConnectionId,
        reply: Reply<Option<Arc<Identity>>>,
    },
    /// Count the connections of an audience, one page from the slot `from`. Answers the count and
    /// the slot to continue from.
    CountAudience {
        /// The event's type: an event for roles honours `event_types`.
        event_type: EventType,
        audience: Arc<Audience>,
        from: u32,
        reply: Reply<(u64, Option<u32>)>,
    },
    /// Whether the shard has no connections.
    IsEmpty { reply: Reply<bool> },

    /// Close one connection on behalf of the operator `by`. Answers whether it was open.
    Disconnect {
        connection: ConnectionId,
        reason: String,
        by: Arc<str>,
        reply: Reply<bool>,
    },
    /// Close all connections of a user on behalf of the operator `by`. Answers how many.
    DisconnectUser {
        user: Arc<str>,
        reason: Arc<str>,
        by: Arc<str>,
        reply: Reply<u64>,
    },
    /// Subscribe the connections of a user, or one connection, on behalf of a service. Answers how
    /// many there are.
    Grant {
        grant: Arc<Grant>,
        reply: Reply<u64>,
    },
    /// Revalidate every identity, after a revocation or a change of keys.
    RecheckIdentities,
    /// End every subscription that the rule refuses, after a change of rules.
    RecheckSubscriptions(SubscribeRule),
    /// A user joined or left a channel: notify the subscribers that watch its presence.
    PresenceChanged {
        channel: ChannelName,
        user: Arc<str>,
        joined: bool,
    },

    /// A page of history for a subscription in recovery.
    HistoryPage {
        subscription: SubscriptionRef,
        page: Result<Option<Page>>,
    },
    /// The verdicts of a filter on events that wait for a subscription, evaluated off the shard.
    FilterVerdicts {
        subscription: SubscriptionRef,
        batch: FilterBatch,
        verdicts: Result<Vec<Verdict>>,
    },
    /// The positions that a client's new subscriptions start from.
    PositionsFound {
        connection: ConnectionId,
        join: Box<PendingJoin>,
        found: Vec<Result<Lookup>>,
    },
    /// Compare the position of a channel, or of all channels, with the broker's: its last events may
    /// have been lost.
    CheckPositions(Option<ChannelName>),
    /// The broker's positions are known.
    PositionsChecked(Tops),
    /// The answer to a client's request is ready; replies keep the order of requests.
    Resume {
        connection: ConnectionId,
        then: Continuation,
    },

    /// Something that the server does for a connection by itself is ready; the client's requests do not
    /// wait for it.
    Continue {
        connection: ConnectionId,
        then: Continuation,
    },

    /// Close all connections on the departure's schedule.
    Drain(Arc<Departure>),
    /// End the shard's thread after this round.
    Stop,
}

impl ShardCommand {
    /// Its name in logs.
    pub(in crate::hub) fn name(&self) -> &'static str {
        match self {
            ShardCommand::Open(_) => "Open",
            ShardCommand::Receive { .. } => "Receive",
            ShardCommand::Upgrade { .. } => "Upgrade",
            ShardCommand::PipeDrained(_) => "PipeDrained",
            ShardCommand::PipeClosed(_) => "PipeClosed",
            ShardCommand::ListConnections { .. } => "ListConnections",
            ShardCommand::RankConnections { .. } => "RankConnections",
            ShardCommand::GetConnection { .. } => "GetConnection",
            ShardCommand::GetIdentity { .. } => "GetIdentity",
            ShardCommand::CountAudience { .. } => "CountAudience",
            ShardCommand::IsEmpty { .. } => "IsEmpty",
            ShardCommand::Disconnect { .. } => "Disconnect",
            ShardCommand::DisconnectUser { .. } => "DisconnectUser",
            ShardCommand::Grant { .. } => "Grant",
            ShardCommand::RecheckIdentities => "RecheckIdentities",
            ShardCommand::RecheckSubscriptions(_) => "RecheckSubscriptions",
            ShardCommand::PresenceChanged { .. } => "PresenceChanged",
            ShardCommand::HistoryPage { .. } => "HistoryPage",
            ShardCommand::FilterVerdicts { .. } => "FilterVerdicts",
            ShardCommand::PositionsFound { .. } => "PositionsFound",
            ShardCommand::CheckPositions(_) => "CheckPositions",
            ShardCommand::PositionsChecked(_) => "PositionsChecked",
            ShardCommand::Resume { .. } => "Resume",
            ShardCommand::Continue { .. } => "Continue",
            ShardCommand::Drain(_) => "Drain",
            ShardCommand::Stop => "Stop",
        }
    }

    /// The connection that the command concerns, if there is one.
    pub(in crate::hub) fn connection(&self) -> Option<ConnectionId> {
        match self {
            ShardCommand::Receive { connection, .. }
            | ShardCommand::Upgrade { connection, .. }
            | ShardCommand::PipeDrained(connection)
            | ShardCommand::PipeClosed(connection)
            | ShardCommand::GetConnection { connection, .. }
            | ShardCommand::GetIdentity { connection, .. }
            | ShardCommand::Disconnect { connection, .. }
            | ShardCommand::PositionsFound { connection, .. }
            | ShardCommand::Resume { connection, .. }
            | ShardCommand::Continue { connection, .. } => Some(*connection),
            ShardCommand::HistoryPage { subscription, .. }
            | ShardCommand::FilterVerdicts { subscription, .. } => Some(subscription.connection),
            ShardCommand::Open(_)
            | ShardCommand::ListConnections { .. }
            | ShardCommand::RankConnections { .. }
            | ShardCommand::CountAudience { .. }
            | ShardCommand::IsEmpty { .. }
            | ShardCommand::DisconnectUser { .. }
            | ShardCommand::Grant { .. }
            | ShardCommand::RecheckIdentities
            | ShardCommand::RecheckSubscriptions(_)
            | ShardCommand::PresenceChanged { .. }
            | ShardCommand::CheckPositions(_)
            | ShardCommand::PositionsChecked(_)
            | ShardCommand::Drain(_)
            | ShardCommand::Stop => None,
        }
    }
}

/// The name and the connection. Payloads, reasons and identities stay out of logs.
impl fmt::Debug for ShardCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self.connection() {
            Some(connection) => write!(f, "({connection})"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_names_the_connection_and_no_payload() {
        let connection = ConnectionId::new(3, 7, 11);
        let (reply, _receiver) = Reply::channel();
        let disconnect = ShardCommand::Disconnect {
            connection,
            reason: "secret reason".to_owned(),
            by: Arc::from("operator"),
            reply,
        };
        assert_eq!(
            format!("{disconnect:?}"),
            format!("Disconnect({connection})")
        );
        let receive = ShardCommand::Receive {
            connection,
            bytes: b"token".to_vec(),
            before: Box::new(|_| {}),
        };
        assert_eq!(format!("{receive:?}"), format!("Receive({connection})"));
        assert_eq!(format!("{:?}", ShardCommand::Stop), "Stop");
    }

    /// A command is sent for each drained pipe, so it must be a small allocation.
    #[test]
    fn command_is_small() {
        assert!(
            size_of::<ShardCommand>() <= 128,
            "{}",
            size_of::<ShardCommand>()
        );
    }

    #[tokio::test]
    async fn answer_without_receiver_is_dropped() {
        let (reply, receiver) = Reply::channel();
        reply.send(1);
        assert_eq!(receiver.await, Ok(1));
        let (reply, receiver) = Reply::channel();
        drop(receiver);
        reply.send(1);
    }
}
