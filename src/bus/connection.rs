//! One client, as its shard keeps it.

use std::any::Any;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use super::delivery::DialectId;
use super::link::Link;
use super::outbox::Outbox;
use super::protocol::Protocol;
use crate::auth::Identity;
use crate::error::CloseCode;
use crate::event::{ConnectionId, Epoch, Event, Position, Timestamp};
use crate::telemetry::Transport;

/// What a client said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Such as `gui` or `mobile`.
    pub kind: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

/// A connection, as far as others may know it.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// Its id.
    pub id: ConnectionId,
    /// The token's user; `None` for anonymous ones.
    pub user: Option<Arc<str>>,
    /// The token's roles.
    pub roles: Vec<Arc<str>>,
    /// `websocket`, `socketio`, `sse` or `grpc`.
    pub transport: &'static str,
    /// What it said of itself.
    pub client: Option<Client>,
    /// Its network address.
    pub address: SocketAddr,
    /// When it came.
    pub connected_at: Timestamp,
    /// When it was last heard of.
    pub last_seen_at: Timestamp,
    /// What it follows, with where it stands.
    pub subscriptions: Vec<(String, Option<Position>)>,
    /// Events handed to it.
    pub delivered: u64,
    /// Events it lost for being slow.
    pub dropped: u64,
    /// Bytes received from it.
    pub bytes_in: u64,
    /// Bytes handed to its socket or stream.
    pub bytes_out: u64,
    /// Bytes waiting for it.
    pub outbox_bytes: usize,
    /// Round trip of the last answered Ping, in microseconds; 0 before the first.
    pub round_trip_us: u32,
}

/// A connection. Everything that only some need at a time is behind a pointer that is empty
/// otherwise: an idle connection must cost little. What every delivery touches stands first and
/// together (`repr(C)` keeps the order): of thousands of connections none is in a cache.
#[repr(C)]
pub(super) struct Connection {
    pub(super) outbox: Outbox,
    pub(super) link: Link,
    pub(super) flags: Flags,
    pub(super) dialect: DialectId,
    pub(super) transport: Transport,
    /// The number of the run that it got something of last, and which of its events it got: so
    /// that two subscriptions give an event once.
    pub(super) last_run: u64,
    pub(super) answered: u64,
    #[expect(clippy::box_collection, reason = "eight bytes where there is nothing")]
    pub(super) catch_ups: Option<Box<Vec<CatchUp>>>,
    pub(super) ending: Option<Box<Ending>>,
    pub(super) delivered: u64,
    pub(super) bytes_out: u64,
    pub(super) protocol: Arc<dyn Protocol>,
    /// `None` until it has shown a token, where one is required.
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) nonce: u64,
    pub(super) client: Option<Box<Client>>,
    /// Bytes that came but are not a whole message yet.
    #[expect(clippy::box_collection, reason = "eight bytes where there is nothing")]
    pub(super) partial: Option<Box<Vec<u8>>>,
    /// What the protocol keeps between two reads.
    pub(super) state: Option<Box<dyn Any + Send>>,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) connected_at: Timestamp,
    /// Milliseconds on the shard's clock.
    pub(super) last_seen: u64,
    pub(super) last_ping: u64,
    /// When its timer will ring; entries of the timer queue for other times are stale.
    pub(super) timer: u64,
    /// When the message rate allows the next one (virtual scheduling), in microseconds.
    pub(super) next_message: u64,
    pub(super) bytes_in: u64,
    pub(super) dropped: u32,
    pub(super) round_trip_us: u32,
    pub(super) address: SocketAddr,
    pub(super) refused_messages: u16,
}

/// Small facts about a connection.
#[derive(Debug, Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, one byte each"
)]
pub(super) struct Flags {
    /// An answer is being made elsewhere; what comes in waits.
    pub(super) busy: bool,
    /// Already on the list of those to flush.
    pub(super) touched: bool,
    /// There may be something to read that was put off.
    pub(super) unread: bool,
    /// The expiry of the token was announced.
    pub(super) expiry_told: bool,
    /// Counted among the connections of its user.
    pub(super) seated: bool,
    /// The client has shut its side: what is left must be read to its end.
    pub(super) peer_closed: bool,
    /// On the list of those whose catching up goes on.
    pub(super) hungry: bool,
    /// About to be closed for being too slow: something that it had to get found no room, so
    /// nothing that comes behind it may reach it either.
    pub(super) doomed: bool,
}

/// What one connection follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscription {
    /// The topic's place in the shard.
    pub(super) topic: u32,
    /// The subscriber's place in the topic.
    pub(super) at: u32,
    /// Counted among those present.
    pub(super) present: bool,
    /// Tells it from every other subscription that the shard has seen.
    pub(super) serial: u32,
}

/// A subscription that reads history before it goes live.
#[derive(Debug)]
pub(super) struct CatchUp {
    pub(super) topic: u32,
    /// The subscription's.
    pub(super) serial: u32,
    pub(super) epoch: Epoch,
    /// The last offset that was sent.
    pub(super) after: u64,
    /// Events that are read but not sent.
    pub(super) waiting: VecDeque<Arc<Event>>,
    /// A page is being read elsewhere.
    pub(super) reading: bool,
}

/// A connection that is being closed.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) code: CloseCode,
    pub(super) reason: String,
    /// The operator who ended it.
    pub(super) by: Option<Box<str>>,
    /// When it is dropped even if the client has not answered.
    pub(super) deadline: u64,
    /// Our side is shut.
    pub(super) finished: bool,
    /// Bytes that came since, and were not looked at.
    pub(super) unread: usize,
}

impl CatchUp {
    pub(super) fn behind(topic: u32, serial: u32, after: Position) -> Self {
        CatchUp {
            topic,
            serial,
            epoch: after.epoch,
            after: after.offset,
            waiting: VecDeque::new(),
            reading: false,
        }
    }
}

impl Connection {
    /// How it follows a topic, if it does.
    pub(super) fn subscription(&self, topic: u32) -> Option<&Subscription> {
        self.subscriptions.iter().find(|s| s.topic == topic)
    }

    /// True if nothing but writing is left to do once it has got an event.
    pub(super) fn is_plain(&self) -> bool {
        !self.flags.touched && self.catch_ups.is_none() && self.ending.is_none()
    }

    /// True if what it gets can go to its socket as it is: nothing waits before it.
    pub(super) fn takes_at_once(&self) -> bool {
        self.outbox.is_empty() && self.link.plain().is_some()
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.identity.as_ref()?.user().map(|user| &**user)
    }

    pub(super) fn roles(&self) -> &[Arc<str>] {
        self.identity
            .as_ref()
            .map_or(&[], |identity| identity.roles())
    }

    pub(super) fn client_kind(&self) -> &str {
        self.client
            .as_ref()
            .map_or("unknown", |client| &client.kind)
    }
}
