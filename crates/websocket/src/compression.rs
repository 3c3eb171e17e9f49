//! The negotiated compression, as far as frames differ by it.

use std::cell::RefCell;

use bytes::Bytes;

use super::deflate::{DeflateParams, Deflater};
use super::frame::{self, Opcode};

/// Payloads below this many bytes are not worth compressing.
const WORTH_COMPRESSING: usize = 96;
/// The window of frames that all clients can inflate.
const FULL_WINDOW: u8 = 15;

thread_local! {
    // One for all connections of a thread: no state is kept between messages.
    static DEFLATER: RefCell<Deflater> = RefCell::default();
}

/// The negotiated compression, as far as frames differ by it. To the hub each is a dialect of its
/// own, so that a compressed frame is made once and shared too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// None.
    Off,
    /// permessage-deflate with the full window.
    Full,
    /// permessage-deflate with a window of 512 bytes or more: longer messages are sent
    /// uncompressed.
    Small,
}

impl Compression {
    /// The compression that a client and the server have negotiated.
    #[must_use]
    pub fn of(params: Option<DeflateParams>) -> Self {
        match params {
            None => Compression::Off,
            Some(params) if params.server_window_bits == FULL_WINDOW => Compression::Full,
            Some(_) => Compression::Small,
        }
    }

    /// The same as parameters of the codec.
    #[must_use]
    pub fn params(self) -> Option<DeflateParams> {
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

    /// The message as one frame, compressed if that was negotiated and is worthwhile.
    #[must_use]
    pub fn frame(self, opcode: Opcode, payload: &[u8]) -> Bytes {
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
