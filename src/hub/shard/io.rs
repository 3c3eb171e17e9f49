//! Reading from clients and writing to them.

use std::mem;

use bytes::Bytes;
use mio::event::Event;

use super::writer::PendingClose;
use super::{ConnCtx, Shard};
use crate::event::ConnectionId;
use crate::hub::protocol::Notice;
use crate::hub::shard::chunk::Chunk;
use crate::hub::shard::connection::Connection;
use crate::hub::shard::connection_io::{Got, Link};

/// Reads from one socket before others get their turn.
const READS: usize = 8;
/// How many bytes of a closing connection are read and discarded. Unread bytes would make the
/// kernel reset the connection before the client has read the close frame.
const MAX_UNREAD: usize = 1 << 20;
/// The read buffer of a shard, for all of its sockets.
const SCRATCH: usize = 64 * 1024;

/// The reader's state of a shard.
pub(super) struct Reader {
    scratch: Vec<u8>,
    /// Sockets with more to read, after others had their turn.
    pub(super) unread: Vec<u32>,
}

impl Reader {
    pub(super) fn new() -> Self {
        Reader {
            scratch: vec![0; SCRATCH],
            unread: Vec::new(),
        }
    }
}

impl Shard {
    /// A socket is readable, writable, or both.
    pub(super) fn socket_ready(&mut self, slot: u32, event: &Event) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        connection.flags.peer_closed |= event.is_read_closed();
        if event.is_writable() {
            self.writer.touch(slot, connection);
        }
        if event.is_readable() || event.is_read_closed() {
            self.read(slot);
        }
    }

    /// Reads sockets that had more to read in the last round.
    pub(super) fn read_the_rest(&mut self) {
        for slot in mem::take(&mut self.reader.unread) {
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.flags.unread = false;
                self.read(slot);
            }
        }
    }

    /// Reads a client's bytes and passes them to its protocol.
    pub(super) fn read(&mut self, slot: u32) {
        for _ in 0..READS {
            let Some(connection) = self.connections.get_mut(slot) else {
                return;
            };
            if connection.flags.busy {
                // Reading continues when the pending answer is ready.
                return;
            }
            let mut scratch = mem::take(&mut self.reader.scratch);
            let got = connection.link.read(&mut scratch);
            let more = match got {
                Got::Bytes(count) => {
                    connection.last_seen = self.time.now;
                    connection.bytes_in += u64::try_from(count).unwrap_or(0);
                    self.hub
                        .metrics()
                        .received(u64::try_from(count).unwrap_or(0));
                    match &mut connection.ending {
                        None => self.receive(slot, scratch.get_mut(..count).unwrap_or_default()),
                        Some(ending) => {
                            ending.unread = ending.unread.saturating_add(count);
                            if ending.unread > MAX_UNREAD {
                                self.writer.close_later(slot, PendingClose::Gone);
                            }
                        }
                    }
                    // Edge-triggered: a short read has emptied the socket, except for its end.
                    count == scratch.len() || self.reads_on(slot)
                }
                Got::Nothing => false,
                Got::End => {
                    self.writer.close_later(slot, PendingClose::Gone);
                    false
                }
            };
            self.reader.scratch = scratch;
            if !more {
                return;
            }
        }
        if let Some(connection) = self.connections.get_mut(slot)
            && !connection.flags.unread
        {
            connection.flags.unread = true;
            self.reader.unread.push(slot);
        }
    }

    fn reads_on(&self, slot: u32) -> bool {
        let connection = self.connections.get(slot);
        connection.is_some_and(|c| c.flags.peer_closed || matches!(c.link, Link::Tls(..)))
    }

    /// Decodes new bytes of a client, after those of an incomplete message.
    pub(super) fn receive(&mut self, slot: u32, fresh: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        match connection.partial.take() {
            None => {
                let done = self.interpret(slot, fresh);
                self.keep_rest(slot, fresh.get(done..).unwrap_or_default(), None);
            }
            Some(mut partial) => {
                partial.extend_from_slice(fresh);
                let done = self.interpret(slot, &mut partial);
                if done == partial.len() {
                    return;
                }
                partial.drain(..done);
                self.keep_rest(slot, &[], Some(partial));
            }
        }
    }

    /// Continues with messages that waited for an answer.
    pub(super) fn receive_again(&mut self, slot: u32) {
        if self
            .connections
            .get(slot)
            .is_some_and(|c| c.partial.is_some())
        {
            self.receive(slot, &mut []);
        }
        let idle = self.connections.get(slot).is_some_and(|c| !c.flags.busy);
        if idle {
            self.read(slot);
        }
    }

    fn interpret(&mut self, slot: u32, input: &mut [u8]) -> usize {
        let Some(connection) = self.connections.get(slot) else {
            return input.len();
        };
        let protocol = std::sync::Arc::clone(&connection.protocol);
        let len = input.len();
        protocol
            .received(&mut ConnCtx::new(self, slot), input)
            .min(len)
    }

    #[expect(clippy::box_collection, reason = "it goes back to where it was")]
    fn keep_rest(&mut self, slot: u32, rest: &[u8], buffer: Option<Box<Vec<u8>>>) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let known = buffer.as_deref().map_or(rest, Vec::as_slice);
        if known.is_empty() || connection.ending.is_some() {
            return;
        }
        let mut buffer = buffer.unwrap_or_default();
        buffer.extend_from_slice(rest);
        connection.partial = Some(buffer);
    }

    /// Puts a reply or a notice into an outbox. It may exceed the limit for events by a quarter. A
    /// client whose outbox is full even then sends requests without reading the replies, and is
    /// closed.
    pub(super) fn put(&mut self, slot: u32, bytes: Bytes) {
        let limit = self.settings.outbox_bytes;
        let limit = limit.saturating_add(limit / 4);
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.ending.is_some() || connection.flags.pending_close || bytes.is_empty() {
            return;
        }
        let full = |connection: &Connection| {
            !connection.outbox.is_empty()
                && connection.outbox.bytes().saturating_add(bytes.len()) > limit
        };
        // The outbox may be full only because this round has not been written yet.
        if full(connection) && self.writer.flush(connection) && full(connection) {
            connection.flags.pending_close = true;
            self.writer.close_later(slot, PendingClose::TooSlow);
            return;
        }
        self.writer.push(connection, Chunk::plain(bytes), None);
        self.writer.touch(slot, connection);
    }

    /// Sends a notice to one connection, if its dialect has it.
    pub(super) fn notify(&mut self, slot: u32, notice: &Notice<'_>) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        if let Some(bytes) = connection.protocol.notice(notice) {
            self.put(slot, bytes);
        }
    }

    /// The reader of a pipe has made room.
    pub(in crate::hub) fn pipe_drained(&mut self, id: ConnectionId) {
        if let Some(slot) = self.connections.find(id)
            && let Some(connection) = self.connections.get_mut(slot)
        {
            connection.last_seen = self.time.now;
            self.writer.touch(slot, connection);
        }
    }

    /// The reader of a pipe was dropped.
    pub(in crate::hub) fn pipe_closed(&mut self, id: ConnectionId) {
        if let Some(slot) = self.connections.find(id) {
            self.writer.close_later(slot, PendingClose::Gone);
        }
    }

    /// Writes every touched connection.
    pub(super) fn flush_touched(&mut self) {
        for slot in self.writer.flush_touched(&mut self.connections) {
            self.flushed(slot);
        }
    }

    /// After a write: continues recovery, or finishes closing.
    fn flushed(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let below = connection.outbox.bytes() < self.settings.outbox_bytes / 2;
        if below && connection.recoveries.is_some() {
            self.recovery.schedule(slot, connection);
        }
        let sent = connection.outbox.is_empty() && !connection.link.wants_write();
        if connection.ending.is_some() && sent {
            self.finish(slot);
        }
    }
}
