//! The Socket.IO transport: Engine.IO 4 by long polling and WebSocket, Socket.IO 5 on top.
//!
//! An Engine.IO connection is a connection on the bus like any other; it is in one namespace at a
//! time. Over a WebSocket its shard owns the socket; while it polls, its packets wait in a pipe
//! for the next request. Going from one to the other changes how the shard reaches
//! the client and nothing else. An event is one packet, made once for everyone in
//! the namespace.

mod admission;
mod connect;
mod endpoint;
mod failure;
mod namespace_set;
mod packet;
mod packing;
mod polling;
mod protocol;
mod query;
mod sessions;
mod state;
mod upgrade;

#[cfg(feature = "fuzzing")]
pub use packet::read_all as read_packets;

pub use endpoint::{Endpoint, SocketIoDialect, SocketIoSettings};
