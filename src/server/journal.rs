//! Connections that come and go, in logs, traces and the audit log.

use std::sync::Arc;

use crate::audit::{Audit, Record, What};
use crate::bus::{End, Observer, Seen};
use crate::telemetry::Tracing;

/// Notes each connection's beginning and end, under its id.
pub(super) struct Journal {
    pub(super) tracing: Arc<Tracing>,
    pub(super) audit: Arc<Audit>,
}

/// The record of a connection.
fn of(connection: Seen<'_>) -> Record<'_> {
    let identity = connection.identity;
    Record {
        connection: Some(connection.id),
        user: identity.and_then(|i| i.user()).map(|user| &**user),
        roles: identity.map_or(&[], |identity| identity.roles()),
        address: Some(connection.address),
        transport: Some(connection.transport),
        ..Record::default()
    }
}

impl Observer for Journal {
    fn opened(&self, connection: Seen<'_>) {
        let (id, address) = (connection.id, connection.address);
        tracing::debug!(connection_id = %id, %address, "connected");
        self.audit.note(What::Connect, &of(connection));
    }

    fn closed(&self, connection: Seen<'_>, end: End<'_>) {
        let (id, code) = (connection.id, end.code.number());
        let span = self.tracing.disconnect(id, code, None);
        let (trace_id, span_id) = (span.trace_id(), span.span_id());
        let user = connection.identity.and_then(|i| i.user());
        tracing::debug!(connection_id = %id, ?user, code, trace_id, span_id, "disconnected");
        let record = Record {
            close: Some(code),
            reason: (!end.reason.is_empty()).then_some(end.reason),
            by: Some(end.by),
            ..of(connection)
        };
        self.audit.note(What::Disconnect, &record);
    }
}
