//! The WebSocket transport: the upgrade, the frames (RFC 6455, RFC 7692) and the dialects.

mod arguments;
mod cloud_events;
mod commands;
pub mod deflate;
mod endpoint;
pub mod frame;
pub mod handshake;
mod messages;
mod protocol;
mod receive;

#[cfg(feature = "fuzzing")]
pub use arguments::read_all as read_arguments;
pub use endpoint::{Endpoint, WsSettings};

/// An event as a text frame of the dialect `tidings`, for `benches/parts.rs`.
#[cfg(feature = "parts")]
#[must_use]
pub fn event_frame(event: &crate::event::Event) -> bytes::Bytes {
    messages::event_frame(event)
}
