//! Notifications of connections, of channels that gain or lose their subscribers, and of presence.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Identity;
use crate::error::CloseCode;
use crate::event::{ChannelName, ConnectionId};
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
    /// What it has used.
    pub totals: Totals,
}

/// What a connection has used in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// How long it was open.
    pub open_for: Duration,
    /// Events delivered to it.
    pub delivered: u64,
    /// Events dropped because it was slow.
    pub dropped: u64,
    /// Bytes received from it.
    pub bytes_in: u64,
    /// Bytes passed to its socket or stream.
    pub bytes_out: u64,
}

/// Observes connections, occupancy and presence. Each method is called on a shard's thread, or by a
/// message of another node, and must not wait. No lock is held, so calls for one channel from two
/// threads may come in either order: the tables of the hub say how things are.
pub trait Observer: Send + Sync {
    /// A connection was opened.
    fn opened(&self, connection: Seen<'_>);
    /// A connection that had no identity was authenticated.
    fn identified(&self, _: Seen<'_>) {}
    /// A connection was closed.
    fn closed(&self, connection: Seen<'_>, end: End<'_>);
    /// A channel has gained its first subscription on this node, or lost its last.
    fn occupancy(&self, _: &ChannelName, _occupied: bool) {}
    /// A user has joined a channel with presence for the first time, or left it for the last time,
    /// over all nodes.
    fn presence(&self, _: &ChannelName, _: &Arc<str>, _joined: bool) {}
}

/// No observer.
impl Observer for () {
    fn opened(&self, _: Seen<'_>) {}

    fn closed(&self, _: Seen<'_>, _: End<'_>) {}
}
