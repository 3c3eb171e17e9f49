//! The cluster of one node.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Answer, Cluster, ConnectionsPage, ConnectionsQuery, Control, NodeInfo, Place, Query, Survey, To,
};
use crate::error::Result;
use crate::event::{NodeId, Timestamp};
use crate::hub::{ConnectionInfo, ConnectionQuery, Grant, Hub, RankQuery, Ranked};
use crate::maybe_ready::MaybeReady;

/// A server that is not in a cluster: every answer comes from its own hub.
pub struct Local {
    hub: Arc<Hub>,
    started: Timestamp,
}

impl Local {
    /// The cluster of this hub alone.
    #[must_use]
    pub fn new(hub: Arc<Hub>) -> Self {
        Local {
            hub,
            started: Timestamp::now(),
        }
    }

    fn is_me(&self, to: To) -> bool {
        match to {
            To::All => true,
            To::Node(node) => node == self.node(),
        }
    }
}

impl Cluster for Local {
    fn node(&self) -> NodeId {
        self.hub.node()
    }

    fn nodes(&self) -> Vec<NodeId> {
        vec![self.node()]
    }

    fn describe(&self) -> Vec<NodeInfo> {
        let stats = self.hub.metrics().snapshot();
        vec![NodeInfo {
            number: self.node(),
            name: stats.node,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started,
            connections: stats.connections.now,
            leaving: false,
            heard: Duration::ZERO,
            round_trip: None,
        }]
    }

    fn notify(&self, to: To, control: Control) -> MaybeReady<u64> {
        if !self.is_me(to) {
            return MaybeReady::ok(0);
        }
        let hub = Arc::clone(&self.hub);
        match control {
            Control::Disconnect {
                connection,
                reason,
                by,
            } => MaybeReady::later(async move {
                let closed = hub.disconnect(connection, reason, by).await?;
                Ok(u64::from(closed))
            }),
            Control::DisconnectUser { user, reason, by } => {
                MaybeReady::later(async move { hub.disconnect_user(&user, &reason, &by).await })
            }
            Control::Grant(grant) => {
                MaybeReady::later(async move { hub.grant(Grant::clone(&grant)).await })
            }
            Control::Revoked => {
                hub.check_identities();
                MaybeReady::ok(0)
            }
            Control::Presence {
                channel,
                user,
                joined,
            } => {
                hub.notify_presence(&channel, &user, joined);
                MaybeReady::ok(0)
            }
        }
    }

    fn survey(&self, to: To, query: Query, _: Duration) -> MaybeReady<Survey> {
        if !self.is_me(to) {
            return MaybeReady::ok(Survey::default());
        }
        let node = self.node();
        answer(&self.hub, query).then(move |answer| {
            Ok(Survey {
                answers: vec![(node, answer?)],
                unreachable: Vec::new(),
            })
        })
    }
}

/// The hub's answer: from its counters and tables at once, from its shards later.
fn answer(hub: &Arc<Hub>, query: Query) -> MaybeReady<Answer> {
    match query {
        Query::Stats => MaybeReady::ok(Answer::Stats(Box::new(hub.metrics().snapshot()))),
        Query::Connections(query) => {
            let hub = Arc::clone(hub);
            MaybeReady::later(async move {
                let page = connections(&hub, query).await?;
                Ok(Answer::Connections(page))
            })
        }
        Query::Ranked(query) => {
            let hub = Arc::clone(hub);
            MaybeReady::later(async move { Ok(Answer::Ranked(ranked(&hub, &query).await?)) })
        }
        Query::Connection(id) => {
            let hub = Arc::clone(hub);
            MaybeReady::later(async move {
                let found = hub.connection(id).await?;
                Ok(Answer::Connection(found.map(Box::new)))
            })
        }
        Query::Identity(id) => {
            let hub = Arc::clone(hub);
            MaybeReady::later(async move { Ok(Answer::Identity(hub.identity_of(id).await?)) })
        }
        Query::Channels {
            prefix,
            after,
            limit,
        } => {
            let followed = hub.routes().list(&prefix, &after, limit);
            MaybeReady::ok(Answer::Channels(followed))
        }
        Query::Presence { channel, limit } => {
            MaybeReady::ok(Answer::Presence(hub.present(&channel, limit)))
        }
    }
}

/// A page of connections over the shards of a hub.
async fn connections(hub: &Hub, query: ConnectionsQuery) -> Result<ConnectionsPage> {
    let ConnectionsQuery {
        filter,
        from: Place { shard, slot },
        limit,
        bytes,
    } = query;
    let (mut shard, mut slot) = (shard, slot);
    let mut found = ConnectionsPage::default();
    while shard < hub.shards() {
        let query = ConnectionQuery {
            filter: filter.clone(),
            from: slot,
            limit: limit.saturating_sub(found.connections.len()),
            bytes: bytes.saturating_sub(found.bytes),
        };
        let page = hub.list_connections(shard, query).await?;
        found.connections.extend(page.connections);
        found.bytes = found.bytes.saturating_add(page.bytes);
        (shard, slot) = page.next.map_or((shard + 1, 0), |next| (shard, next));
        found.is_full = page.full;
        if (page.full || found.connections.len() >= limit) && shard < hub.shards() {
            found.next = Some(Place { shard, slot });
            break;
        }
    }
    Ok(found)
}

/// The first connections in an order. One that closes meanwhile is left out.
async fn ranked(hub: &Hub, query: &RankQuery) -> Result<Vec<(Ranked, ConnectionInfo)>> {
    let mut found = Vec::new();
    for ranked in hub.rank_connections(query).await? {
        if let Some(connection) = hub.connection(ranked.id).await? {
            found.push((ranked, connection));
        }
    }
    Ok(found)
}
