//! The client's half of RFC 6455, for load generators and tests: it asks for a WebSocket, reads a
//! server's frames where they lie, and masks its own. It takes no fragments and no compression.

pub mod frame;
pub mod handshake;
