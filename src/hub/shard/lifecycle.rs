//! How connections are opened, identified and closed.

use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mio::{Interest, Token};

use super::writer::PendingClose;
use super::{ConnCtx, Shard};
use crate::auth::Identity;
use crate::error::{CloseCode, Error, Result};
use crate::event::ConnectionId;
use crate::hub::ConnectionPermit;
use crate::hub::observer::{End, Seen, Totals};
use crate::hub::protocol::{Notice, Protocol};
use crate::hub::shard::chunk::Chunk;
use crate::hub::shard::connection::{Connection, Ending, RequestFacts};
use crate::hub::shard::connection_io::Link;
use crate::outbound::ForwardedHeaders;
use crate::telemetry::DropReason;

/// How long a client may take to answer a close frame, in milliseconds.
const LINGER: u64 = 5_000;

/// A connection to be opened.
pub struct Opening {
    /// Its IO.
    pub link: Link,
    /// Its dialect.
    pub protocol: Arc<dyn Protocol>,
    /// Its identity; `None` if it has not authenticated yet.
    pub identity: Option<Arc<Identity>>,
    /// Its network address.
    pub address: SocketAddr,
    /// What its request said of the client.
    pub request: Option<Arc<RequestFacts>>,
    /// The headers of its request that are forwarded to the application.
    pub forwarded: Option<Arc<ForwardedHeaders>>,
    /// Its permit among the server's connections.
    pub permit: ConnectionPermit,
    /// The response of the handshake, if it was not sent yet. It is written together with the
    /// welcome.
    pub answer: Bytes,
    /// Bytes that came with the handshake.
    pub early: Vec<u8>,
    /// Runs first on the shard's thread.
    pub on_open: Box<dyn FnOnce(&mut ConnCtx<'_>) + Send>,
    /// Makes its id unique; from [`crate::event::ConnectionId::new_nonce`].
    pub nonce: u64,
}

impl Shard {
    /// Opens a connection.
    pub(in crate::hub) fn open(&mut self, opening: Opening) {
        let Opening {
            link,
            protocol,
            identity,
            address,
            request,
            forwarded,
            mut permit,
            answer,
            mut early,
            on_open,
            nonce,
        } = opening;
        let transport = protocol.transport();
        let connection = Connection {
            connected_at: self.time.elapsed(),
            last_seen: self.time.now,
            last_ping: self.time.now,
            ..Connection::new(nonce, link, protocol, address)
        };
        let slot = self.connections.insert(connection);
        if (request.is_some() || forwarded.is_some())
            && let Some(connection) = self.connections.get_mut(slot)
        {
            let cold = connection.cold();
            cold.request = request;
            cold.forwarded = forwarded;
        }
        permit.keep();
        self.hub.metrics().connection_opened(transport);
        if let Some(id) = self.connections.id(slot) {
            self.hub.opened(Seen {
                id,
                address,
                transport,
                identity: identity.as_ref(),
                client_type: None,
                forwarded: None,
            });
        }
        if !self.watch_socket(slot) {
            self.remove(slot);
            return;
        }
        self.put(slot, answer);
        if let Some(identity) = identity
            && let Err(error) = self.recognise(slot, identity)
        {
            self.fail(slot, &error, CloseCode::for_code(error.code()));
            self.schedule(slot);
            return;
        }
        on_open(&mut ConnCtx::new(self, slot));
        if self.drain.has_begun() {
            self.close_for_restart(slot);
        }
        if !early.is_empty() {
            self.receive(slot, &mut early);
        }
        self.schedule(slot);
        // The poll reports bytes in a socket once it is registered, but not bytes that TLS has
        // already decrypted.
        let tls = |c: &Connection| matches!(c.link, Link::Tls(..));
        if self.connections.get(slot).is_some_and(tls) {
            self.read(slot);
        }
    }

    pub(super) fn watch_socket(&mut self, slot: u32) -> bool {
        let Some(connection) = self.connections.get_mut(slot) else {
            return false;
        };
        let Some(socket) = connection.link.socket() else {
            return true;
        };
        let token = Token(usize::try_from(slot).unwrap_or(usize::MAX - 1));
        let both = Interest::READABLE | Interest::WRITABLE;
        match self.registry.register(socket, token, both) {
            Ok(()) => true,
            Err(error) => {
                let connection_id = self.connections.id(slot).map(tracing::field::display);
                tracing::warn!(connection_id, %error, "a socket could not be registered");
                false
            }
        }
    }

    /// Sets the identity of a connection. Its user never changes: a renewal is a new token of the
    /// same user.
    ///
    /// # Errors
    ///
    /// `unauthenticated` if the token was revoked meanwhile, `permission_denied` for another user,
    /// `resource_exhausted` if the user has too many connections.
    pub(super) fn recognise(&mut self, slot: u32, identity: Arc<Identity>) -> Result<()> {
        // Revalidate after registration, so that a concurrent revocation sweep cannot miss this connection.
        self.hub.revalidate(&identity)?;
        let Some(connection) = self.connections.get_mut(slot) else {
            return Ok(());
        };
        let is_new = connection.identity.is_none();
        let before = connection.identity.as_ref().and_then(|i| i.user().cloned());
        let user = identity.user().cloned();
        if before.is_some() && before != user {
            return Err(Error::denied(
                "a connection can't change its user: open another one",
            ));
        }
        if before.is_none()
            && let Some(user) = &user
        {
            self.hub.permits().acquire_user(user)?;
            connection.flags.user_counted = true;
        }
        let renamed = before != user;
        if renamed {
            self.presence_leave_all(slot);
        }
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.identity = Some(identity);
            connection.flags.expiry_told = false;
        }
        if before.is_none() {
            self.connections.add_user(slot);
        }
        if renamed {
            self.presence_join_all(slot);
        }
        if let (Some(connection), Some(id)) =
            (self.connections.get(slot), self.connections.id(slot))
            && is_new
        {
            self.hub.identified(connection.seen(id));
        }
        self.schedule(slot);
        Ok(())
    }

    /// Sends an error and closes.
    pub(super) fn fail(&mut self, slot: u32, error: &Error, code: CloseCode) {
        self.hub.metrics().error(error.code());
        self.notify(slot, &Notice::Failure(error));
        self.close(slot, code, error.description());
    }

    /// Starts closing: the outbox is written first, except to a client that is too slow, then the
    /// close frame.
    pub(super) fn close(&mut self, slot: u32, code: CloseCode, reason: &str) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        let last = connection.protocol.close(code, reason);
        self.close_with(slot, code, reason, last);
    }

    pub(super) fn close_with(&mut self, slot: u32, code: CloseCode, reason: &str, last: Bytes) {
        self.leave_all(slot);
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.ending.is_some() {
            return;
        }
        if code == CloseCode::TooSlow {
            let waiting = connection.outbox.events();
            self.hub
                .metrics()
                .dropped(DropReason::SlowConsumer, waiting);
            connection.outbox.clear(&mut self.writer.pool);
        }
        if !last.is_empty() {
            self.writer.push(connection, Chunk::plain(last), None);
        }
        let deadline = self.time.now + LINGER;
        let reason = reason.to_owned();
        connection.ending = Some(Box::new(Ending {
            code,
            reason,
            by: None,
            deadline,
            finished: false,
            unread: 0,
        }));
        connection.partial = None;
        drop(connection.take_state());
        connection.timer = 0;
        self.writer.touch(slot, connection);
        self.schedule(slot);
    }

    /// Everything is sent: shuts down the write side, and lingers until the client shuts down its
    /// side, because otherwise unread bytes would be lost.
    pub(super) fn finish(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let Some(ending) = &mut connection.ending else {
            return;
        };
        if mem::replace(&mut ending.finished, true) {
            return;
        }
        let over = connection.link.finish(ending.code, &ending.reason);
        let is_pipe = matches!(connection.link, Link::Pipe(_));
        if let (Err(error), Some(id)) = (over, self.connections.id(slot)) {
            tracing::trace!(connection_id = %id, %error, "the client closed before the last byte");
        }
        if is_pipe {
            self.remove(slot);
        }
    }

    /// Closes connections that were found broken or too slow.
    pub(super) fn reap_closed(&mut self) {
        for (slot, reason) in self.writer.take_pending_close() {
            match reason {
                PendingClose::Gone => self.remove(slot),
                PendingClose::TooSlow => self.too_slow(slot),
            }
        }
    }

    pub(super) fn too_slow(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.ending.is_some() {
            return;
        }
        connection.dropped = connection.dropped.saturating_add(1);
        self.hub.metrics().slow_consumer();
        self.hub.metrics().dropped(DropReason::SlowConsumer, 1);
        self.close(slot, CloseCode::TooSlow, CloseCode::TooSlow.reason());
    }

    /// Removes a connection.
    pub(super) fn remove(&mut self, slot: u32) {
        self.leave_all(slot);
        let Some(id) = self.connections.id(slot) else {
            return;
        };
        let Some(mut connection) = self.connections.remove(slot) else {
            return;
        };
        if let Some(socket) = connection.link.socket()
            && let Err(error) = self.registry.deregister(socket)
        {
            tracing::debug!(connection_id = %id, %error, "a socket could not be deregistered");
        }
        let waiting = connection.outbox.events();
        self.hub
            .metrics()
            .dropped(DropReason::Disconnected, waiting);
        connection.outbox.clear(&mut self.writer.pool);
        let ended = connection.ending.take();
        let code = ended
            .as_ref()
            .map_or(CloseCode::Normal, |ending| ending.code);
        let reason = ended.as_ref().map_or("", |ending| &ending.reason);
        if let Link::Pipe(pipe) = &connection.link {
            pipe.end(code, reason);
        }
        if connection.flags.user_counted
            && let Some(user) = connection.identity.as_ref().and_then(|i| i.user().cloned())
        {
            self.connections.remove_user(&user, slot);
            self.hub.permits().release_user(&user);
        }
        let kind = connection.client().map(|client| &*client.kind);
        self.hub
            .metrics()
            .connection_closed(connection.transport, code.number(), kind);
        let address = connection.address.get();
        self.hub.permits().release(address.ip());
        let of_itself = if code == CloseCode::Normal {
            "client"
        } else {
            "server"
        };
        let by = ended.as_ref().and_then(|ending| ending.by.as_deref());
        let seen = connection.seen(id);
        let open_for = self.time.elapsed().saturating_sub(connection.connected_at);
        let totals = Totals {
            open_for: Duration::from_millis(open_for),
            delivered: connection.delivered,
            dropped: u64::from(connection.dropped),
            bytes_in: connection.bytes_in,
            bytes_out: connection.bytes_out,
        };
        let end = End {
            code,
            reason: if reason.is_empty() {
                code.reason()
            } else {
                reason
            },
            by: by.unwrap_or(of_itself),
            totals,
        };
        self.hub.closed(seen, end);
    }

    /// Closes every connection whose identity is no longer valid.
    pub(in crate::hub) fn check_identities(&mut self) {
        let connections = self.connections.iter();
        let identified: Vec<(u32, Arc<Identity>)> = connections
            .filter(|(_, connection)| connection.ending.is_none())
            .filter_map(|(slot, connection)| Some((slot, connection.identity.clone()?)))
            .collect();
        for (slot, identity) in identified {
            if let Err(error) = self.hub.revalidate(&identity) {
                self.fail(slot, &error, CloseCode::Unauthenticated);
            }
        }
    }

    /// The identity of a connection; anonymous until it has authenticated.
    pub(in crate::hub) fn identity_of(&self, id: ConnectionId) -> Option<Arc<Identity>> {
        let connection = self.connections.get(self.connections.find(id)?)?;
        Some(connection.identity.clone().unwrap_or_default())
    }

    /// Closes a connection on behalf of an operator; true if it was open.
    pub(in crate::hub) fn disconnect(&mut self, id: ConnectionId, reason: &str, by: &str) -> bool {
        let Some(slot) = self.connections.find(id) else {
            return false;
        };
        if self
            .connections
            .get(slot)
            .is_some_and(|c| c.ending.is_some())
        {
            return false;
        }
        self.close(slot, CloseCode::Disconnected, reason);
        if let Some(ending) = self
            .connections
            .get_mut(slot)
            .and_then(|c| c.ending.as_mut())
        {
            ending.by = Some(by.into());
        }
        true
    }

    /// Closes all connections of a user; returns how many.
    pub(in crate::hub) fn disconnect_user(&mut self, user: &str, reason: &str, by: &str) -> u64 {
        let slots = self.connections.of_user(user).iter();
        let ids: Vec<ConnectionId> = slots
            .filter_map(|slot| self.connections.id(*slot))
            .collect();
        ids.into_iter()
            .map(|id| u64::from(self.disconnect(id, reason, by)))
            .sum()
    }

    /// Whether any connection is left.
    pub(in crate::hub) fn has_no_connections(&self) -> bool {
        self.connections.is_empty()
    }
}
