//! Writes to connections: marks connections in a round, and performs the writes.
//!
//! A round marks each connection that gets something, and writes every marked one once at its end.
//! Sends of whole frames to plain sockets are batched into one system call.

use std::mem;
use std::sync::Arc;

use super::connections::Connections;
use super::send_batch::SendBatch;
use crate::hub::shard::chunk::Frame;
use crate::hub::shard::connection::Connection;
use crate::hub::shard::outbox::QueuePool;
use crate::telemetry::ShardMetrics;

/// Why a connection must be closed, recorded while connections are being traversed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PendingClose {
    /// The client disconnected.
    Gone,
    /// Its outbox is full.
    TooSlow,
}

/// Writes outboxes to links.
pub(super) struct Writer {
    /// Queues that outboxes borrow.
    pub(super) pool: QueuePool,
    /// Connections to be written at the end of the round.
    touched: Vec<u32>,
    /// Connections to be closed after the traversal.
    pending_close: Vec<(u32, PendingClose)>,
    send_batch: SendBatch,
    metrics: Arc<ShardMetrics>,
}

impl Writer {
    pub(super) fn new(io_uring: bool, metrics: Arc<ShardMetrics>) -> Self {
        Writer {
            pool: QueuePool::default(),
            touched: Vec::new(),
            pending_close: Vec::new(),
            send_batch: SendBatch::new(io_uring),
            metrics,
        }
    }

    /// Marks a connection to be written at the end of the round.
    pub(super) fn touch(&mut self, slot: u32, connection: &mut Connection) {
        touch(&mut self.touched, slot, connection);
    }

    /// Closes a connection after the traversal.
    pub(super) fn close_later(&mut self, slot: u32, reason: PendingClose) {
        self.pending_close.push((slot, reason));
    }

    /// True if no connection waits to be written or closed.
    pub(super) fn is_idle(&self) -> bool {
        self.touched.is_empty() && self.pending_close.is_empty()
    }

    /// The connections to be closed now.
    pub(super) fn take_pending_close(&mut self) -> Vec<(u32, PendingClose)> {
        mem::take(&mut self.pending_close)
    }

    /// Writes queued bytes, and counts them; false if the connection broke.
    pub(super) fn flush(&mut self, connection: &mut Connection) -> bool {
        flush(connection, &mut self.pool, &self.metrics)
    }

    /// Appends a frame to an outbox; `channel` as in
    /// [`Outbox::push`](crate::hub::shard::outbox::Outbox).
    pub(super) fn push(&mut self, connection: &mut Connection, frame: Frame, channel: Option<u32>) {
        connection.outbox.push(frame, channel, &mut self.pool);
    }

    /// Adds a frame that is sent to a socket without passing the outbox, which is empty.
    pub(super) fn send_directly(&mut self, slot: u32, frame: &Frame, channel: Option<u32>) {
        self.send_batch.add(slot, frame, channel);
    }

    /// True if [`Writer::submit_direct`] must be called before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.send_batch.is_full()
    }

    /// Sends the frames of [`Writer::send_directly`]. Bytes that a socket does not accept go into
    /// its connection's outbox, and are written again at the end of the round, which also detects a
    /// broken socket.
    pub(super) fn submit_direct(&mut self, connections: &mut Connections) {
        let Writer {
            pool,
            touched,
            send_batch,
            metrics,
            ..
        } = self;
        let mut bytes = 0;
        send_batch.submit(connections, |connections, sent| {
            bytes += sent.bytes;
            if sent.bytes == sent.frame.len() {
                return;
            }
            let Some(connection) = connections.get_mut(sent.slot) else {
                return;
            };
            let rest = sent.frame.len() - sent.bytes;
            connection.bytes_out -= u64::try_from(rest).unwrap_or(0);
            let frame = Arc::clone(sent.frame);
            connection.outbox.push(frame, sent.channel, pool);
            connection.outbox.advance(sent.bytes, pool);
            touch(touched, sent.slot, connection);
        });
        metrics.sent(u64::try_from(bytes).unwrap_or(0));
    }

    /// Writes every marked connection. Returns those with further work: they are in recovery, or
    /// closing.
    pub(super) fn flush_touched(&mut self, connections: &mut Connections) -> Vec<u32> {
        let touched = mem::take(&mut self.touched);
        let mut then = Vec::new();
        for slot in touched {
            let Some(connection) = connections.get_mut(slot) else {
                continue;
            };
            // Listed twice only if another connection had this slot a moment ago.
            if !mem::replace(&mut connection.flags.touched, false) {
                continue;
            }
            if connection.recoveries.is_some() || connection.ending.is_some() {
                then.push(slot);
            }
            if let Some(frame) = connection.outbox.whole()
                && connection.link.plain().is_some()
            {
                self.send_batch.add(slot, frame, None);
                if self.send_batch.is_full() {
                    self.submit_outboxes(connections);
                }
            } else if !self.flush(connection) {
                self.close_later(slot, PendingClose::Gone);
            }
        }
        self.submit_outboxes(connections);
        then
    }

    /// Sends the batched frames, which are still in their outboxes.
    fn submit_outboxes(&mut self, connections: &mut Connections) {
        let Writer {
            pool,
            pending_close,
            send_batch,
            metrics,
            ..
        } = self;
        let mut bytes = 0;
        send_batch.submit(connections, |connections, sent| {
            let Some(connection) = connections.get_mut(sent.slot) else {
                return;
            };
            let count = u64::try_from(sent.bytes).unwrap_or(0);
            bytes += count;
            connection.bytes_out += count;
            connection.outbox.advance(sent.bytes, pool);
            // Write once more if something is left: the poll is edge-triggered, so only a write
            // that would block makes it report the socket again; and a broken socket is detected.
            if !connection.outbox.is_empty() && !flush(connection, pool, metrics) {
                pending_close.push((sent.slot, PendingClose::Gone));
            }
        });
        metrics.sent(bytes);
    }
}

fn touch(touched: &mut Vec<u32>, slot: u32, connection: &mut Connection) {
    if !connection.flags.touched {
        connection.flags.touched = true;
        touched.push(slot);
    }
}

fn flush(connection: &mut Connection, pool: &mut QueuePool, metrics: &ShardMetrics) -> bool {
    let flushed = connection.link.flush(&mut connection.outbox, pool);
    let bytes = u64::try_from(flushed.bytes).unwrap_or(0);
    connection.bytes_out += bytes;
    metrics.sent(bytes);
    flushed.alive
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::hub::shard::chunk::Chunk;
    use crate::hub::shard::fixture::connection;

    fn writer() -> Writer {
        Writer::new(false, Arc::new(ShardMetrics::default()))
    }

    #[test]
    fn touched_connection_is_written_once_per_round() {
        let (mut writer, mut connections) = (writer(), Connections::new(0));
        let slot = connections.insert(connection(None));
        let one = connections.get_mut(slot).unwrap();
        for text in ["one", "two"] {
            writer.push(one, Chunk::plain(Bytes::from(text)), None);
            writer.touch(slot, one);
        }
        assert!(!writer.is_idle());
        assert!(writer.flush_touched(&mut connections).is_empty());
        assert!(writer.is_idle());
        let one = connections.get(slot).unwrap();
        assert_eq!((one.bytes_out, one.outbox.is_empty()), (6, true));
        assert!(!one.flags.touched);
    }

    #[test]
    fn connection_in_recovery_is_reported_after_its_write() {
        let (mut writer, mut connections) = (writer(), Connections::new(0));
        let slot = connections.insert(connection(None));
        let one = connections.get_mut(slot).unwrap();
        one.recoveries = Some(Box::default());
        writer.touch(slot, one);
        assert_eq!(writer.flush_touched(&mut connections), [slot]);
    }

    #[test]
    fn direct_send_without_socket_goes_to_the_outbox() {
        let (mut writer, mut connections) = (writer(), Connections::new(0));
        let slot = connections.insert(connection(None));
        let frame = Chunk::event(Bytes::from_static(b"event"), 1, 0);
        // Its sender counts these bytes in advance.
        connections.get_mut(slot).unwrap().bytes_out = 5;
        writer.send_directly(slot, &frame, Some(0));
        writer.submit_direct(&mut connections);
        let one = connections.get(slot).unwrap();
        assert_eq!((one.bytes_out, one.outbox.bytes()), (0, 5));
        assert!(!writer.is_idle(), "it is written at the end of the round");
        writer.flush_touched(&mut connections);
        assert_eq!(connections.get(slot).unwrap().bytes_out, 5);
    }
}
