//! The WebSocket below its dialects: the opening handshake, the frames (RFC 6455) and their
//! compression (RFC 7692). What the transports `ws` and `socketio` both stand on.

mod compression;
pub mod deflate;
pub mod frame;
pub mod handshake;
pub mod head;
mod prefixed_io;
mod reader;
mod socket;

pub use compression::Compression;
pub use prefixed_io::PrefixedIo;
pub use reader::{decode, read_messages};
pub use socket::{bare_socket, to_mio};
