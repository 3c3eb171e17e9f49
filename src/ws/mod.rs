//! The WebSocket transport.

pub mod deflate;
pub mod frame;
pub mod handshake;
