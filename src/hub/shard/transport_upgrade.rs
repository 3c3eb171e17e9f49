//! Transport upgrade: a connection moves from a pipe to a socket.
//!
//! Its subscriptions and counters stay, and queued frames go first to the new socket. The shard
//! does it between two events, so none is lost or duplicated.

use std::sync::Arc;

use bytes::Bytes;

use super::Shard;
use crate::event::ConnectionId;
use crate::hub::command::Continuation;
use crate::hub::dialect_ids::DialectId;
use crate::hub::protocol::Protocol;
use crate::hub::shard::chunk::Chunk;
use crate::hub::shard::connection::Connection;
use crate::hub::shard::connection_io::Link;
use crate::hub::shard::outbox::QueuePool;

/// Encodes queued frames of the old dialect for the new one, and returns the new protocol.
type Translate = Box<dyn FnOnce(DialectId, Vec<Bytes>) -> (Arc<dyn Protocol>, Bytes) + Send>;

/// The new IO of a connection.
pub struct TransportUpgrade {
    /// The socket.
    pub link: Link,
    /// Bytes that were already read from it.
    pub early: Vec<u8>,
    /// Makes the new protocol, of the same transport, and the queued messages in its dialect.
    pub translate: Translate,
}

impl Shard {
    /// Decodes bytes that arrived outside the connection's IO. Ignored if the connection has a
    /// socket, whose bytes they would interleave with.
    pub(in crate::hub) fn receive_from(
        &mut self,
        id: ConnectionId,
        mut bytes: Vec<u8>,
        before: Continuation,
    ) {
        let Some(slot) = self.connections.find(id) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.ending.is_some() || !matches!(connection.link, Link::Pipe(_)) {
            return;
        }
        let count = u64::try_from(bytes.len()).unwrap_or(0);
        connection.last_seen = self.time.now;
        connection.bytes_in += count;
        self.hub.metrics().received(count);
        before(&mut super::ConnCtx::new(self, slot));
        self.receive(slot, &mut bytes);
    }

    /// Replaces a connection's pipe by a socket.
    pub(in crate::hub) fn upgrade_transport(
        &mut self,
        id: ConnectionId,
        upgrade: TransportUpgrade,
    ) {
        let Some(slot) = self.connections.find(id) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.ending.is_some() || connection.flags.pending_close {
            return;
        }
        let TransportUpgrade {
            link,
            mut early,
            translate,
        } = upgrade;
        let Some(waiting) = what_waits(connection, &mut self.writer.pool) else {
            return;
        };
        let (protocol, bytes) = translate(connection.dialect, waiting);
        connection.link = link;
        connection.dialect = protocol.dialect();
        connection.protocol = protocol;
        // An incomplete message of the old transport: the rest will never arrive.
        connection.partial = None;
        connection.last_seen = self.time.now;
        if !bytes.is_empty() {
            self.writer.push(connection, Chunk::plain(bytes), None);
        }
        self.writer.touch(slot, connection);
        if !self.watch_socket(slot) {
            self.remove(slot);
            return;
        }
        if !early.is_empty() {
            self.receive(slot, &mut early);
        }
        // The poll does not report bytes that TLS has decrypted already.
        self.read(slot);
    }
}

/// Takes everything that the client has not received yet, in order; `None` if the connection has a
/// socket.
fn what_waits(connection: &mut Connection, pool: &mut QueuePool) -> Option<Vec<Bytes>> {
    let Link::Pipe(pipe) = &connection.link else {
        return None;
    };
    let mut waiting = Vec::from(pipe.detach());
    while let Some(frame) = connection.outbox.first() {
        let bytes = frame.bytes().clone();
        connection.outbox.advance(bytes.len(), pool);
        waiting.push(bytes);
    }
    Some(waiting)
}
