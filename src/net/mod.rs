//! The layer below HTTP: client addresses, origins, and IO wrappers for sockets.

pub(crate) mod accepted;
pub mod forwarded;
pub(crate) mod host;
pub mod origin;
mod prefixed_io;
pub(crate) mod stall_timeout;
pub(crate) mod subject;
pub mod timeout_io;
mod upgraded;

pub use prefixed_io::PrefixedIo;
pub use upgraded::{bare_socket, to_mio};
