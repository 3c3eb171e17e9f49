//! Timers: heartbeats, deadlines and expiry of tokens. One queue for all connections, with one
//! entry for each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::{ConnCtx, Shard};
use crate::error::{CloseCode, Error};
use crate::event::Timestamp;
use crate::hub::protocol::Notice;
use crate::hub::shard::connection::Connection;
use crate::telemetry::Transport;

/// When to check a connection again; the earliest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer(Reverse<(u64, u32)>);

impl Timer {
    fn at(self) -> u64 {
        self.0.0.0
    }
}

/// The longest delay of a heartbeat after it is due.
const LONGEST_STEP_MS: u64 = 250;
/// The retry time if `auth.deadline` has passed before a token could be judged.
const UNJUDGED_RETRY: Duration = Duration::from_secs(5);
/// The longest time before a token's expiry at which the client is notified.
const EXPIRY_NOTICE_MS: i64 = 60_000;
/// An identity that expires sooner is not renewed by the server.
const LAST_RENEWAL_MS: i64 = 500;

/// A shard's clock and timers.
pub(super) struct Time {
    clock: Clock,
    queue: BinaryHeap<Timer>,
    /// The time of the shard's clock in milliseconds, read once per round.
    pub(super) now: u64,
}

impl Time {
    pub(super) fn new() -> Self {
        Time {
            clock: Clock::new(),
            queue: BinaryHeap::new(),
            now: 0,
        }
    }

    /// When the next timer is due.
    pub(super) fn next_timer(&self) -> Option<u64> {
        self.queue.peek().map(|timer| timer.at())
    }
}

impl Deref for Time {
    type Target = Clock;

    fn deref(&self) -> &Clock {
        &self.clock
    }
}

impl DerefMut for Time {
    fn deref_mut(&mut self) -> &mut Clock {
        &mut self.clock
    }
}

impl Shard {
    /// Fires the timers that are due.
    pub(super) fn fire_timers(&mut self) {
        while let Some(timer) = self.time.queue.peek().copied() {
            let (at, slot) = timer.0.0;
            if at > self.time.now {
                return;
            }
            self.time.queue.pop();
            if self.connections.get(slot).is_some_and(|c| c.timer == at) {
                self.on_timer(slot);
            }
        }
    }

    /// Sets the timer of a connection to the next moment at which something is due.
    pub(super) fn schedule(&mut self, slot: u32) {
        let Some(at) = self.next_due(slot) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        // An entry that fires earlier will schedule the later one itself.
        let pending = connection.timer > self.time.now && connection.timer <= at;
        if !pending {
            connection.timer = at;
            self.time.queue.push(Timer(Reverse((at, slot))));
        }
    }

    fn next_due(&self, slot: u32) -> Option<u64> {
        let connection = self.connections.get(slot)?;
        if let Some(ending) = &connection.ending {
            return Some(ending.deadline);
        }
        let interval = millis(self.settings.heartbeat_interval);
        let mut due = heartbeat_base(connection) + interval;
        if answers(connection.transport) {
            due = due.min(self.silent_until(connection));
        }
        let mut due = together(due, interval);
        if self.must_authenticate(slot) {
            let had = self.time.since(connection.connected_at);
            let left = millis(self.settings.auth_deadline).saturating_sub(had);
            due = due.min(self.time.now + left);
        }
        if let Some(left) = self.token_left(slot) {
            let notice = if connection.flags.expiry_told {
                left
            } else {
                left - notice_before(left)
            };
            due = due.min(self.time.now + u64::try_from(notice).unwrap_or(0));
        }
        Some(due.max(self.time.now + 1))
    }

    /// True if the connection has presented no token but must.
    fn must_authenticate(&self, slot: u32) -> bool {
        self.connections
            .get(slot)
            .is_some_and(|c| c.identity.is_none())
    }

    /// How long a client may be silent: for the timeout, and after a stall of the server for
    /// another interval, so that it gets another ping before it is closed.
    fn silent_until(&self, connection: &Connection) -> u64 {
        let settings = &self.settings;
        let asked = self.time.resumed() + millis(settings.heartbeat_interval);
        asked.max(connection.last_seen + millis(settings.heartbeat_timeout))
    }

    /// Milliseconds until the token expires; negative if it has expired.
    fn token_left(&self, slot: u32) -> Option<i64> {
        let identity = self.connections.get(slot)?.identity.as_ref()?;
        Some(identity.valid_until()?.as_millis() - Timestamp::now().as_millis())
    }

    fn on_timer(&mut self, slot: u32) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        if let Some(ending) = &connection.ending {
            if ending.deadline <= self.time.now {
                self.remove(slot);
            } else {
                self.schedule(slot);
            }
            return;
        }
        if answers(connection.transport) && self.time.now >= self.silent_until(connection) {
            self.close(
                slot,
                CloseCode::HeartbeatTimeout,
                CloseCode::HeartbeatTimeout.reason(),
            );
            return;
        }
        if self.must_authenticate(slot)
            && self.time.since(connection.connected_at) >= millis(self.settings.auth_deadline)
        {
            let error = self.no_token(slot);
            self.fail(slot, &error, CloseCode::for_code(error.code()));
            return;
        }
        if self.look_at_token(slot) {
            return;
        }
        self.send_heartbeat(slot);
        self.schedule(slot);
    }

    /// Why a connection that has not authenticated in time is closed. A token that could not be
    /// judged was not refused: the client should reconnect with it.
    fn no_token(&self, slot: u32) -> Error {
        if self.connections.get(slot).is_some_and(|c| c.unjudged) {
            return Error::unavailable("the token could not be judged before auth.deadline")
                .retry_after(UNJUDGED_RETRY);
        }
        Error::unauthenticated("no token was sent before auth.deadline")
    }

    /// True if the token has expired and the connection was closed for it.
    fn look_at_token(&mut self, slot: u32) -> bool {
        let Some(left) = self.token_left(slot) else {
            return false;
        };
        if left <= 0 {
            self.hub.metrics().auth_failure("expired");
            let error = Error::unauthenticated("the token has expired");
            self.fail(slot, &error, CloseCode::Unauthenticated);
            return true;
        }
        let Some(connection) = self.connections.get_mut(slot) else {
            return true;
        };
        if left <= EXPIRY_NOTICE_MS && !connection.flags.expiry_told {
            connection.flags.expiry_told = true;
            let protocol = Arc::clone(&connection.protocol);
            let expires_at = connection.identity.as_ref().and_then(|i| i.expires_at());
            let renews = protocol.renews(&mut ConnCtx::new(self, slot));
            if let (Some(expires_at), false) = (expires_at, renews) {
                self.notify(slot, &Notice::TokenExpiring { expires_at });
            }
        }
        false
    }

    /// The identity of a connection could not be renewed: tries again at half of the time that is left,
    /// unless that is too short.
    pub(super) fn renew_again(&mut self, slot: u32) {
        let is_late = |left| left < LAST_RENEWAL_MS;
        if self.token_left(slot).is_none_or(is_late) {
            return;
        }
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.flags.expiry_told = false;
        }
        self.schedule(slot);
    }

    fn send_heartbeat(&mut self, slot: u32) {
        let interval = millis(self.settings.heartbeat_interval);
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if self.time.now < heartbeat_base(connection) + interval {
            return;
        }
        connection.last_ping = self.time.now;
        if !connection.outbox.is_empty() && !counts_on_pings(connection.transport) {
            // Queued bytes show the client that the server is alive, once it reads them.
            return;
        }
        let bytes = connection.protocol.heartbeat(Timestamp::now());
        self.put(slot, bytes);
    }
}

/// The next moment at which heartbeats are sent. The heartbeats of many connections are aligned, so
/// that their answers arrive together: a wake-up for each would cost more than the heartbeat.
fn together(due: u64, interval: u64) -> u64 {
    let step = (interval / 64).clamp(1, LONGEST_STEP_MS);
    due.next_multiple_of(step)
}

/// True if a silent client is considered dead: a client whose streams end by themselves need not
/// answer.
const fn answers(transport: Transport) -> bool {
    match transport {
        Transport::WebSocket | Transport::SocketIo => true,
        Transport::Sse | Transport::Grpc => false,
    }
}

/// True if the client closes when a ping is missing, regardless of other traffic (Engine.IO,
/// "Heartbeat").
const fn counts_on_pings(transport: Transport) -> bool {
    match transport {
        Transport::SocketIo => true,
        Transport::WebSocket | Transport::Sse | Transport::Grpc => false,
    }
}

/// The time from which the interval of heartbeats counts.
fn heartbeat_base(connection: &Connection) -> u64 {
    if counts_on_pings(connection.transport) {
        connection.last_ping
    } else {
        connection.last_seen.max(connection.last_ping)
    }
}

/// How long before its expiry a token with this remaining lifetime is announced: a minute, or half
/// of the rest of a short-lived one.
fn notice_before(left: i64) -> i64 {
    EXPIRY_NOTICE_MS.min(left / 2)
}

pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_are_coalesced_within_a_bound() {
        assert_eq!(together(30_001, 30_000), 30_250);
        assert_eq!(together(30_250, 30_000), 30_250);
        assert_eq!(together(701, 640), 710);
        for (due, interval) in [(7, 1), (8, 63), (u64::from(u32::MAX), 86_400_000)] {
            let at = together(due, interval);
            assert!(at >= due && at - due <= (interval / 64).min(LONGEST_STEP_MS));
        }
    }
}
