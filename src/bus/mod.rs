//! The fan-out: from a publisher to many connections.
//!
//! The [`Hub`] knows which shards want a channel; a [`Shard`] is one thread that owns its
//! connections; a [`Protocol`] is what a transport supplies. See `ARCHITECTURE.md`.

mod chunk;
mod connection;
mod delivery;
mod dialect_ids;
pub mod filter;
mod filter_numbers;
pub mod filter_store;
mod filter_table;
mod hub;
mod inbox;
mod judge;
mod link;
mod meter;
mod observer;
mod outbox;
mod pipe;
mod presence;
mod protocol;
mod route;
pub mod server_text;
mod shard;
mod shard_cell;
mod shed;
mod slots;
mod sync;
mod visibility;

pub use connection::{Client, ConnectionInfo};
pub use delivery::DialectId;
pub use dialect_ids::DialectIds;
pub use hub::{ConnectionPermit, FilterLimits, Hub, Settings, TypeRoles};
pub use inbox::INBOX_BYTES;
pub use link::Link;
pub use observer::{End, Observer, Seen};
pub use pipe::{Pipe, PipeReader, Piped, Shareable};
pub use presence::Present;
pub use protocol::{Joined, Notice, Protocol, Refused};
pub use shard::REPLAY_BYTES;
#[cfg(feature = "parts")]
pub use shard::parts;
pub use shard::{
    Arrived, ConnCtx, ConnectionFilter, ConnectionPage, Join, JoinRequest, Opening, Shard,
    TransportUpgrade,
};
pub use visibility::may_see;
