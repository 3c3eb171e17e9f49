//! The WebSocket transport: the upgrade, the frames (RFC 6455, RFC 7692) and the dialects.

pub mod deflate;
mod endpoint;
pub mod frame;
pub mod handshake;
mod protocol;
mod tongues;
mod voice;

pub use endpoint::{Endpoint, WsSettings};
pub use tongues::Declared;

/// An event as a text frame of the dialect `tidings`, for `benches/parts.rs`.
#[cfg(feature = "parts")]
#[must_use]
pub fn event_frame(event: &crate::event::Event) -> bytes::Bytes {
    use std::sync::{Arc, LazyLock};
    static TIDINGS: LazyLock<voice::Framed> = LazyLock::new(|| {
        let dialect = Arc::new(crate::dialect::Words::tidings());
        voice::Framed::new(dialect, voice::Compression::Off)
    });
    TIDINGS.event(event)
}
