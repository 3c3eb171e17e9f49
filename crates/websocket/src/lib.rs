//! WebSocket without a protocol above it: the opening handshake, the frames (RFC 6455) and their
//! compression (RFC 7692). It knows no events and no sessions.

pub mod client;
mod close_code;
mod compression;
pub mod deflate;
pub mod frame;
pub mod handshake;
pub mod head;

pub use close_code::CloseCode;
pub use compression::Compression;
