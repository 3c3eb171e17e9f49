//! Notifications of opened and closed connections.

use std::net::SocketAddr;

use crate::auth::Identity;
use crate::error::CloseCode;
use crate::event::ConnectionId;
use crate::telemetry::Transport;

/// A connection, as observers see it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Its id.
    pub id: ConnectionId,
    /// Where it comes from.
    pub address: SocketAddr,
    /// How it is connected.
    pub transport: Transport,
    /// Its identity; `None` until it has authenticated, where that is required.
    pub identity: Option<&'a Identity>,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// The close code.
    pub code: CloseCode,
    /// Why.
    pub reason: &'a str,
    /// Who ended it: `client`, `server`, or an operator's name.
    pub by: &'a str,
}

/// Hears of connections that come and go.
pub trait Observer: Send + Sync {
    /// A connection has come.
    fn opened(&self, connection: Seen<'_>);
    /// A connection has gone.
    fn closed(&self, connection: Seen<'_>, end: End<'_>);
}

/// Nobody is notified.
impl Observer for () {
    fn opened(&self, _: Seen<'_>) {}

    fn closed(&self, _: Seen<'_>, _: End<'_>) {}
}
