//! The WebSocket transport: the upgrade, and codecs in frames.

mod codec_registry;
mod endpoint;
mod framer;
mod protocol;

use tidings_websocket::{frame, handshake};

pub use codec_registry::Declared;
pub use endpoint::{Admitted, Endpoint, WsSettings};

/// An event as a text frame of the dialect `tidings`, for `benches/parts.rs`.
#[cfg(feature = "parts")]
#[must_use]
pub fn event_frame(event: &crate::event::Event) -> bytes::Bytes {
    use std::sync::{Arc, LazyLock};
    static TIDINGS: LazyLock<framer::WsFramer> = LazyLock::new(|| {
        let encoder = Arc::new(crate::protocol::JsonCodec::tidings());
        framer::WsFramer::new(encoder, tidings_websocket::Compression::Off)
    });
    TIDINGS.event(event)
}
