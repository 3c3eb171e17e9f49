//! Executes a shard's commands, and returns late answers as commands.

use std::sync::Arc;

use super::{ConnCtx, Shard};
use crate::event::ConnectionId;
use crate::hub::command::{Continuation, ShardCommand};
use crate::hub::queue::Inbound;

/// Identifies one subscription of one connection while an answer for it is computed off the shard.
#[derive(Debug, Clone, Copy)]
pub(in crate::hub) struct SubscriptionRef {
    pub(in crate::hub) connection: ConnectionId,
    /// The topic's slot.
    pub(super) topic: u32,
    /// Distinguishes it from a later subscription of the same connection to the same topic.
    pub(super) serial: u32,
}

impl Shard {
    /// Executes one command.
    pub(super) fn execute(&mut self, command: ShardCommand) {
        tracing::trace!(shard = self.index, ?command, "execute");
        match command {
            ShardCommand::Open(opening) => self.open(*opening),
            ShardCommand::Receive {
                connection,
                bytes,
                before,
            } => self.receive_from(connection, bytes, before),
            ShardCommand::Upgrade {
                connection,
                upgrade,
            } => self.upgrade_transport(connection, *upgrade),
            ShardCommand::PipeDrained(connection) => self.pipe_drained(connection),
            ShardCommand::PipeClosed(connection) => self.pipe_closed(connection),
            ShardCommand::HistoryPage { subscription, page } => {
                self.history_page(subscription, page);
            }
            ShardCommand::FilterVerdicts {
                subscription,
                batch,
                verdicts,
            } => self.filter_verdicts(subscription, &batch, verdicts),
            ShardCommand::PositionsFound {
                connection,
                join,
                found,
            } => self.resume(
                connection,
                Box::new(move |cx| {
                    let slot = cx.slot();
                    cx.shard().finish_join(slot, *join, found);
                }),
            ),
            ShardCommand::Resume { connection, then } => self.resume(connection, then),
            ShardCommand::Continue { connection, then } => self.carry_on(connection, then),
            ShardCommand::CheckPositions(channel) => self.check_positions(channel.as_ref()),
            ShardCommand::PositionsChecked(tops) => self.take_tops(tops),
            ShardCommand::RecheckIdentities => self.check_identities(),
            ShardCommand::RecheckSubscriptions(rule) => self.check_all_rights(&*rule),
            ShardCommand::PresenceChanged {
                channel,
                user,
                joined,
            } => self.notify_presence(&channel, &user, joined),
            ShardCommand::Drain(departure) => self.begin_drain(departure),
            ShardCommand::Stop => self.stop(),
            ShardCommand::ListConnections { query, reply } => reply.send(self.list(&query)),
            ShardCommand::RankConnections { query, from, reply } => {
                reply.send(self.rank(&query, from));
            }
            ShardCommand::GetConnection { connection, reply } => {
                reply.send(self.connection_info(connection));
            }
            ShardCommand::GetIdentity { connection, reply } => {
                reply.send(self.identity_of(connection));
            }
            ShardCommand::CountAudience {
                event_type,
                audience,
                from,
                reply,
            } => reply.send(self.count_included(&event_type, &audience, from)),
            ShardCommand::IsEmpty { reply } => reply.send(self.has_no_connections()),
            ShardCommand::Disconnect {
                connection,
                reason,
                by,
                reply,
            } => reply.send(self.disconnect(connection, &reason, &by)),
            ShardCommand::DisconnectUser {
                user,
                reason,
                by,
                reply,
            } => reply.send(self.disconnect_user(&user, &reason, &by)),
            ShardCommand::Grant { grant, reply } => reply.send(self.grant(&grant)),
        }
    }

    /// Continues a request of a client, with the messages that waited behind it. Nothing happens if
    /// the connection no longer exists or is closing.
    fn resume(&mut self, id: ConnectionId, then: Continuation) {
        let Some(slot) = self.connections.find(id) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        connection.flags.busy = false;
        if connection.ending.is_some() {
            return;
        }
        then(&mut ConnCtx::new(self, slot));
        self.receive_again(slot);
    }

    /// Continues what the server does for a connection by itself.
    fn carry_on(&mut self, id: ConnectionId, then: Continuation) {
        let Some(slot) = self.connections.find(id) else {
            return;
        };
        let is_open = |c: &super::connection::Connection| c.ending.is_none();
        if self.connections.get(slot).is_some_and(is_open) {
            then(&mut ConnCtx::new(self, slot));
        }
    }

    /// Stops reading from a client until [`Shard::resume`]: replies keep the order of requests.
    pub(super) fn set_busy(&mut self, slot: u32) {
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.flags.busy = true;
        }
    }

    /// Runs a future on the runtime. Its result comes back as a command.
    pub(super) fn send_later(&self, answer: impl Future<Output = ShardCommand> + Send + 'static) {
        let inbox = Arc::clone(&self.inbox);
        self.hub.spawn(async move {
            let command = answer.await;
            inbox.push(Inbound::Command(Box::new(command)));
        });
    }
}
