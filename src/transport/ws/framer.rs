//! Payloads in WebSocket frames.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::frame::{self, Opcode};
use crate::event::Event;
use crate::protocol::{Encoded, Encoder, MessageWriter};
use tidings_websocket::Compression;

/// An encoder with WebSocket framing.
pub(super) struct WsFramer {
    encoder: Arc<dyn Encoder>,
    compression: Compression,
}

impl WsFramer {
    /// Frames what this encoder writes, compressed as negotiated.
    pub(super) fn new(encoder: Arc<dyn Encoder>, compression: Compression) -> Self {
        WsFramer {
            encoder,
            compression,
        }
    }

    /// Whether payloads are bytes, not text.
    pub(super) fn is_binary(&self) -> bool {
        self.encoder.is_binary()
    }

    /// An event as a frame.
    pub(super) fn event(&self, event: &Event) -> Bytes {
        let size = self.encoder.event_size(event);
        if self.compression == Compression::Off {
            let mut out = frame::reserve(size);
            self.encoder.encode_event(&mut out, event);
            return frame::seal(out, self.opcode());
        }
        let mut out = BytesMut::with_capacity(size);
        self.encoder.encode_event(&mut out, event);
        self.compression.frame(self.opcode(), &out)
    }

    /// The same with `confirm`, if the codec has a form for that.
    pub(super) fn event_to_confirm(&self, event: &Event) -> Option<Bytes> {
        let mut out = BytesMut::with_capacity(self.encoder.event_size(event));
        let asks = self.encoder.encode_event_to_confirm(&mut out, event);
        asks.then(|| self.compression.frame(self.opcode(), &out))
    }

    /// Writes messages for one connection. They are not compressed: compressing each would cost more
    /// than it saves.
    pub(super) fn writer(&self) -> MessageWriter {
        let opcode = self.opcode();
        MessageWriter::new(Arc::clone(&self.encoder), move |payload: &Encoded<'_>| {
            frame::frame(opcode, false, payload.body)
        })
    }

    fn opcode(&self) -> Opcode {
        if self.is_binary() {
            Opcode::Binary
        } else {
            Opcode::Text
        }
    }
}
