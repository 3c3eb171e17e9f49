//! The layer below HTTP: listeners, the limits of their sockets, client addresses, origins, and IO
//! wrappers for sockets.

pub(crate) mod accepted;
pub(crate) mod descriptors;
mod evictions;
pub mod forwarded;
pub(crate) mod host;
pub(crate) mod listen;
pub mod origin;
mod prefixed_io;
pub(crate) mod socket_limiter;
pub(crate) mod stall_timeout;
pub(crate) mod subject;
pub mod timeout_io;
pub(crate) mod tls;
mod upgraded;

pub use prefixed_io::PrefixedIo;
pub use upgraded::{bare_socket, to_mio};
