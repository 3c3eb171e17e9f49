//! An observer that records opened and closed connections in logs, traces and the audit log, and
//! hands everything to webhooks and the end of connections to hooks.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde_json::json;

use crate::audit::{Audit, Record, What};
use crate::event::{ChannelName, Payload};
use crate::hooks::{Client, HookType, Hooks, Question};
use crate::hub::{End, Observer, Seen};
use crate::telemetry::Tracing;
use crate::webhooks::Edges;

/// Records when each connection opens and closes, under its id.
pub(super) struct LoggingObserver {
    pub(super) tracing: Arc<Tracing>,
    pub(super) audit: Arc<Audit>,
    /// The application is told of closed connections, if it asks for that.
    pub(super) hooks: Arc<ArcSwapOption<Hooks>>,
    /// Reports them to the application, if webhooks are configured.
    pub(super) webhooks: Option<Arc<Edges>>,
}

/// The audit record of a connection.
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

/// The user of a connection. A `&str`, so that anonymous users leave no field in the log line. A
/// string is logged in quotes, with control characters escaped.
fn user(connection: Seen<'_>) -> Option<&str> {
    let user = connection.identity.and_then(|i| i.user());
    user.map(|user| &**user)
}

/// Why a connection closed, if a reason was given.
fn reason(end: End<'_>) -> Option<&str> {
    (!end.reason.is_empty()).then_some(end.reason)
}

impl LoggingObserver {
    /// Tells the application that a connection has closed. Connections that never had an identity are
    /// left out: the application has not admitted them.
    fn tell(&self, connection: Seen<'_>, end: End<'_>) {
        let hooks = self.hooks.load();
        let hooks = hooks
            .as_ref()
            .filter(|hooks| hooks.asks(HookType::Disconnected));
        let (Some(hooks), Some(identity)) = (hooks, connection.identity) else {
            return;
        };
        let code = end.code.number();
        let data = json!({ "code": code, "reason": reason(end), "by": end.by });
        let client = Client {
            id: Some(connection.id),
            identity: Some(Arc::clone(identity)),
            transport: connection.transport.as_str(),
            address: connection.address,
            client_type: connection.client_type.map(Box::from),
            headers: connection.forwarded.cloned(),
        };
        hooks.tell(Question {
            data: Payload::new(data.to_string().into(), "").ok(),
            ..Question::new(HookType::Disconnected, client)
        });
    }
}

impl Observer for LoggingObserver {
    fn opened(&self, connection: Seen<'_>) {
        let (id, address) = (connection.id, connection.address);
        let user = user(connection);
        let transport = connection.transport.as_str();
        tracing::debug!(connection_id = %id, user, %address, transport, "connected");
        self.audit.note(What::Connect, &of(connection));
        if let Some(webhooks) = &self.webhooks {
            webhooks.opened(connection);
        }
    }

    fn identified(&self, connection: Seen<'_>) {
        if let Some(webhooks) = &self.webhooks {
            webhooks.identified(connection);
        }
    }

    fn closed(&self, connection: Seen<'_>, end: End<'_>) {
        let (id, code) = (connection.id, end.code.number());
        let span = self.tracing.disconnect(id, code, None);
        let (trace_id, span_id) = (span.trace_id(), span.span_id());
        let (user, address) = (user(connection), connection.address);
        let (transport, reason) = (connection.transport.as_str(), reason(end));
        tracing::debug!(
            connection_id = %id, user, %address, transport, code, reason, by = end.by,
            trace_id, span_id, "disconnected"
        );
        let record = Record {
            close: Some(code),
            reason,
            by: Some(end.by),
            ..of(connection)
        };
        self.audit.note(What::Disconnect, &record);
        self.tell(connection, end);
        if let Some(webhooks) = &self.webhooks {
            webhooks.closed(connection, end);
        }
    }

    fn occupancy(&self, channel: &ChannelName, occupied: bool) {
        if let Some(webhooks) = &self.webhooks {
            webhooks.occupancy(channel, occupied);
        }
    }

    fn presence(&self, channel: &ChannelName, user: &Arc<str>, joined: bool) {
        if let Some(webhooks) = &self.webhooks {
            webhooks.presence(channel, user, joined);
        }
    }
}
