//! The state of one client on its shard.

use std::any::Any;
use std::collections::VecDeque;
use std::mem;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::connection_io::Link;
use super::outbox::Outbox;
use crate::auth::Identity;
use crate::error::CloseCode;
use crate::event::{ConnectionId, Epoch, Event, Position, Timestamp};
use crate::hub::dialect_ids::DialectId;
use crate::hub::evaluator::Verdict;
use crate::hub::filter_budget::{Meter, MeterSlot};
use crate::hub::observer::Seen;
use crate::hub::protocol::Protocol;
use crate::outbound::ForwardedHeaders;
use crate::telemetry::Transport;

/// A client's registered type and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Such as `gui` or `mobile`.
    pub kind: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

/// A connection, as shown to operators.
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
    /// The name of its node.
    pub node: Arc<str>,
    /// Its registered type and name.
    pub client: Option<Client>,
    /// Its network address.
    pub address: SocketAddr,
    /// When it was opened.
    pub connected_at: Timestamp,
    /// When the last bytes were received.
    pub last_seen_at: Timestamp,
    /// Its subscriptions with their positions; only the first ones if there are very many.
    pub subscriptions: Vec<SubscriptionInfo>,
    /// The number of its subscriptions.
    pub subscription_count: usize,
    /// Events delivered to it.
    pub delivered: u64,
    /// Events dropped because it was slow.
    pub dropped: u64,
    /// Bytes received from it.
    pub bytes_in: u64,
    /// Bytes passed to its socket or stream.
    pub bytes_out: u64,
    /// Bytes queued for it.
    pub outbox_bytes: usize,
    /// Round trip of the last answered Ping, in microseconds; 0 before the first.
    pub round_trip_us: u32,
    /// What its request said of the client.
    pub request: Option<Arc<RequestFacts>>,
    /// The codec.
    pub dialect: Box<str>,
    /// Whether what is sent to it is compressed.
    pub is_compressed: bool,
    /// When its token expires.
    pub expires_at: Option<Timestamp>,
    /// Messages that it sent, in all.
    pub messages_in: u64,
    /// How many of them a rate limit refused.
    pub rate_limited: u64,
    /// The names of its token's claims.
    pub claims: Vec<String>,
}

/// A subscription of a connection, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionInfo {
    /// The channel or pattern.
    pub channel: String,
    /// Where it stands.
    pub position: Option<Position>,
    /// Its filter, in CEL; empty where it has none.
    pub filter: String,
    /// The event types that it gets; empty for all.
    pub event_types: Vec<String>,
    /// False while it catches up from history.
    pub is_live: bool,
}

/// What the request that opened a connection said of the client. Clients choose both texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct RequestFacts {
    /// `User-Agent`, at most 256 bytes; empty without one.
    pub user_agent: Box<str>,
    /// `Origin`, at most 256 bytes; empty without one.
    pub origin: Box<str>,
}

/// A connection. Everything that only some connections need is behind a pointer that is otherwise
/// empty, because an idle connection must cost little. The fields used by every delivery come first
/// and together (`repr(C)` keeps the order): with thousands of connections none of them is in a
/// cache.
#[repr(C)]
pub(super) struct Connection {
    pub(super) outbox: Outbox,
    pub(super) link: Link,
    pub(super) flags: Flags,
    pub(super) dialect: DialectId,
    pub(super) round_trip_us: u32,
    /// The number of the last batch of which it got events, and which of them, so that two
    /// subscriptions deliver an event only once.
    pub(super) last_batch: u64,
    pub(super) covered: u64,
    #[expect(clippy::box_collection, reason = "eight bytes if it is empty")]
    pub(super) recoveries: Option<Box<Vec<RecoveryState>>>,
    pub(super) ending: Option<Box<Ending>>,
    pub(super) delivered: u64,
    pub(super) bytes_out: u64,
    pub(super) protocol: Arc<dyn Protocol>,
    /// `None` until it has presented a token, if one is required.
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) nonce: u64,
    /// Received bytes of an incomplete message.
    #[expect(clippy::box_collection, reason = "eight bytes if it is empty")]
    pub(super) partial: Option<Box<Vec<u8>>>,
    pub(super) cold: Option<Box<ColdState>>,
    pub(super) subscriptions: Subscriptions,
    /// Milliseconds since the shard started, including stalls.
    pub(super) connected_at: u64,
    /// Milliseconds on the shard's clock.
    pub(super) last_seen: u64,
    pub(super) last_ping: u64,
    /// When its timer fires; entries of the timer queue with other times are stale.
    pub(super) timer: u64,
    /// When the message rate allows the next one (virtual scheduling), in microseconds.
    pub(super) next_message: u64,
    pub(super) bytes_in: u64,
    pub(super) address: Address,
    pub(super) dropped: u32,
    pub(super) refused_messages: u16,
    pub(super) transport: Transport,
    /// It has presented a token that could not be judged, or not yet.
    pub(super) unjudged: bool,
}

/// State that few connections have.
#[derive(Default)]
pub(super) struct ColdState {
    pub(super) client: Option<Client>,
    /// The protocol's state between two reads.
    pub(super) state: Option<Box<dyn Any + Send>>,
    /// The meter of its filters, once it has one.
    pub(super) meter: MeterSlot,
    /// What its request said; shared by all connections whose requests said the same.
    pub(super) request: Option<Arc<RequestFacts>>,
    /// The headers of its request that are forwarded to the application.
    pub(super) forwarded: Option<Arc<ForwardedHeaders>>,
    /// Messages that it sent.
    pub(super) messages_in: u64,
    /// Messages that a rate limit refused.
    pub(super) rate_limited: u64,
}

impl ColdState {
    /// True if nothing is kept that has to outlive a read.
    fn is_idle(&self) -> bool {
        self.client.is_none()
            && self.meter.get().is_none()
            && self.request.is_none()
            && self.forwarded.is_none()
            && self.messages_in == 0
    }
}

/// A client's network address; an IPv6 address is boxed.
#[derive(Debug, Clone)]
pub(super) enum Address {
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Address::V4(address),
            SocketAddr::V6(address) => Address::V6(Box::new(address)),
        }
    }
}

impl Address {
    /// The address itself.
    pub(super) fn get(&self) -> SocketAddr {
        match self {
            Address::V4(address) => SocketAddr::V4(*address),
            Address::V6(address) => SocketAddr::V6(**address),
        }
    }
}

/// The subscriptions of one connection: a list without spare capacity, because most never change
/// after they were made.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Box<[Subscription]>);

impl Subscriptions {
    /// Adds one at the end.
    pub(super) fn push(&mut self, subscription: Subscription) {
        let mut list = mem::take(&mut self.0).into_vec();
        list.reserve_exact(1);
        list.push(subscription);
        self.0 = list.into_boxed_slice();
    }

    /// Removes the one of a topic; the last one takes its index.
    pub(super) fn take(&mut self, topic: u32) -> Option<Subscription> {
        let place = self.0.iter().position(|s| s.topic == topic)?;
        let mut list = mem::take(&mut self.0).into_vec();
        let gone = list.swap_remove(place);
        self.0 = list.into_boxed_slice();
        Some(gone)
    }
}

impl Deref for Subscriptions {
    type Target = [Subscription];

    fn deref(&self) -> &[Subscription] {
        &self.0
    }
}

impl DerefMut for Subscriptions {
    fn deref_mut(&mut self) -> &mut [Subscription] {
        &mut self.0
    }
}

/// Flags of a connection.
#[derive(Debug, Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, one byte each"
)]
pub(super) struct Flags {
    /// An answer is pending; further messages wait.
    pub(super) busy: bool,
    /// Already in the list of connections to flush.
    pub(super) touched: bool,
    /// Reading was deferred to the next round.
    pub(super) unread: bool,
    /// The client was notified of the token's expiry.
    pub(super) expiry_told: bool,
    /// Counted among the connections of its user.
    pub(super) user_counted: bool,
    /// The client has shut down its side: the rest must be read to its end.
    pub(super) peer_closed: bool,
    /// Marked for [`Recovery`](super::recovery::Recovery).
    pub(super) awaiting_recovery: bool,
    /// About to be closed as too slow: an event did not fit, so no later event may be delivered.
    pub(super) pending_close: bool,
}

/// One subscription of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscription {
    /// The topic's slot in the shard.
    pub(super) topic: u32,
    /// The subscriber's index in the topic.
    pub(super) at: u32,
    /// Counted in the channel's presence.
    pub(super) present: bool,
    /// Made by a service, not by the client.
    pub(super) granted: bool,
    /// Distinguishes it from every other subscription that the shard has seen.
    pub(super) serial: u32,
}

/// A subscription that reads history before it goes live.
#[derive(Debug)]
pub(super) struct RecoveryState {
    pub(super) topic: u32,
    /// The subscription's.
    pub(super) serial: u32,
    pub(super) epoch: Epoch,
    /// The last offset that was sent.
    pub(super) after: u64,
    /// Events that were read but not sent.
    pub(super) waiting: VecDeque<Waiting>,
    /// A page is being read, or a filter evaluated, off the shard.
    pub(super) reading: bool,
    /// The bytes of live events that wait for a deferred filter and that no history keeps.
    pub(super) loose: Option<usize>,
    /// The bytes of live events that wait after the page: the filter is deferred, and history may
    /// be too short to keep them meanwhile.
    pub(super) kept: Option<usize>,
}

/// An event that waits for a subscription in recovery.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) event: Arc<Event>,
    /// The filter's verdict, once it was evaluated.
    pub(super) verdict: Option<Verdict>,
}

impl From<Arc<Event>> for Waiting {
    fn from(event: Arc<Event>) -> Self {
        Waiting {
            event,
            verdict: None,
        }
    }
}

/// A connection that is being closed.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) code: CloseCode,
    pub(super) reason: String,
    /// The operator who ended it.
    pub(super) by: Option<Box<str>>,
    /// When it is removed even if the client has not answered the close.
    pub(super) deadline: u64,
    /// The server's side is shut down.
    pub(super) finished: bool,
    /// Bytes that have arrived since, and are discarded.
    pub(super) unread: usize,
}

impl RecoveryState {
    pub(super) fn behind(topic: u32, serial: u32, after: Position) -> Self {
        RecoveryState {
            topic,
            serial,
            epoch: after.epoch,
            after: after.offset,
            waiting: VecDeque::new(),
            reading: false,
            loose: None,
            kept: None,
        }
    }

    /// A waiting event was sent.
    pub(super) fn let_go(&mut self, event: &Event) {
        for bytes in [&mut self.loose, &mut self.kept].into_iter().flatten() {
            *bytes = bytes.saturating_sub(event.weight());
        }
    }

    /// A recovery whose events come from no history.
    pub(super) fn loose(topic: u32, serial: u32) -> Self {
        let after = Position {
            epoch: Epoch::from_bits(0),
            offset: 0,
        };
        RecoveryState {
            loose: Some(0),
            ..Self::behind(topic, serial, after)
        }
    }
}

impl Connection {
    /// A connection without an identity and without subscriptions, opened at time 0 of the shard's
    /// clock.
    pub(super) fn new(
        nonce: u64,
        link: Link,
        protocol: Arc<dyn Protocol>,
        address: SocketAddr,
    ) -> Self {
        Connection {
            nonce,
            link,
            dialect: protocol.dialect(),
            transport: protocol.transport(),
            protocol,
            identity: None,
            cold: None,
            address: address.into(),
            outbox: Outbox::default(),
            partial: None,
            subscriptions: Subscriptions::default(),
            recoveries: None,
            ending: None,
            connected_at: 0,
            last_seen: 0,
            last_ping: 0,
            timer: 0,
            last_batch: 0,
            covered: 0,
            next_message: 0,
            delivered: 0,
            bytes_in: 0,
            bytes_out: 0,
            dropped: 0,
            round_trip_us: 0,
            refused_messages: 0,
            unjudged: false,
            flags: Flags::default(),
        }
    }

    /// As observers see it.
    pub(super) fn seen(&self, id: ConnectionId) -> Seen<'_> {
        Seen {
            id,
            address: self.address.get(),
            transport: self.transport,
            identity: self.identity.as_ref(),
            client_type: self.client().map(|client| &*client.kind),
            forwarded: self.cold.as_ref().and_then(|cold| cold.forwarded.as_ref()),
        }
    }

    /// Its subscription to a topic, if there is one.
    pub(super) fn subscription(&self, topic: u32) -> Option<&Subscription> {
        self.subscriptions.iter().find(|s| s.topic == topic)
    }

    /// True if only writing is left to do once it has got an event.
    pub(super) fn is_plain(&self) -> bool {
        !self.flags.touched && self.recoveries.is_none() && self.ending.is_none()
    }

    /// True if its events can be written directly to its socket, because nothing is queued before
    /// them.
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

    /// The meter of its filters.
    pub(super) fn meter(&self) -> Option<&Arc<Meter>> {
        self.cold.as_ref()?.meter.get()
    }

    /// The client's registered type and name.
    pub(super) fn client(&self) -> Option<&Client> {
        self.cold.as_ref()?.client.as_ref()
    }

    pub(super) fn client_kind(&self) -> &str {
        self.client().map_or("unknown", |client| &client.kind)
    }

    /// The cold state, created if there is none.
    pub(super) fn cold(&mut self) -> &mut ColdState {
        let cold = self.cold.get_or_insert_default();
        cold.meter.is_for(self.identity.as_ref());
        cold
    }

    /// Takes the protocol's state between two reads.
    pub(super) fn take_state(&mut self) -> Option<Box<dyn Any + Send>> {
        let cold = self.cold.as_mut()?;
        let state = cold.state.take();
        if cold.is_idle() {
            self.cold = None;
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket is larger in debug builds, where mio keeps state for its own assertions.
    const LINK: usize = size_of::<Link>();

    /// With a link of 16 bytes it is 224: 128 of them, a block of the shard, are 28 KiB then, which
    /// is one of the allocator's size classes. One more byte would cost 32.
    #[test]
    fn connection_is_208_bytes_and_its_io() {
        assert_eq!(size_of::<Connection>() - LINK, 208);
        assert_eq!(size_of::<Option<Connection>>(), size_of::<Connection>());
        if !cfg!(debug_assertions) {
            assert_eq!(LINK, 16);
        }
    }

    #[test]
    fn fields_of_every_delivery_come_first() {
        assert_eq!(mem::offset_of!(Connection, protocol) - LINK, 72);
    }

    #[test]
    fn subscriptions_have_no_spare_capacity() {
        let one = |topic| Subscription {
            topic,
            at: 0,
            present: false,
            granted: false,
            serial: topic,
        };
        let topics = |list: &Subscriptions| list.iter().map(|s| s.topic).collect::<Vec<_>>();
        let mut list = Subscriptions::default();
        for topic in 1..4 {
            list.push(one(topic));
        }
        assert_eq!(topics(&list), [1, 2, 3]);
        assert_eq!(list.take(1).map(|gone| gone.serial), Some(1));
        assert!(list.take(1).is_none());
        assert_eq!(topics(&list), [3, 2]);
        assert_eq!(size_of::<Subscription>(), 16);
    }

    #[test]
    fn address_survives_its_compact_form() {
        for text in [
            "127.0.0.1:80",
            "[::1]:443",
            "[fe80::1%7]:1",
            "[::ffff:10.0.0.1]:2",
        ] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Address::from(address).get(), address);
        }
    }
}
