//! One connection, as its protocol may act on it.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::Shard;
use super::subscribe::{JoinRequest, Then};
use super::timers::millis;
use crate::auth::Identity;
use crate::error::{CloseCode, Error, Result};
use crate::event::{ChannelPattern, ConnectionId};
use crate::filter::EventFilter;
use crate::hub::Hub;
use crate::hub::command::ShardCommand;
use crate::hub::delivery::DialectId;
use crate::hub::protocol::Protocol;
use crate::hub::shard::connection::Client;
use crate::maybe_ready::MaybeReady;

/// One connection on its shard's thread. Made for the length of a call; everything a protocol
/// does to a connection it does through this.
pub struct ConnCtx<'s> {
    shard: &'s mut Shard,
    slot: u32,
}

impl<'s> ConnCtx<'s> {
    pub(super) fn new(shard: &'s mut Shard, slot: u32) -> Self {
        ConnCtx { shard, slot }
    }

    pub(super) fn shard(&mut self) -> &mut Shard {
        self.shard
    }

    pub(super) fn slot(&self) -> u32 {
        self.slot
    }

    /// The connection's id.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.shard
            .connections
            .id(self.slot)
            .unwrap_or(ConnectionId::new(u16::MAX, u32::MAX, 0))
    }

    /// The bus.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.shard.hub
    }

    /// Who it is; `None` until it has shown a token, where one is required.
    #[must_use]
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.shard.connections.get(self.slot)?.identity.as_ref()
    }

    /// True if nothing more should be taken from the client at the moment: it is being closed, or
    /// an answer is being made elsewhere and replies keep the order of requests.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        let connection = self.shard.connections.get(self.slot);
        connection.is_none_or(|c| c.flags.busy || c.ending.is_some())
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: Bytes) {
        self.shard.put(self.slot, bytes);
    }

    /// Closes the connection after what has been sent.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.shard.close(self.slot, code, reason);
    }

    /// Closes the connection with these last bytes.
    pub fn end(&mut self, code: CloseCode, last: Bytes) {
        self.shard.close_with(self.slot, code, "", last);
    }

    /// Tells the client what is wrong and closes.
    pub fn fail(&mut self, error: &Error, code: CloseCode) {
        self.shard.fail(self.slot, error, code);
    }

    /// Notes who it is.
    ///
    /// # Errors
    /// `permission_denied` for another user than before, `resource_exhausted` where the user has
    /// too many connections.
    pub fn recognise(&mut self, identity: Arc<Identity>) -> Result<()> {
        self.shard.recognise(self.slot, identity)
    }

    /// Notes whether it has shown a token that is not judged, or not yet: then `auth.deadline` is
    /// no fault of the client.
    pub fn set_unjudged(&mut self, unjudged: bool) {
        if let Some(connection) = self.shard.connections.get_mut(self.slot) {
            connection.unjudged = unjudged;
        }
    }

    /// Notes what the client said of itself.
    pub fn register(&mut self, client: Client) {
        let Some(connection) = self.shard.connections.get_mut(self.slot) else {
            return;
        };
        let before = connection.cold().client.replace(client);
        let from = before.as_ref().map(|client| &*client.kind);
        let to = connection.client().map(|client| &*client.kind);
        self.shard.hub.metrics().client_type_changed(from, to);
    }

    /// Subscribes; `then` is told how each subscription began, before the first event of any.
    pub fn join(
        &mut self,
        request: JoinRequest,
        then: impl FnOnce(&mut ConnCtx<'_>, Vec<super::super::Joined>, Vec<super::super::Refused>)
        + Send
        + 'static,
    ) {
        let then: Then = Box::new(then);
        self.shard.join(self.slot, request, then);
    }

    /// Ends a subscription; true if there was one.
    pub fn leave(&mut self, pattern: &ChannelPattern) -> bool {
        self.shard.leave(self.slot, pattern)
    }

    /// Ends subscriptions that `allowed` refuses, and says why.
    pub fn check_rights(
        &mut self,
        allowed: &(dyn Fn(&Identity, &ChannelPattern, ConnectionId) -> Result<()> + Send + Sync),
    ) {
        self.shard.check_rights(self.slot, allowed);
    }

    /// Gives a subscription another filter.
    pub fn narrow(&mut self, pattern: &ChannelPattern, filter: Option<&Arc<EventFilter>>) {
        self.shard.set_filter(self.slot, pattern, filter);
    }

    /// The filter of a subscription; the outer `None` where there is no such subscription.
    #[must_use]
    pub fn filter_of(&self, pattern: &ChannelPattern) -> Option<Option<Arc<EventFilter>>> {
        let topic = self.shard.topics.of(pattern)?;
        let place = self.shard.filter_of(self.slot, topic)?;
        Some(self.shard.filters.get(place).cloned())
    }

    /// Goes on with an answer when it is there; what the client sends meanwhile waits.
    pub fn wait<T: Send + 'static>(
        &mut self,
        promise: MaybeReady<T>,
        then: impl FnOnce(&mut ConnCtx<'_>, Result<T>) + Send + 'static,
    ) {
        let future = match promise {
            MaybeReady::Ready(answer) => return then(self, answer),
            MaybeReady::Pending(future) => future,
        };
        self.shard.set_busy(self.slot);
        let connection = self.id();
        self.shard.send_later(async move {
            let answer = future.await;
            ShardCommand::Resume {
                connection,
                then: Box::new(move |cx| then(cx, answer)),
            }
        });
    }

    /// The client has answered a Ping that was sent at this time of [`ConnCtx::clock_us`].
    pub fn pong(&mut self, sent_us: u64) {
        let now = self.clock_us();
        if let Some(connection) = self.shard.connections.get_mut(self.slot)
            && sent_us > 0
            && sent_us <= now
        {
            connection.round_trip_us = u32::try_from(now - sent_us).unwrap_or(u32::MAX);
        }
    }

    /// The client has answered the last heartbeat, by an answer that does not say which.
    pub fn answered(&mut self) {
        let now = self.shard.time.now();
        if let Some(connection) = self.shard.connections.get_mut(self.slot) {
            let took = now
                .saturating_sub(connection.last_ping)
                .saturating_mul(1000);
            connection.round_trip_us = u32::try_from(took).unwrap_or(u32::MAX).max(1);
        }
    }

    /// The dialect that it speaks.
    #[must_use]
    pub fn dialect(&self) -> Option<DialectId> {
        Some(self.shard.connections.get(self.slot)?.dialect)
    }

    /// Where it comes from.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        Some(self.shard.connections.get(self.slot)?.address.get())
    }

    /// Goes on in another dialect of the same transport. What waits in the outbox stays as it is.
    pub fn speak(&mut self, protocol: Arc<dyn Protocol>) {
        if let Some(connection) = self.shard.connections.get_mut(self.slot) {
            connection.dialect = protocol.dialect();
            connection.protocol = protocol;
        }
    }

    /// Microseconds since the bus started.
    #[must_use]
    pub fn clock_us(&self) -> u64 {
        self.shard.hub.clock_us()
    }

    /// Takes one message's share of the client's rate (virtual scheduling, as in a token bucket).
    ///
    /// # Errors
    /// `resource_exhausted` with the time to wait. A client that goes on regardless, for as many
    /// messages as a whole burst, is closed with 4429.
    pub fn take_message(&mut self) -> Result<()> {
        let (rate, burst) = (
            self.shard.settings.messages_per_second,
            self.shard.settings.messages_burst,
        );
        if rate == 0 {
            return Ok(());
        }
        let burst = if burst == 0 { rate } else { burst };
        let now = self.clock_us();
        // What came while the server stood still came at its own pace.
        let credit = self.shard.time.credit_us();
        let cost = 1_000_000 / u64::from(rate).max(1);
        let allowance = cost.saturating_mul(u64::from(burst.max(1)));
        let Some(connection) = self.shard.connections.get_mut(self.slot) else {
            return Ok(());
        };
        let next = connection.next_message.max(now.saturating_sub(credit));
        if next + cost <= now + allowance {
            connection.next_message = next + cost;
            connection.refused_messages = 0;
            return Ok(());
        }
        connection.refused_messages = connection.refused_messages.saturating_add(1);
        let abuse = u32::from(connection.refused_messages) > burst.max(10);
        let wait = std::time::Duration::from_micros(next + cost - (now + allowance));
        self.shard.hub.metrics().rate_limited("messages");
        let error = Error::exhausted("too many messages (limits.messages_per_second)")
            .retry_after(wait.max(std::time::Duration::from_millis(1)));
        if abuse {
            self.fail(&error, CloseCode::TooManyMessages);
        }
        Err(error)
    }

    /// What the protocol keeps between two reads; leaves nothing.
    pub fn take_state(&mut self) -> Option<Box<dyn Any + Send>> {
        self.shard.connections.get_mut(self.slot)?.take_state()
    }

    /// Keeps something for the protocol until the next read.
    pub fn keep_state(&mut self, state: Option<Box<dyn Any + Send>>) {
        if let Some(connection) = self.shard.connections.get_mut(self.slot)
            && connection.ending.is_none()
        {
            match state {
                Some(state) => connection.cold().state = Some(state),
                None => drop(connection.take_state()),
            }
        }
    }

    /// How often the server says something to a silent client, and after what silence it gives
    /// up, in milliseconds.
    #[must_use]
    pub fn heartbeat_ms(&self) -> (u64, u64) {
        let settings = &self.shard.settings;
        (
            millis(settings.heartbeat_interval),
            millis(settings.heartbeat_timeout),
        )
    }
}
