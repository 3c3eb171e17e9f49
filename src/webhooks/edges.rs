//! The bounded queue from the shards to the recorder.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::event::{Connection, Ended, EventKind, Fact, What};
use crate::event::{ChannelName, Timestamp};
use crate::hub::{End, Observer, Seen};
use crate::telemetry::Metrics;

/// The most edges that wait. At most 120 MiB, if every token has 100 roles, and a few MiB otherwise;
/// part of the server's memory bound.
pub(super) const QUEUED: usize = 65_536;

/// Something that a shard has seen.
#[derive(Debug)]
pub(super) enum Edge {
    /// It happened. For occupancy and presence, a state that may have changed again since.
    Fact(Fact),
    /// A channel's occupancy on another node has changed.
    Elsewhere(ChannelName, bool),
    /// The server stops: nothing follows.
    Close,
}

/// The hub's observer for webhooks. Puts edges into the queue without waiting; edges that find no
/// room are counted, and the recorder compares everything with the hub's tables.
pub struct Edges {
    sender: SyncSender<Edge>,
    overflowed: AtomicBool,
    closing: AtomicBool,
    connections: bool,
    channels: bool,
    presence: bool,
    /// Whether connections without a token are anonymous users.
    anonymous: AtomicBool,
    metrics: Arc<Metrics>,
}

/// The other end of the queue.
pub struct EdgesReceiver {
    pub(super) receiver: Receiver<Edge>,
    edges: Arc<Edges>,
}

/// A queue for the edges of these kinds.
#[must_use]
pub fn channel(kinds: &[EventKind], metrics: &Arc<Metrics>) -> (Arc<Edges>, EdgesReceiver) {
    let (sender, receiver) = sync_channel(QUEUED);
    let any = |of: [EventKind; 2]| kinds.iter().any(|kind| of.contains(kind));
    let edges = Arc::new(Edges {
        sender,
        overflowed: AtomicBool::new(false),
        closing: AtomicBool::new(false),
        connections: any([EventKind::ConnectionOpened, EventKind::ConnectionClosed]),
        channels: any([EventKind::ChannelOccupied, EventKind::ChannelVacated]),
        presence: any([EventKind::PresenceJoined, EventKind::PresenceLeft]),
        anonymous: AtomicBool::new(false),
        metrics: Arc::clone(metrics),
    });
    let receiver = EdgesReceiver {
        receiver,
        edges: Arc::clone(&edges),
    };
    (edges, receiver)
}

impl EdgesReceiver {
    pub(super) fn edges(&self) -> &Arc<Edges> {
        &self.edges
    }
}

impl Edges {
    /// Whether a connection without a token is an anonymous user, and no connection that has not
    /// authenticated yet.
    pub fn set_anonymous(&self, allowed: bool) {
        self.anonymous.store(allowed, Ordering::Relaxed);
    }

    /// A channel's occupancy on another node has changed.
    pub fn occupancy_elsewhere(&self, channel: &ChannelName, occupied: bool) {
        if self.channels {
            self.put(Edge::Elsewhere(channel.clone(), occupied));
        }
    }

    pub(super) fn allows_anonymous(&self) -> bool {
        self.anonymous.load(Ordering::Relaxed)
    }

    pub(super) fn wants_connections(&self) -> bool {
        self.connections
    }

    pub(super) fn wants_channels(&self) -> bool {
        self.channels
    }

    pub(super) fn wants_presence(&self) -> bool {
        self.presence
    }

    /// True once after edges were lost.
    pub(super) fn take_overflow(&self) -> bool {
        self.overflowed.swap(false, Ordering::AcqRel)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Nothing follows. If the queue is full, the recorder finds the flag.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.sender.try_send(Edge::Close).ok();
    }

    fn put(&self, edge: Edge) {
        if self.sender.try_send(edge).is_err() && !self.is_closing() {
            self.metrics.webhook_edge_lost();
            self.overflowed.store(true, Ordering::Release);
        }
    }

    fn fact(&self, what: What) {
        let at = Timestamp::now();
        self.put(Edge::Fact(Fact { what, at }));
    }
}

fn facts(seen: Seen<'_>) -> Box<Connection> {
    Box::new(Connection {
        id: seen.id,
        user: seen.identity.and_then(|identity| identity.user().cloned()),
        roles: seen
            .identity
            .map_or_else(Vec::new, |identity| identity.roles().to_vec()),
        address: Some(seen.address),
        transport: seen.transport.as_str(),
    })
}

impl Observer for Edges {
    /// A connection with an identity is reported when the identity was validated, by
    /// [`Observer::identified`].
    fn opened(&self, seen: Seen<'_>) {
        let is_anonymous = seen.identity.is_none() && self.anonymous.load(Ordering::Relaxed);
        if self.connections && is_anonymous {
            self.fact(What::Opened(facts(seen)));
        }
    }

    fn identified(&self, seen: Seen<'_>) {
        if self.connections {
            self.fact(What::Opened(facts(seen)));
        }
    }

    fn closed(&self, seen: Seen<'_>, end: End<'_>) {
        if !self.connections {
            return;
        }
        let ended = Box::new(Ended {
            code: end.code.number(),
            reason: end.reason.into(),
            by: end.by.into(),
            totals: Some(end.totals),
        });
        self.fact(What::Closed(facts(seen), ended));
    }

    fn occupancy(&self, channel: &ChannelName, occupied: bool) {
        if self.channels {
            let channel = channel.clone();
            self.fact(if occupied {
                What::Occupied(channel)
            } else {
                What::Vacated(channel)
            });
        }
    }

    fn presence(&self, channel: &ChannelName, user: &Arc<str>, joined: bool) {
        if self.presence {
            let (channel, user) = (channel.clone(), Arc::clone(user));
            self.fact(if joined {
                What::Joined(channel, user)
            } else {
                What::Left(channel, user)
            });
        }
    }
}
