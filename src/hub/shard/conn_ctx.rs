//! A connection, as its protocol sees it.

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
use crate::hub::dialect_ids::DialectId;
use crate::hub::protocol::Protocol;
use crate::hub::shard::connection::Client;
use crate::maybe_ready::MaybeReady;
use crate::outbound::ForwardedHeaders;
use crate::telemetry::Transport;

/// A connection on its shard's thread, for the duration of one call. A protocol does everything to
/// a connection through it.
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

    /// The hub.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.shard.hub
    }

    /// Its identity; `None` until it has authenticated, if that is required.
    #[must_use]
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.shard.connections.get(self.slot)?.identity.as_ref()
    }

    /// True if no message of the client may be handled now: the connection is closing, or an answer
    /// is pending and replies keep the order of requests.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        let connection = self.shard.connections.get(self.slot);
        connection.is_none_or(|c| c.flags.busy || c.ending.is_some())
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: Bytes) {
        self.shard.put(self.slot, bytes);
    }

    /// Closes the connection after everything that was sent.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        self.shard.close(self.slot, code, reason);
    }

    /// Closes the connection with these last bytes.
    pub fn end(&mut self, code: CloseCode, last: Bytes) {
        self.shard.close_with(self.slot, code, "", last);
    }

    /// Sends an error and closes.
    pub fn fail(&mut self, error: &Error, code: CloseCode) {
        self.shard.fail(self.slot, error, code);
    }

    /// Sets its identity.
    ///
    /// # Errors
    ///
    /// `permission_denied` for a user other than before, `resource_exhausted` if the user has too
    /// many connections.
    pub fn recognise(&mut self, identity: Arc<Identity>) -> Result<()> {
        self.shard.recognise(self.slot, identity)
    }

    /// Records whether it has sent a token that could not be verified yet: then missing
    /// `auth.deadline` is not the client's fault.
    pub fn set_unjudged(&mut self, unjudged: bool) {
        if let Some(connection) = self.shard.connections.get_mut(self.slot) {
            connection.unjudged = unjudged;
        }
    }

    /// Records the client's registered type and name.
    pub fn register(&mut self, client: Client) {
        let Some(connection) = self.shard.connections.get_mut(self.slot) else {
            return;
        };
        let before = connection.cold().client.replace(client);
        let from = before.as_ref().map(|client| &*client.kind);
        let to = connection.client().map(|client| &*client.kind);
        self.shard.hub.metrics().client_type_changed(from, to);
    }

    /// Subscribes; `then` gets the outcome of each subscription, before the first event of any.
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

    /// Ends subscriptions that `allowed` refuses, with an error.
    pub fn check_rights(
        &mut self,
        allowed: &(dyn Fn(&Identity, &ChannelPattern, ConnectionId) -> Result<()> + Send + Sync),
    ) {
        self.shard.check_rights(self.slot, allowed);
    }

    /// Sets another filter for a subscription.
    pub fn narrow(&mut self, pattern: &ChannelPattern, filter: Option<&Arc<EventFilter>>) {
        self.shard.set_filter(self.slot, pattern, filter);
    }

    /// The filter of a subscription; the outer `None` if there is no such subscription.
    #[must_use]
    pub fn filter_of(&self, pattern: &ChannelPattern) -> Option<Option<Arc<EventFilter>>> {
        let topic = self.shard.topics.of(pattern)?;
        let place = self.shard.filter_of(self.slot, topic)?;
        Some(self.shard.filters.get(place).cloned())
    }

    /// Continues with an answer when it is ready; further messages of the client wait.
    pub fn wait<T: Send + 'static>(
        &mut self,
        answer: MaybeReady<T>,
        then: impl FnOnce(&mut ConnCtx<'_>, Result<T>) + Send + 'static,
    ) {
        let future = match answer {
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

    /// Continues when a result is ready, without making the client's messages wait: for what the server
    /// does by itself.
    pub fn wait_aside<T: Send + 'static>(
        &mut self,
        answer: MaybeReady<T>,
        then: impl FnOnce(&mut ConnCtx<'_>, Result<T>) + Send + 'static,
    ) {
        let future = match answer {
            MaybeReady::Ready(answer) => return then(self, answer),
            MaybeReady::Pending(future) => future,
        };
        let connection = self.id();
        self.shard.send_later(async move {
            let answer = future.await;
            ShardCommand::Continue {
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

    /// The client has answered the last heartbeat, with a reply that does not name it.
    pub fn answered(&mut self) {
        let now = self.shard.time.now();
        if let Some(connection) = self.shard.connections.get_mut(self.slot) {
            let took = now
                .saturating_sub(connection.last_ping)
                .saturating_mul(1000);
            connection.round_trip_us = u32::try_from(took).unwrap_or(u32::MAX).max(1);
        }
    }

    /// Its dialect.
    #[must_use]
    pub fn dialect(&self) -> Option<DialectId> {
        Some(self.shard.connections.get(self.slot)?.dialect)
    }

    /// Its network address.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        Some(self.shard.connections.get(self.slot)?.address.get())
    }

    /// Its transport.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        Some(self.shard.connections.get(self.slot)?.transport)
    }

    /// The client type that it registered.
    #[must_use]
    pub fn client_type(&self) -> Option<&str> {
        let client = self.shard.connections.get(self.slot)?.client()?;
        Some(&client.kind)
    }

    /// The headers of its request that are forwarded to the application.
    #[must_use]
    pub fn forwarded(&self) -> Option<&Arc<ForwardedHeaders>> {
        let connection = self.shard.connections.get(self.slot)?;
        connection.cold.as_ref()?.forwarded.as_ref()
    }

    /// The identity could not be renewed yet: tries again before it expires, unless that is too soon.
    pub fn renew_again(&mut self) {
        self.shard.renew_again(self.slot);
    }

    /// Switches to another dialect of the same transport. Frames in the outbox stay as they are.
    pub fn speak(&mut self, protocol: Arc<dyn Protocol>) {
        if let Some(connection) = self.shard.connections.get_mut(self.slot) {
            connection.dialect = protocol.dialect();
            connection.protocol = protocol;
        }
    }

    /// Microseconds since the hub was built.
    #[must_use]
    pub fn clock_us(&self) -> u64 {
        self.shard.hub.clock_us()
    }

    /// Takes one message from the client's rate limit (virtual scheduling, as in a token bucket).
    ///
    /// # Errors
    ///
    /// `resource_exhausted` with the retry time. A client that ignores it for as many messages as a
    /// whole burst is closed with 4429.
    pub fn take_message(&mut self) -> Result<()> {
        let (rate, burst) = (
            self.shard.settings.messages_per_second,
            self.shard.settings.messages_burst,
        );
        if let Some(connection) = self.shard.connections.get_mut(self.slot) {
            connection.cold().messages_in += 1;
        }
        if rate == 0 {
            return Ok(());
        }
        let burst = if burst == 0 { rate } else { burst };
        let now = self.clock_us();
        // Messages that arrived during a stall of the server count as sent at their own rate.
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
        connection.cold().rate_limited += 1;
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

    /// Takes the protocol's state.
    pub fn take_state(&mut self) -> Option<Box<dyn Any + Send>> {
        self.shard.connections.get_mut(self.slot)?.take_state()
    }

    /// Stores the protocol's state until the next read.
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

    /// The heartbeat's interval and timeout, in milliseconds.
    #[must_use]
    pub fn heartbeat_ms(&self) -> (u64, u64) {
        let settings = &self.shard.settings;
        (
            millis(settings.heartbeat_interval),
            millis(settings.heartbeat_timeout),
        )
    }
}
