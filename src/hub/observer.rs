//! Notifications of opened and closed connections.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::auth::Identity;
use crate::error::CloseCode;
use crate::event::ConnectionId;
use crate::outbound::ForwardedHeaders;
use crate::telemetry::Transport;

/// A connection, as observers see it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Its id.
    pub id: ConnectionId,
    /// Its network address.
    pub address: SocketAddr,
    /// Its transport.
    pub transport: Transport,
    /// Its identity; `None` until it has authenticated, if that is required.
    pub identity: Option<&'a Arc<Identity>>,
    /// The client type that it registered.
    pub client_type: Option<&'a str>,
    /// The headers of its request that are forwarded to the application.
    pub forwarded: Option<&'a Arc<ForwardedHeaders>>,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// The close code.
    pub code: CloseCode,
    /// The reason.
    pub reason: &'a str,
    /// Who ended it: `client`, `server`, or an operator's name.
    pub by: &'a str,
}

/// Observes opened and closed connections.
pub trait Observer: Send + Sync {
    /// A connection was opened.
    fn opened(&self, connection: Seen<'_>);
    /// A connection was closed.
    fn closed(&self, connection: Seen<'_>, end: End<'_>);
}

/// No observer.
impl Observer for () {
    fn opened(&self, _: Seen<'_>) {}

    fn closed(&self, _: Seen<'_>, _: End<'_>) {}
}
