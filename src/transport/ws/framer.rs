//! A dialect in frames of the WebSocket.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::frame::{self, Opcode};
use crate::event::Event;
use crate::protocol::{Dialect, Framer, Message};
use tidings_websocket::Compression;

/// A dialect in frames.
pub(super) struct WsFramer {
    dialect: Arc<dyn Dialect>,
    compression: Compression,
}

impl WsFramer {
    /// The dialect in frames, compressed as agreed.
    pub(super) fn new(dialect: Arc<dyn Dialect>, compression: Compression) -> Self {
        WsFramer {
            dialect,
            compression,
        }
    }

    /// An event as a frame.
    pub(super) fn event(&self, event: &Event) -> Bytes {
        let size = self.dialect.event_size(event);
        if self.compression == Compression::Off {
            let mut out = frame::reserve(size);
            self.dialect.event(&mut out, event);
            return frame::seal(out, self.opcode());
        }
        let mut out = BytesMut::with_capacity(size);
        self.dialect.event(&mut out, event);
        self.compression.frame(self.opcode(), &out)
    }

    /// The same with the question to confirm it, if the dialect has words for that.
    pub(super) fn event_to_confirm(&self, event: &Event) -> Option<Bytes> {
        let mut out = BytesMut::with_capacity(self.dialect.event_size(event));
        let asks = self.dialect.event_to_confirm(&mut out, event);
        asks.then(|| self.compression.frame(self.opcode(), &out))
    }

    fn opcode(&self) -> Opcode {
        if self.dialect.is_binary() {
            Opcode::Binary
        } else {
            Opcode::Text
        }
    }
}

impl Framer for WsFramer {
    fn dialect(&self) -> &dyn Dialect {
        &*self.dialect
    }

    /// Replies differ from client to client: compressing each would cost more than it saves.
    fn pack(&self, message: &Message<'_>) -> Bytes {
        frame::frame(self.opcode(), false, message.body)
    }
}
