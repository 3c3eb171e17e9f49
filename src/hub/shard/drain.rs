//! Draining: closing all connections, spread over a time span.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Shard;
use super::timers::millis;
use crate::error::CloseCode;
use crate::event::ConnectionId;
use crate::hub::protocol::Notice;
use crate::lifecycle::Departure;

/// The order in which connections are closed.
#[derive(Default)]
pub(super) struct Drain {
    /// The schedule of the drain; `None` while the server runs.
    departure: Option<Arc<Departure>>,
    /// When to close each connection, the next one first; times are the shard's.
    order: VecDeque<(u64, ConnectionId)>,
}

impl Drain {
    /// When the next connection is closed.
    pub(super) fn next(&self) -> Option<u64> {
        self.order.front().map(|(at, _)| *at)
    }

    /// True if draining has begun: new connections are closed too.
    pub(super) fn has_begun(&self) -> bool {
        self.departure.is_some()
    }
}

impl Shard {
    /// Closes every connection for a restart, in random order and evenly over the span; new ones at
    /// once.
    pub(in crate::hub) fn begin_drain(&mut self, departure: Arc<Departure>) {
        let slots = self.connections.iter().map(|(slot, _)| slot);
        let mut leaving: Vec<ConnectionId> =
            slots.filter_map(|slot| self.connections.id(slot)).collect();
        fastrand::shuffle(&mut leaving);
        let count = u64::try_from(leaving.len()).unwrap_or(u64::MAX).max(1);
        let span = millis(departure.span());
        let order = (0..).zip(leaving);
        let order =
            order.map(|(place, id)| (self.time.now + span.saturating_mul(place) / count, id));
        self.drain = Drain {
            order: order.collect(),
            departure: Some(departure),
        };
    }

    /// Closes the connections that are due.
    pub(super) fn close_due(&mut self) {
        while let Some((at, id)) = self.drain.order.front().copied() {
            if at > self.time.now {
                return;
            }
            self.drain.order.pop_front();
            if let Some(slot) = self.connections.find(id) {
                self.close_for_restart(slot);
            }
        }
    }

    /// Each client gets its own reconnect delay.
    pub(super) fn close_for_restart(&mut self, slot: u32) {
        let Some(departure) = &self.drain.departure else {
            return;
        };
        let after_ms = millis(departure.come_back());
        let reason = "restart";
        self.notify(slot, &Notice::Reconnect { after_ms, reason });
        self.close(slot, CloseCode::Restart, CloseCode::Restart.reason());
    }
}
