//! Tidings: a real-time event server. Back ends publish over gRPC, browsers receive over WebSocket,
//! and both use one in-process hub.
//!
//! `ARCHITECTURE.md` lists the layers and their order. `docs/reference/protocol.md` describes what clients
//! see.

pub mod admin;
pub mod api;
pub mod audit;
pub mod auth;
pub mod broker;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod error;
pub mod event;
pub mod fair_queue;
pub mod filter;
pub mod hooks;
pub mod hub;
pub mod lifecycle;
pub mod maybe_ready;
pub mod net;
pub mod outbound;
pub mod protocol;
pub mod server;
pub mod session;
pub mod sources;
pub mod telemetry;
pub mod transport;
pub mod webhooks;

/// The messages and clients of `proto/tidings/v1`, shared with the Rust client.
pub mod proto {
    pub use tidings_client::proto::*;

    /// The compiled schema, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("tidings");
}
