//! Tidings: a real-time event server. Backend services publish over gRPC, browsers receive over
//! WebSocket, and both hang on one in-process bus.
//!
//! `ARCHITECTURE.md` names the rooms and their order; `docs/protocol.md` is what clients see.

pub mod admin;
pub mod audit;
pub mod auth;
pub mod broker;
pub mod bus;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dialect;
pub mod error;
pub mod event;
pub mod expression;
pub mod forwarded;
pub mod grpc;
pub mod http;
pub mod lifecycle;
pub mod maybe_ready;
pub mod origin;
pub mod problem;
pub mod server;
pub mod session;
pub mod socketio;
pub mod telemetry;
pub mod timeout_io;
pub mod turns;
pub mod wire;
pub mod ws;

/// The messages and clients of `proto/tidings/v1`, the same that other programs use.
pub mod proto {
    pub use tidings_client::proto::*;

    /// The compiled schema, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("tidings");
}
