//! The WebSocket transport: the upgrade and the dialects.

mod endpoint;
mod protocol;
mod tongues;
mod voice;

use crate::wire::{frame, handshake};

pub use endpoint::{Admitted, Endpoint, WsSettings};
pub use tongues::Declared;

/// An event as a text frame of the dialect `tidings`, for `benches/parts.rs`.
#[cfg(feature = "parts")]
#[must_use]
pub fn event_frame(event: &crate::event::Event) -> bytes::Bytes {
    use std::sync::{Arc, LazyLock};
    static TIDINGS: LazyLock<voice::Framed> = LazyLock::new(|| {
        let dialect = Arc::new(crate::dialect::Words::tidings());
        voice::Framed::new(dialect, crate::wire::Compression::Off)
    });
    TIDINGS.event(event)
}
