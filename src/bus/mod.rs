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
mod home;
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
mod shard;
mod shed;
mod slots;
mod sync;
mod visibility;
pub mod wording;

pub use connection::{Client, ConnectionInfo};
pub use delivery::DialectId;
pub use dialect_ids::DialectIds;
pub use hub::{FilterLimits, Hub, Seat, Settings, TypeRoles};
pub use link::Link;
pub use observer::{End, Observer, Seen};
pub use pipe::{Pipe, PipeReader, Piped, Shareable};
pub use presence::Present;
pub use protocol::{Joined, Notice, Protocol, Refused};
#[cfg(feature = "parts")]
pub use shard::parts;
pub use shard::{
    Arrived, ConnectionFilter, ConnectionPage, Crossing, Cx, Join, JoinRequest, Opening, Shard,
};
pub use visibility::may_see;
