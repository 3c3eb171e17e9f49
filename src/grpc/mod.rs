//! The gRPC services.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::session::Services;

/// Who calls are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrpcAuth {
    /// By token.
    Jwt,
    /// By having reached the listener.
    Trusted,
}

/// The peer's address, as a request extension.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub SocketAddr);

/// Tells health.
pub struct HealthHandle;

impl HealthHandle {
    /// Whether the services serve.
    pub async fn set_serving(&self, _: bool) {}
}

/// The routes.
pub fn routes(_: &Arc<Services>, _: GrpcAuth, _: usize) -> (axum::Router, HealthHandle) {
    (axum::Router::new(), HealthHandle)
}
