//! Recovery: subscriptions that read history before they go live, after a resume or `rewind`, or
//! after a slow connection has drained.
//!
//! A subscription in recovery gets no live events. It reads history up to its topic's position,
//! page by page as the outbox has room, and goes live once it has reached that position. Both
//! happen on one thread, so no event comes between.

use std::sync::Arc;

use super::batch::chunk;
use super::replay_cache::Replays;
use super::{Shard, SubscriptionRef};
use crate::auth::may_see;
use crate::broker::{Page, Range, Share};
use crate::error::Result;
use crate::event::{ChannelPattern, Event, Position};
use crate::hub::command::ShardCommand;
use crate::hub::evaluator::Verdict;
use crate::hub::protocol::Notice;
use crate::hub::shard::connection::{Connection, RecoveryState, Waiting};
use crate::hub::shard::filter_table::NO_FILTER;
use crate::maybe_ready::{BoxFuture, MaybeReady};
use crate::telemetry::DropReason;

/// Events read from history at a time.
const PAGE: usize = 128;

/// The steps of a page apart from filters: reading it, and checking the visibility of its events.
const READ: u64 = 20 * 128;

/// The connections in recovery, and the cache of recently replayed frames.
#[derive(Default)]
pub(super) struct Recovery {
    /// Connections whose recovery continues after this round's events.
    awaiting: Vec<u32>,
    pub(super) replays: Replays,
}

impl Recovery {
    /// Marks a connection whose recovery can continue.
    pub(super) fn schedule(&mut self, slot: u32, connection: &mut Connection) {
        if !connection.flags.awaiting_recovery {
            connection.flags.awaiting_recovery = true;
            self.awaiting.push(slot);
        }
    }

    /// True if no recovery can continue.
    pub(super) fn is_idle(&self) -> bool {
        self.awaiting.is_empty()
    }

    /// The marked connections, in their order.
    fn take(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.awaiting)
    }

    /// Puts connections that had no turn in front of those marked meanwhile.
    fn put_first(&mut self, slots: impl Iterator<Item = u32>) {
        let later = std::mem::replace(&mut self.awaiting, slots.collect());
        self.awaiting.extend(later);
    }
}

/// The next step of a subscription in recovery.
enum Step {
    /// It has reached its topic's position.
    Live,
    /// Events up to this offset must be read.
    Read(u64),
    /// Read events can be sent.
    Send,
    /// The filter must be evaluated on read events.
    Ask,
    /// The topic has not advanced, a page is pending, or the outbox has no room.
    Wait,
}

impl Shard {
    /// Continues the recovery of every marked connection within the round's budget. Connections
    /// that had no turn come first in the next round.
    pub(super) fn run_recovery(&mut self) {
        let mut awaiting = self.recovery.take().into_iter();
        let mut turns = 0;
        while (turns == 0 || !self.budget.slice.is_used_up())
            && let Some(slot) = awaiting.next()
        {
            turns += 1;
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.flags.awaiting_recovery = false;
                self.advance_recoveries(slot);
            }
        }
        self.recovery.put_first(awaiting);
    }

    /// Advances a connection's subscriptions as far as its outbox has room.
    pub(super) fn advance_recoveries(&mut self, slot: u32) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        let topics = connection.next_recoveries();
        for (turns, topic) in topics.into_iter().enumerate() {
            if turns > 0 && self.budget.slice.is_used_up() {
                if let Some(connection) = self.connections.get_mut(slot) {
                    self.recovery.schedule(slot, connection);
                }
                return;
            }
            self.advance_one(slot, topic);
        }
    }

    /// Continues in the next round, after the connection's other subscriptions.
    fn yield_turn(&mut self, slot: u32, topic: u32) {
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.recover_last(topic);
            self.recovery.schedule(slot, connection);
        }
    }

    fn advance_one(&mut self, slot: u32, topic: u32) {
        // One page per round, so that other connections get their turn even if no event passes. A
        // page in memory from an earlier round counts, because otherwise other subscriptions would
        // always find the connection with a page.
        let mut had_page = self
            .recovery(slot, topic)
            .is_some_and(|recovery| !recovery.waiting.is_empty());
        loop {
            match self.next_step(slot, topic) {
                Step::Wait => return,
                Step::Read(_) if had_page => return self.yield_turn(slot, topic),
                Step::Ask => {
                    self.keep_back_invisible(slot, topic);
                    if !self.evaluate_here(slot, topic) {
                        self.evaluate_off_shard(slot, topic);
                        return;
                    }
                }
                Step::Live => {
                    self.end_recovery(slot, topic);
                    self.go_live(slot, topic);
                    return;
                }
                Step::Send => self.send_waiting(slot, topic),
                Step::Read(until) => {
                    had_page = true;
                    self.budget.slice.take(READ);
                    let Some(page) = self.read_page(slot, topic, until) else {
                        return;
                    };
                    match page {
                        MaybeReady::Ready(page) => self.take_page(slot, topic, page),
                        MaybeReady::Pending(page) => {
                            self.wait_for_page(slot, topic, page);
                            return;
                        }
                    }
                }
            }
        }
    }

    pub(super) fn recovery(&mut self, slot: u32, topic: u32) -> Option<&mut RecoveryState> {
        self.connections.get_mut(slot)?.recovery_mut(topic)
    }

    fn next_step(&self, slot: u32, topic: u32) -> Step {
        let room = self.settings.outbox_bytes / 2;
        let Some(connection) = self.connections.get(slot) else {
            return Step::Wait;
        };
        let has_room = connection.outbox.bytes() < room.max(1) && !connection.flags.pending_close;
        let position = self.topics.get(topic).and_then(|t| t.position);
        let asks = self
            .filter_of(slot, topic)
            .is_some_and(|filter| filter != NO_FILTER);
        let others_have_pages = connection.others_have_pages(topic, asks);
        let Some(recovery) = connection.recovery(topic) else {
            return match position {
                Some(_) => Step::Wait,
                None => Step::Live,
            };
        };
        if recovery.reading {
            return Step::Wait;
        }
        let until = match (recovery.loose, position) {
            (Some(_), _) if recovery.waiting.is_empty() => return Step::Live,
            (Some(_), _) => None,
            (None, None) => return Step::Live,
            (None, Some(position)) if recovery.after == position.offset => return Step::Live,
            (None, Some(position)) => Some(position.offset),
        };
        if !has_room || until.is_some_and(|until| recovery.after > until) {
            return Step::Wait;
        }
        match (recovery.waiting.front(), until) {
            (Some(first), _) if asks && first.verdict.is_none() => Step::Ask,
            (None, Some(_)) if others_have_pages => Step::Wait,
            (None, Some(until)) => Step::Read(until),
            _ => Step::Send,
        }
    }

    fn read_page(&mut self, slot: u32, topic: u32, until: u64) -> Option<MaybeReady<Option<Page>>> {
        let after = self.recovery(slot, topic)?.after;
        let ChannelPattern::Exact(channel) = &self.topics.get(topic)?.pattern else {
            return None;
        };
        let range = Range {
            after,
            until,
            // A larger page would only wait for the outbox.
            bytes: self.settings.outbox_bytes / 2,
            ..Range::all(PAGE)
        };
        let identity = self.connections.get(slot)?.identity.as_deref();
        let share = Share::of_identity(identity);
        Some(self.hub.broker().read_for(share, channel, range))
    }

    fn wait_for_page(&mut self, slot: u32, topic: u32, page: BoxFuture<Result<Option<Page>>>) {
        let Some(subscription) = self.begin_reading(slot, topic) else {
            return;
        };
        self.send_later(async move {
            ShardCommand::HistoryPage {
                subscription,
                page: page.await,
            }
        });
    }

    /// A page of history has arrived, after the shard continued without it.
    pub(super) fn history_page(
        &mut self,
        subscription: SubscriptionRef,
        page: Result<Option<Page>>,
    ) {
        let topic = subscription.topic;
        let Some(slot) = self.connections.find(subscription.connection) else {
            return;
        };
        if self.end_reading(slot, subscription) {
            self.take_page(slot, topic, page);
            self.send_waiting(slot, topic);
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.recover_last(topic);
            }
        }
        // The connection's other subscriptions waited for this page, even if it is useless now.
        self.advance_recoveries(slot);
    }

    /// Records that a page or a verdict for this subscription is pending off the shard.
    pub(super) fn begin_reading(&mut self, slot: u32, topic: u32) -> Option<SubscriptionRef> {
        let connection = self.connections.id(slot)?;
        let recovery = self.recovery(slot, topic)?;
        recovery.reading = true;
        Some(SubscriptionRef {
            connection,
            topic,
            serial: recovery.serial,
        })
    }

    /// The page or verdict has arrived. False if the subscription has ended meanwhile.
    pub(super) fn end_reading(&mut self, slot: u32, subscription: SubscriptionRef) -> bool {
        let recovery = self.recovery(slot, subscription.topic);
        let same = recovery.filter(|recovery| recovery.serial == subscription.serial);
        same.map(|recovery| recovery.reading = false).is_some()
    }

    /// A page of history has arrived.
    fn take_page(&mut self, slot: u32, topic: u32, page: Result<Option<Page>>) {
        let until = self
            .topics
            .get(topic)
            .and_then(|t| t.position)
            .map_or(0, |p| p.offset);
        let epoch = self.recovery(slot, topic).map(|recovery| recovery.epoch);
        match page {
            Ok(Some(page)) if Some(page.top.epoch) != epoch => self.renumber(topic, page.top),
            Ok(Some(page)) if !page.events.is_empty() => {
                if let Some(recovery) = self.recovery(slot, topic) {
                    recovery.waiting = page.events.into_iter().map(Waiting::from).collect();
                }
            }
            // The events have expired: report the gap.
            Ok(_) => self.skip(slot, topic, until, "expired"),
            Err(error) => {
                let connection_id = self.connections.id(slot).map(tracing::field::display);
                tracing::warn!(connection_id, %error, "history could not be read");
                self.skip(slot, topic, until, "unavailable");
            }
        }
    }

    /// Moves read events into the outbox, as long as it has room.
    fn send_waiting(&mut self, slot: u32, topic: u32) {
        let room = self.settings.outbox_bytes / 2;
        let asks = self
            .filter_of(slot, topic)
            .is_some_and(|filter| filter != NO_FILTER);
        loop {
            let full = |c: &Connection| c.outbox.bytes() >= room.max(1) || c.flags.pending_close;
            if self.connections.get(slot).is_none_or(full) {
                return;
            }
            let Some(recovery) = self.recovery(slot, topic) else {
                return;
            };
            let unasked = |first: &Waiting| first.verdict.is_none();
            if asks && recovery.waiting.front().is_some_and(unasked) {
                return;
            }
            let Some(Waiting { event, verdict }) = recovery.waiting.pop_front() else {
                return;
            };
            recovery.let_go(&event);
            if recovery.loose.is_none() {
                let Some(offset) = event.position.map(|p| p.offset) else {
                    continue;
                };
                let expected = recovery.after + 1;
                recovery.after = offset;
                if offset > expected {
                    self.notify_gap(slot, topic, expected, offset - 1, "expired");
                }
            }
            // Its roles may have changed since the filter was evaluated.
            if verdict == Some(Verdict::Kept) || !self.is_visible(slot, &event) {
                continue;
            }
            match verdict {
                None | Some(Verdict::Passes) => self.replay_event(slot, topic, &event),
                Some(Verdict::Kept) => {}
                Some(Verdict::Costly) => self.notify_costly(slot, topic, &event),
            }
        }
    }

    /// Excludes events that the connection may not see before its filter is evaluated: the filter's
    /// cost, and notices about it, must reveal nothing about them.
    fn keep_back_invisible(&mut self, slot: u32, topic: u32) {
        let id = self.connections.id(slot);
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let identity = connection.identity.clone();
        let identity = identity.as_deref();
        let Some(recovery) = connection.recovery_mut(topic) else {
            return;
        };
        for waiting in &mut recovery.waiting {
            let event = &waiting.event;
            if waiting.verdict.is_none()
                && !may_see(
                    event,
                    self.hub.type_roles(&event.event_type).as_deref(),
                    identity,
                    id,
                )
            {
                // It keeps its place, so that its offset is not reported as a gap.
                waiting.verdict = Some(Verdict::Kept);
            }
        }
    }

    fn is_visible(&self, slot: u32, event: &Event) -> bool {
        let roles = self.hub.type_roles(&event.event_type);
        let connection = self.connections.get(slot);
        let identity = connection.and_then(|c| c.identity.as_deref());
        may_see(event, roles.as_deref(), identity, self.connections.id(slot))
    }

    pub(super) fn replay_event(&mut self, slot: u32, topic: u32, event: &Arc<Event>) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        // A pattern has events of several channels, which an epoch and an offset do not tell apart.
        let numbering = self
            .topics
            .get(topic)
            .filter(|topic| matches!(topic.pattern, ChannelPattern::Exact(_)))
            .map(|topic| topic.serial);
        let frame = if let (Some(numbering), true) = (numbering, event.position.is_some()) {
            self.recovery
                .replays
                .frame(numbering, event, connection.dialect, &*connection.protocol)
        } else {
            chunk(event, connection.protocol.event(event))
        };
        self.writer.push(connection, frame, Some(topic));
        connection.delivered += 1;
        self.metrics.delivered(connection.transport, 1);
        self.writer.touch(slot, connection);
    }

    /// Reports events that cannot be read, and continues after them.
    pub(super) fn skip(&mut self, slot: u32, topic: u32, until: u64, reason: &'static str) {
        let Some(recovery) = self.recovery(slot, topic) else {
            return;
        };
        let from = recovery.after + 1;
        recovery.after = until;
        if from <= until {
            self.notify_gap(slot, topic, from, until, reason);
        }
    }

    pub(super) fn notify_gap(
        &mut self,
        slot: u32,
        topic: u32,
        from: u64,
        to: u64,
        reason: &'static str,
    ) {
        let Some(channel) = self.topics.get(topic).map(|t| t.pattern.to_string()) else {
            return;
        };
        let missing = to.saturating_sub(from).saturating_add(1);
        self.hub.metrics().dropped(DropReason::NoHistory, missing);
        self.notify(
            slot,
            &Notice::Gap {
                channel: &channel,
                from,
                to,
                reason,
            },
        );
    }

    fn end_recovery(&mut self, slot: u32, topic: u32) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        connection.end_recovery(topic);
    }

    /// Applies the policy `resync` to a slow connection: live delivery of the topic stops after
    /// `after`, and continues from history once the outbox drains.
    pub(super) fn resync(&mut self, slot: u32, topic: u32, after: u64) {
        let Some(position) = self.topics.get(topic).and_then(|t| t.position) else {
            // A pattern has no history to read.
            return self.too_slow(slot);
        };
        if !self.begin_recovery(
            slot,
            topic,
            Position {
                offset: after,
                ..position
            },
        ) {
            return;
        }
        self.hub.metrics().slow_consumer();
        self.set_live(slot, topic, false);
    }

    /// From now on the subscription reads history after `after`; false if it ends anyway.
    pub(super) fn begin_recovery(&mut self, slot: u32, topic: u32, after: Position) -> bool {
        let connection = self.connections.get_mut(slot);
        connection.is_some_and(|connection| connection.begin_recovery(topic, after))
    }

    /// Events after this position are missing: the channel's subscribers read them from history
    /// first.
    pub(super) fn recover_all(&mut self, topic: u32, after: Position) {
        let Some(entry) = self.topics.get(topic) else {
            return;
        };
        let subscribers: Vec<(u32, bool)> = entry
            .subscribers
            .iter()
            .map(|s| (s.connection, s.live))
            .collect();
        for (slot, live) in subscribers {
            if live && self.begin_recovery(slot, topic, after) {
                self.set_live(slot, topic, false);
            }
            if let Some(connection) = self.connections.get_mut(slot) {
                self.recovery.schedule(slot, connection);
            }
        }
    }

    /// A channel has a new epoch, and is live from `position` on. It is unknown what its
    /// subscribers missed, so each is told to reload its state.
    pub(super) fn renumber(&mut self, topic: u32, position: Position) {
        let serial = self.topics.next_serial();
        let Some(entry) = self.topics.get_mut(topic) else {
            return;
        };
        let before = entry.position.replace(position);
        if let Some(before) = before.filter(|before| before.epoch != position.epoch) {
            entry.former = Some(before.epoch);
        }
        entry.serial = serial;
        let channel = entry.pattern.to_string();
        let slots: Vec<u32> = entry.subscribers.iter().map(|s| s.connection).collect();
        for slot in slots {
            // A subscription that has not begun is notified when it begins.
            let begun = self.recovery(slot, topic).is_some() || self.is_live(slot, topic);
            if begun {
                self.end_recovery(slot, topic);
                self.answer_from(slot, topic, position.offset);
                if let Some(connection) = self.connections.get_mut(slot) {
                    // Queued events are of the old epoch: a gap among them can no longer be
                    // reported.
                    connection.outbox.settle_channel(topic);
                }
                self.notify(
                    slot,
                    &Notice::Renumbered {
                        channel: &channel,
                        position,
                    },
                );
                self.go_live(slot, topic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::shard::fixture::connection;

    #[test]
    fn connection_without_a_turn_goes_first_in_the_next_round() {
        let mut recovery = Recovery::default();
        let mut connections = [(); 3].map(|()| connection(None));
        for (slot, connection) in (0..).zip(&mut connections) {
            recovery.schedule(slot, connection);
            recovery.schedule(slot, connection);
        }
        let mut awaiting = recovery.take().into_iter();
        assert_eq!(awaiting.next(), Some(0));
        connections[0].flags.awaiting_recovery = false;
        recovery.schedule(0, &mut connections[0]);
        recovery.put_first(awaiting);
        assert_eq!(recovery.take(), [1, 2, 0]);
        assert!(recovery.is_idle());
    }
}
