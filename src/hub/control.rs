//! Typed queries and commands to the shards.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Hub;
use super::command::{Reply, ShardCommand};
use super::pipe::PipeOwner;
use super::queue::Inbound;
use super::shard::ConnectionInfo;
use super::shard::{
    ConnCtx, ConnectionPage, ConnectionQuery, Opening, RankQuery, Ranked, Ranking, TransportUpgrade,
};
use crate::auth::Identity;
use crate::clock::{Elapsed, timeout};
use crate::error::{Error, Result};
use crate::event::{Audience, ChannelPattern, ConnectionId, EventType};

/// How long a shard may take to answer a query.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

impl Hub {
    /// Hands a connection to a shard, which owns it from then on.
    pub fn open(&self, opening: Opening) {
        let turn = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.dispatcher.queues.len();
        self.send(turn, ShardCommand::Open(Box::new(opening)));
    }

    /// Sends a command to one shard.
    pub(in crate::hub) fn send(&self, shard: usize, command: ShardCommand) {
        if let Some(inbox) = self.dispatcher.queues.get(shard) {
            inbox.push(Inbound::Command(Box::new(command)));
        }
    }

    /// Sends a command to the shard of a connection.
    fn send_to(&self, connection: ConnectionId, command: ShardCommand) {
        self.send(usize::from(connection.shard()), command);
    }

    /// Queries a shard and waits for its answer.
    ///
    /// # Errors
    ///
    /// `unavailable` if there is no such shard, or it has stopped or is overloaded.
    pub(in crate::hub) async fn query<T>(
        &self,
        shard: usize,
        question: impl FnOnce(Reply<T>) -> ShardCommand,
    ) -> Result<T> {
        let (reply, answer) = Reply::channel();
        self.send(shard, question(reply));
        timeout(ANSWER_TIMEOUT, answer)
            .await
            .map_err(|Elapsed| Error::unavailable("the shard is too busy to answer"))?
            .map_err(|_| Error::unavailable("the server stops"))
    }

    /// One page of a shard's connections.
    ///
    /// # Errors
    ///
    /// `unavailable` if the shard has stopped.
    pub async fn list_connections(
        &self,
        shard: usize,
        query: ConnectionQuery,
    ) -> Result<ConnectionPage> {
        let question = |reply| ShardCommand::ListConnections { query, reply };
        self.query(shard, question).await
    }

    /// The first connections of a query, in its order. A shard looks at a part of its connections at a
    /// time, so that no client waits for it.
    ///
    /// # Errors
    /// `unavailable` where a shard has stopped.
    pub async fn rank_connections(&self, query: &RankQuery) -> Result<Vec<Ranked>> {
        let query = Arc::new(query.clone());
        let mut ranking = Ranking::new(&query);
        for shard in 0..self.dispatcher.queues.len() {
            let mut next = Some(0);
            while let Some(from) = next {
                let question = |reply| ShardCommand::RankConnections {
                    query: Arc::clone(&query),
                    from,
                    reply,
                };
                let (ranked, rest) = self.query(shard, question).await?;
                ranked.into_iter().for_each(|ranked| ranking.add(ranked));
                next = rest;
            }
        }
        Ok(ranking.into_vec())
    }

    /// One connection; `None` if it no longer exists.
    ///
    /// # Errors
    ///
    /// `unavailable` if the shard has stopped.
    pub async fn connection(&self, connection: ConnectionId) -> Result<Option<ConnectionInfo>> {
        let Some(shard) = self.shard_of(connection) else {
            return Ok(None);
        };
        let question = |reply| ShardCommand::GetConnection { connection, reply };
        self.query(shard, question).await
    }

    /// The shard of a connection; `None` for an id that this process never assigned.
    fn shard_of(&self, connection: ConnectionId) -> Option<usize> {
        Some(usize::from(connection.shard())).filter(|shard| *shard < self.dispatcher.queues.len())
    }

    /// Closes a connection on behalf of the operator `by`; true if it was open.
    ///
    /// # Errors
    /// `unavailable` if the shard has stopped.
    pub async fn disconnect(
        &self,
        connection: ConnectionId,
        reason: String,
        by: Arc<str>,
    ) -> Result<bool> {
        let Some(shard) = self.shard_of(connection) else {
            return Ok(false);
        };
        let command = |reply| ShardCommand::Disconnect {
            connection,
            reason,
            by,
            reply,
        };
        self.query(shard, command).await
    }

    /// The identity of a connection: anonymous until it has authenticated, `None` if it no longer
    /// exists.
    ///
    /// # Errors
    ///
    /// `unavailable` if the shard has stopped.
    pub async fn identity_of(&self, connection: ConnectionId) -> Result<Option<Arc<Identity>>> {
        let Some(shard) = self.shard_of(connection) else {
            return Ok(None);
        };
        let question = |reply| ShardCommand::GetIdentity { connection, reply };
        self.query(shard, question).await
    }

    /// Closes all connections of a user on behalf of the operator `by`; returns how many.
    ///
    /// # Errors
    ///
    /// `unavailable` if a shard has stopped.
    pub async fn disconnect_user(&self, user: &str, reason: &str, by: &Arc<str>) -> Result<u64> {
        let (user, reason): (Arc<str>, Arc<str>) = (Arc::from(user), Arc::from(reason));
        let mut count = 0;
        for shard in 0..self.dispatcher.queues.len() {
            let command = |reply| ShardCommand::DisconnectUser {
                user: Arc::clone(&user),
                reason: Arc::clone(&reason),
                by: Arc::clone(by),
                reply,
            };
            count += self.query(shard, command).await?;
        }
        Ok(count)
    }

    /// How many connections an audience includes now. Every connection is checked.
    ///
    /// # Errors
    /// `unavailable` if a shard has stopped.
    pub async fn count_included(
        &self,
        event_type: &EventType,
        audience: &Arc<Audience>,
    ) -> Result<u64> {
        let mut sum = 0;
        for shard in 0..self.dispatcher.queues.len() {
            let mut next = Some(0);
            while let Some(from) = next {
                let question = |reply| ShardCommand::CountAudience {
                    event_type: event_type.clone(),
                    audience: Arc::clone(audience),
                    from,
                    reply,
                };
                let (count, rest) = self.query(shard, question).await?;
                sum += count;
                next = rest;
            }
        }
        Ok(sum)
    }

    /// Ends every subscription that `rule` refuses, after a change of rules.
    pub fn check_rights(
        &self,
        rule: impl Fn(&Identity, &ChannelPattern, ConnectionId) -> Result<()> + Send + Sync + 'static,
    ) {
        let rule = Arc::new(rule);
        for shard in 0..self.dispatcher.queues.len() {
            self.send(shard, ShardCommand::RecheckSubscriptions(rule.clone()));
        }
    }

    /// Revalidates every identity, and closes with 4401 the connections whose identity is revoked
    /// or expired.
    pub fn check_identities(&self) {
        for shard in 0..self.dispatcher.queues.len() {
            self.send(shard, ShardCommand::RecheckIdentities);
        }
    }

    /// Passes bytes of a client that arrived outside its connection's IO; `before` runs before they
    /// are read. Both are dropped if the connection no longer exists or owns a socket by now.
    pub fn receive(
        &self,
        connection: ConnectionId,
        bytes: Vec<u8>,
        before: impl FnOnce(&mut ConnCtx<'_>) + Send + 'static,
    ) {
        let before = Box::new(before);
        let command = ShardCommand::Receive {
            connection,
            bytes,
            before,
        };
        self.send_to(connection, command);
    }

    /// Replaces the pipe of a connection with a socket. The socket is closed if the connection no
    /// longer exists.
    pub fn upgrade_transport(&self, connection: ConnectionId, upgrade: TransportUpgrade) {
        let upgrade = Box::new(upgrade);
        let command = ShardCommand::Upgrade {
            connection,
            upgrade,
        };
        self.send_to(connection, command);
    }
}

impl PipeOwner for Hub {
    fn pipe_drained(&self, connection: ConnectionId) {
        self.send_to(connection, ShardCommand::PipeDrained(connection));
    }

    fn pipe_closed(&self, connection: ConnectionId) {
        self.send_to(connection, ShardCommand::PipeClosed(connection));
    }
}
