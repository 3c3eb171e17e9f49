//! Live events that wait until a deferred filter has been evaluated on them.
//!
//! No history keeps them, so each later event of the subscription waits behind them. Another
//! subscription of the connection may deliver events of the same channel meanwhile. If one of those
//! would overtake a waiting event, the order cannot be kept: the subscription ends with an error.

use std::collections::HashSet;
use std::sync::Arc;

use super::Shard;
use super::batch::{Batch, each};
use crate::error::Error;
use crate::hub::evaluator::Verdict;
use crate::hub::shard::connection::{Connection, RecoveryState, Waiting};

/// A batch's events for connections with subscriptions that hold events back.
#[derive(Default)]
pub(super) struct HeldBack {
    /// The subscriptions, each with the events that are visible to its connection.
    held: Vec<(u32, u32, u64)>,
    /// The subscriptions that read history, each with the new events and the visible ones.
    behind: Vec<(u32, u32, u64, u64)>,
    sent: Vec<Sent>,
}

/// The events that a connection gets through its other subscriptions.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    slot: u32,
    /// Delivered at once.
    now: u64,
    /// Delivered at once, delivered before, or read from history.
    covered: u64,
}

impl HeldBack {
    /// Checks a subscription that is not live, for which these events are new. True if it holds
    /// events back, so that these wait behind them.
    pub(super) fn takes(
        &mut self,
        slot: u32,
        topic: u32,
        connection: &Connection,
        live: u64,
        batch: &Batch<'_>,
    ) -> bool {
        let Some(recovery) = connection.recovery(topic) else {
            return false;
        };
        if recovery.loose.is_some() {
            let visible = live & batch.visible(slot, connection);
            self.held.push((slot, topic, visible));
            return true;
        }
        if recovery.kept.is_some() {
            let visible = live & batch.visible(slot, connection);
            self.behind.push((slot, topic, live, visible));
        }
        false
    }

    /// A connection gets these events at once through a live subscription.
    #[inline]
    pub(super) fn sent(&mut self, slot: u32, now: u64, connection: &Connection) {
        if now != 0 && connection.recoveries.is_some() {
            let covered = connection.covered;
            self.sent.push(Sent { slot, now, covered });
        }
    }

    /// The events that a connection gets through its other subscriptions.
    fn by_others(&self, slot: u32, connection: &Connection, batch: &Batch<'_>) -> Sent {
        let mut all = Sent {
            slot,
            ..Sent::default()
        };
        for sent in self.sent.iter().filter(|sent| sent.slot == slot) {
            all.now |= sent.now;
            // An event that does not fit counts as covered only afterwards.
            all.covered |= sent.covered;
        }
        if all.now == 0 && connection.last_batch == batch.number() {
            all.covered = connection.covered;
        }
        all
    }
}

impl Shard {
    /// Holds back the events of a batch for the subscriptions that hold back earlier ones.
    pub(super) fn hold_back_each(&mut self, held_back: &HeldBack, batch: &Batch<'_>) {
        for &(slot, topic, fresh, visible) in &held_back.behind {
            self.keep_behind(slot, topic, batch, fresh, visible);
        }
        let mut holding = HashSet::new();
        for &(slot, topic, visible) in &held_back.held {
            let Some(connection) = self.connections.get(slot) else {
                continue;
            };
            let others = held_back.by_others(slot, connection, batch);
            let rest = visible & !others.covered;
            if self.is_overtaken(slot, topic, batch, rest, others.now)
                // Two subscriptions that hold the same event back would both deliver it.
                || (rest != 0 && !holding.insert(slot))
            {
                self.hub.metrics().limit_reached("filter_overlap");
                self.end_subscription(slot, topic, &overtaken());
            } else if rest != 0 {
                self.hold_back(slot, topic, batch, rest);
            }
        }
    }

    /// True if another subscription of this connection now delivers events of the channel although
    /// this subscription holds back earlier events of it, or is about to.
    fn is_overtaken(&self, slot: u32, topic: u32, batch: &Batch<'_>, rest: u64, now: u64) -> bool {
        if now == 0 {
            return false;
        }
        let newest_sent = now.ilog2();
        if rest != 0 && rest.trailing_zeros() < newest_sent {
            return true;
        }
        let channel = batch.event(0).and_then(|event| event.channel.as_ref());
        let connection = self.connections.get(slot);
        let Some(recovery) = connection.and_then(|c| c.recovery(topic)) else {
            return false;
        };
        let mut waiting = recovery.waiting.iter();
        waiting.any(|waiting| {
            waiting.verdict != Some(Verdict::Kept) && waiting.event.channel.as_ref() == channel
        })
    }

    /// Holds events back until the filter has been evaluated; ends the subscription if they exceed
    /// the limit.
    pub(super) fn hold_back(&mut self, slot: u32, topic: u32, batch: &Batch<'_>, live: u64) {
        if !self.has_room_for(slot, topic, batch, live) {
            self.hub.metrics().limit_reached("outbox_bytes");
            self.end_subscription(slot, topic, &too_much_waits());
        }
    }

    /// Holds back live events of a subscription in recovery whose filter is deferred, if they
    /// follow the events that it has and fit; the others are read from history.
    pub(super) fn keep_behind(
        &mut self,
        slot: u32,
        topic: u32,
        batch: &Batch<'_>,
        fresh: u64,
        visible: u64,
    ) {
        let most = self.settings.outbox_bytes;
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let Some(recoveries) = connection.recoveries.as_mut() else {
            return;
        };
        // Another subscription that must read history waits until no page is in memory.
        let reads =
            |c: &RecoveryState| c.topic != topic && c.loose.is_none() && c.waiting.is_empty();
        if recoveries.iter().any(reads) {
            return;
        }
        let others = recoveries.iter().filter(|c| c.topic != topic);
        let held_by_others: usize = others.filter_map(|c| c.loose.or(c.kept)).sum();
        let Some(recovery) = recoveries.iter_mut().find(|c| c.topic == topic) else {
            return;
        };
        let Some(mut kept) = recovery.kept else {
            return;
        };
        if recovery.reading && recovery.waiting.is_empty() {
            // A page is being read, and will contain everything that waits.
            return;
        }
        if kept == 0 {
            kept = recovery.waiting.iter().map(|w| w.event.weight()).sum();
        }
        let newest = recovery.waiting.back().and_then(|w| w.event.position);
        let mut newest = newest.map_or(recovery.after, |position| position.offset);
        for at in each(fresh) {
            let Some(delivery) = batch.delivery(at) else {
                break;
            };
            let event = Arc::clone(delivery.event());
            let Some(position) = event.position.filter(|p| p.epoch == recovery.epoch) else {
                break;
            };
            if position.offset <= newest {
                continue;
            }
            let held = held_by_others + kept;
            let fits = held == 0 || held + event.weight() <= most;
            if position.offset > newest + 1 || !fits {
                break;
            }
            newest = position.offset;
            kept += event.weight();
            let mut waiting = Waiting::from(event);
            if visible & (1 << at) == 0 {
                // It keeps its place, so that its offset is not reported as a gap; no filter is
                // evaluated.
                waiting.verdict = Some(Verdict::Kept);
            }
            recovery.waiting.push_back(waiting);
        }
        recovery.kept = Some(kept);
    }

    /// Holds events back; false if they do not fit.
    fn has_room_for(&mut self, slot: u32, topic: u32, batch: &Batch<'_>, live: u64) -> bool {
        let most = self.settings.outbox_bytes;
        let was_live = self.is_live(slot, topic);
        let Some(connection) = self.connections.get_mut(slot) else {
            return true;
        };
        let Some(serial) = connection.subscription(topic).map(|s| s.serial) else {
            return true;
        };
        if was_live {
            let recoveries = connection.recoveries.get_or_insert_default();
            recoveries.push(RecoveryState::loose(topic, serial));
            if let Some(subscriber) = self.topics.subscriber_mut(connection, topic) {
                subscriber.live = false;
            }
        }
        let Some(mut held) = connection.held_back() else {
            return true;
        };
        let Some(recovery) = connection.recovery_mut(topic) else {
            // It has not begun yet.
            return true;
        };
        let Some(bytes) = &mut recovery.loose else {
            return true;
        };
        for delivery in each(live).filter_map(|at| batch.delivery(at)) {
            let event = Arc::clone(delivery.event());
            // A single large event must always fit, as in an empty outbox.
            if held > 0 && held + event.weight() > most {
                return false;
            }
            held += event.weight();
            *bytes += event.weight();
            recovery.waiting.push_back(Waiting::from(event));
        }
        true
    }
}

fn too_much_waits() -> Error {
    Error::exhausted(
        "the events that wait for the filter take too many bytes (limits.outbox_bytes)",
    )
}

pub(super) fn overtaken() -> Error {
    Error::exhausted(
        "the filter could not be asked in time, and other subscriptions of this connection to the same channel would overtake this one (filter_overlap)",
    )
}
