//! A dialect in frames of the WebSocket.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::deflate::{DeflateParams, Deflater};
use super::frame::{self, Opcode};
use crate::dialect::{Dialect, Message, Voice};
use crate::event::Event;

/// Payloads below this many bytes are not worth compressing.
const WORTH_COMPRESSING: usize = 96;
/// The window that frames for all clients are made with.
const FULL_WINDOW: u8 = 15;

thread_local! {
    // One for all connections of a shard: no message leaves anything behind in it.
    static DEFLATER: RefCell<Deflater> = RefCell::default();
}

/// What was agreed about compression, as far as frames differ for it. Each is a dialect of its
/// own to the bus, so that a compressed frame is made once and shared too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// None.
    Off,
    /// permessage-deflate with the full window.
    Full,
    /// permessage-deflate with a window of 512 bytes or more: what is longer goes uncompressed.
    Small,
}

impl Compression {
    /// What a client and the server have agreed.
    #[must_use]
    pub(super) fn of(params: Option<DeflateParams>) -> Self {
        match params {
            None => Compression::Off,
            Some(params) if params.server_window_bits == FULL_WINDOW => Compression::Full,
            Some(_) => Compression::Small,
        }
    }

    /// What messages of the client are read with.
    pub(super) fn params(self) -> Option<DeflateParams> {
        match self {
            Compression::Off => None,
            Compression::Full => Some(DeflateParams {
                server_window_bits: FULL_WINDOW,
            }),
            Compression::Small => Some(DeflateParams {
                server_window_bits: 9,
            }),
        }
    }

    /// The message as one frame, compressed where that is agreed and pays.
    pub(super) fn frame(self, opcode: Opcode, payload: &[u8]) -> Bytes {
        let plain = || frame::frame(opcode, false, payload);
        let Some(params) = self.params() else {
            return plain();
        };
        if payload.len() < WORTH_COMPRESSING || params.window_for(payload.len()) != FULL_WINDOW {
            return plain();
        }
        let compressed = DEFLATER.with_borrow_mut(|d| d.compress(opcode, payload, FULL_WINDOW));
        compressed.unwrap_or_else(plain)
    }
}

/// A dialect in frames.
pub(super) struct Framed {
    dialect: Arc<dyn Dialect>,
    compression: Compression,
}

impl Framed {
    /// The dialect in frames, compressed as agreed.
    pub(super) fn new(dialect: Arc<dyn Dialect>, compression: Compression) -> Self {
        Framed {
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

impl Voice for Framed {
    fn dialect(&self) -> &dyn Dialect {
        &*self.dialect
    }

    /// Replies differ from client to client: compressing each would cost more than it saves.
    fn pack(&self, message: &Message<'_>) -> Bytes {
        frame::frame(self.opcode(), false, message.body)
    }
}
