//! Connections that come and go, in logs and traces.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::bus::Observer;
use crate::error::CloseCode;
use crate::event::ConnectionId;
use crate::telemetry::Tracing;

/// Notes each connection's beginning and end, under its id.
pub(super) struct Journal {
    pub(super) tracing: Arc<Tracing>,
}

impl Observer for Journal {
    fn opened(&self, id: ConnectionId, address: SocketAddr) {
        tracing::debug!(connection_id = %id, %address, "connected");
    }

    fn closed(&self, id: ConnectionId, user: Option<&str>, code: CloseCode) {
        let span = self.tracing.disconnect(id, code.number(), None);
        let trace_id = span.trace_id();
        tracing::debug!(connection_id = %id, ?user, code = code.number(), trace_id, "disconnected");
    }
}
