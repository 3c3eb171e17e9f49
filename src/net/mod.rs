//! Connections below HTTP: whose they are, from which page, and the IO that they are read through.

pub mod forwarded;
pub mod origin;
mod prefixed_io;
pub mod timeout_io;
mod upgraded;

pub use prefixed_io::PrefixedIo;
pub use upgraded::{bare_socket, to_mio};
