//! The Socket.IO transport: Engine.IO 4 by long polling and WebSocket, Socket.IO 5 on top.
//!
//! An Engine.IO connection is a connection of the hub like any other; it is in one namespace at a time.
//! Over a WebSocket its shard owns the socket; while it polls, its packets wait in a pipe for the next
//! request. The upgrade from polling to a WebSocket changes only the connection's link. An event is
//! encoded as a packet once for all connections in the namespace.

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
