//! Fan-out: a batch of events to its subscribers.

use std::sync::Arc;

use super::Shard;
use super::batch::{Batch, each};
use super::connections::Connections;
use super::deliver_one::{BatchWriter, Outcome, Put};
use super::held_back::HeldBack;
use super::overlap_merger::OverlapMerger;
use super::topics::{Advance, Topics};
use super::writer::PendingClose;
use crate::event::{Audience, ChannelName, ChannelPattern, ConnectionId, Position, SlowConsumer};
use crate::filter::EventFilter;
use crate::hub::delivery::Delivery;
use crate::hub::shard::connection::Connection;
use crate::hub::shard::filter_table::{FilterTable, NO_FILTER};
use crate::telemetry::Transport;

/// The channel whose `event_types` also narrow direct events to roles.
const GLOBAL: &str = "global";

impl Shard {
    /// Adds an event to the pending batch, after fanning the batch out if the event cannot join it.
    pub(super) fn gather(&mut self, delivery: Arc<Delivery>) {
        if !self.batches.gathered.takes(&delivery) {
            self.fan_out(false);
        }
        self.batches.gathered.push(delivery);
    }

    /// Fans the pending batch out. With `last`, no batch follows in this round, so sockets are
    /// written directly.
    pub(super) fn fan_out(&mut self, last: bool) {
        let deliveries = self.batches.gathered.take();
        let Some(first) = deliveries.first() else {
            return;
        };
        self.batches.number += 1;
        let hub = Arc::clone(&self.hub);
        let mut batch = Batch::new(&deliveries, self.batches.number, self.index, &hub);
        let mut outcome = Outcome::default();
        let event = Arc::clone(first.event());
        match (&event.channel, &event.audience) {
            (Some(channel), _) => {
                let end = deliveries.last().and_then(|last| last.event().position);
                let fresh = self.advance_topic(channel, &batch, end);
                self.fan_out_channel(&mut batch, channel, fresh, last, &mut outcome);
            }
            (None, Some(audience)) => {
                self.fan_out_direct(&mut batch, audience, &mut outcome);
            }
            (None, None) => {}
        }
        drop(batch);
        self.count(&deliveries, &outcome);
        self.batches.gathered.give_back(deliveries);
    }

    fn count(&mut self, deliveries: &[Arc<Delivery>], outcome: &Outcome) {
        for (transport, count) in Transport::ALL.into_iter().zip(outcome.by_transport) {
            if count > 0 {
                self.metrics.delivered(transport, count);
            }
        }
        if outcome.all_filtered > 0 {
            self.metrics.filtered(outcome.all_filtered);
        }
        for (delivery, at) in deliveries.iter().zip(0..) {
            let (delivered, filtered, dropped) = outcome.of(at);
            delivery.count(delivered, filtered, dropped);
            self.batches
                .delivered
                .push((Arc::clone(delivery), delivered));
        }
    }

    /// `fresh` are the events that the channel's own subscribers have not read from history.
    /// Subscribers of a pattern read no history, so all events are new to them.
    fn fan_out_channel(
        &mut self,
        batch: &mut Batch<'_>,
        channel: &ChannelName,
        fresh: u64,
        last: bool,
        outcome: &mut Outcome,
    ) {
        let topics = self.topics.matching(channel);
        let Shard {
            topics: places,
            connections,
            filters,
            recovery,
            throttles,
            ..
        } = self;
        let (now, mut conflated) = (self.time.now, 0);
        let most = self.settings.connections_per_event;
        let policy = self.hub.namespaces().of(channel).slow_consumer;
        let mut out = BatchWriter {
            batch,
            shard: self.index,
            samples: &mut self.sampling.samples,
            policy,
            limit: self.settings.outbox_bytes,
            topics: places,
            writer: &mut self.writer,
            metrics: &self.metrics,
            slice: &self.budget.slice,
            overlaps: &self.budget.overlaps,
            limits: &self.settings.filters,
            now_us: self.budget.now_us,
            hub: &self.hub,
            outcome,
        };
        // Subscriptions whose filters the budget does not suffice to evaluate.
        let mut behind: Vec<(u32, u32, u64, u64)> = Vec::new();
        let mut held = HeldBack::default();
        let mut merger = OverlapMerger::of(out.batch.all(), topics, places, connections);
        let mut pass = WritePass {
            last,
            too_slow: Vec::new(),
        };
        for (by_name, place) in (0..)
            .zip(topics)
            .filter_map(|(n, place)| Some((n == 0, place?)))
        {
            let Some(topic) = places.get(place) else {
                continue;
            };
            let channel = matches!(topic.pattern, ChannelPattern::Exact(_)).then_some(place);
            let mut sampler = out.sampler(topic.subscribers.len(), most);
            let mut next_sample = sampler.next();
            for (at, subscriber) in topic.subscribers.iter().enumerate() {
                let slot = subscriber.connection;
                let is_sampled = at == next_sample;
                if is_sampled {
                    next_sample = sampler.next();
                }
                let Some(connection) = connections.get_mut(slot) else {
                    continue;
                };
                let live = if by_name { fresh } else { out.batch.all() };
                if !subscriber.live {
                    recovery.schedule(slot, connection);
                    // Other events are filtered when they are read from history.
                    if held.takes(slot, place, connection, live, out.batch)
                        || (subscriber.filter != NO_FILTER && subscribed_once(connection, topics))
                    {
                        continue;
                    }
                }
                let due = out.due_in_time(slot, connection, subscriber, live, filters, topics);
                let Some(set) = due else {
                    let seen = out.batch.visible(slot, connection);
                    behind.push((slot, place, live, live & seen));
                    continue;
                };
                let set = if subscriber.throttled && set != 0 {
                    let whose = (slot, place);
                    throttles.take(whose, set, out.batch, now, out.limit, &mut conflated)
                } else {
                    set
                };
                held.sent(slot, set, connection);
                if set == 0 || merger.add(slot, set, channel, is_sampled) {
                    continue;
                }
                pass.take(slot, connection, set, channel, is_sampled, &mut out);
                if out.writer.is_full() {
                    out.writer.submit_direct(connections);
                }
            }
            out.writer.submit_direct(connections);
        }
        pass.share_out(merger, connections, &mut out);
        let too_slow = pass.too_slow;
        self.count_conflated(conflated);
        for (slot, place, fresh, visible) in behind {
            self.defer_filter(slot, place, topics, batch, [fresh, visible]);
        }
        self.hold_back_each(&held, batch);
        for (slot, topic) in too_slow {
            match topic {
                Some((topic, offset)) => self.resync(slot, topic, offset.saturating_sub(1)),
                None => self.too_slow(slot),
            }
        }
    }

    /// Fans an event without a channel out to the connections of its audience.
    fn fan_out_direct(
        &mut self,
        batch: &mut Batch<'_>,
        audience: &Audience,
        outcome: &mut Outcome,
    ) {
        let mut slots: Vec<u32> = Vec::new();
        if audience.roles.is_empty() {
            for user in &audience.users {
                slots.extend(self.connections.of_user(user));
            }
            slots.extend(
                audience
                    .connections
                    .iter()
                    .filter_map(|id| self.connections.find(*id)),
            );
        } else {
            slots.extend(self.connections.iter().map(|(slot, _)| slot));
        }
        let narrowed = self.narrowing(audience);
        let most = self.settings.connections_per_event;
        let mut out = BatchWriter {
            batch,
            shard: self.index,
            samples: &mut self.sampling.samples,
            policy: SlowConsumer::Disconnect,
            limit: self.settings.outbox_bytes,
            topics: &self.topics,
            writer: &mut self.writer,
            metrics: &self.metrics,
            slice: &self.budget.slice,
            overlaps: &self.budget.overlaps,
            limits: &self.settings.filters,
            now_us: self.budget.now_us,
            hub: &self.hub,
            outcome,
        };
        let mut sampler = out.sampler(slots.len(), most);
        let mut next_sample = sampler.next();
        for (at, slot) in slots.into_iter().enumerate() {
            let is_sampled = at == next_sample;
            if is_sampled {
                next_sample = sampler.next();
            }
            let Some(connection) = self.connections.get_mut(slot) else {
                continue;
            };
            if connection.last_batch == out.batch.number()
                || connection.ending.is_some()
                || connection.flags.pending_close
            {
                continue;
            }
            let mut set = out.batch.visible(slot, connection);
            if let Some(global) = narrowed
                && !is_named(
                    audience,
                    ConnectionId::new(out.shard, slot, connection.nonce),
                    connection,
                )
            {
                set &= wanted_types(global, connection, out.topics, &self.filters, out.batch);
            }
            if set == 0 {
                continue;
            }
            connection.last_batch = out.batch.number();
            let put = if is_sampled {
                out.put_sampled(slot, connection, set, None)
            } else {
                out.put(connection, set, None)
            };
            if let Put::Resync(_) | Put::Close = put {
                connection.flags.pending_close = true;
                out.writer.close_later(slot, PendingClose::TooSlow);
            }
            out.writer.touch(slot, connection);
        }
    }

    /// The topic whose `event_types` narrow an event for this audience: that of `global` if the event
    /// is for roles, because such an event is a broadcast to all holders of a role.
    pub(super) fn narrowing(&self, audience: &Audience) -> Option<u32> {
        if audience.roles.is_empty() {
            return None;
        }
        let global = ChannelName::new(GLOBAL).ok()?;
        self.topics.of_channel(&global)
    }

    /// Advances the topic's position over the batch, and returns the events that are new: the
    /// others precede the position that the first subscriber looked up.
    fn advance_topic(
        &mut self,
        channel: &ChannelName,
        batch: &Batch<'_>,
        end: Option<Position>,
    ) -> u64 {
        let all = batch.all();
        let (Some(start), Some(end)) = (batch.start(), end) else {
            return all;
        };
        let Some(place) = self.topics.of_channel(channel) else {
            return all;
        };
        match self.topics.advance(place, start, end) {
            Advance::First => all,
            Advance::After(offset) => batch.behind(offset),
            Advance::Known => 0,
            Advance::Former => {
                self.check_position_soon(place);
                0
            }
            Advance::NewEpoch => {
                let offset = start.offset.saturating_sub(1);
                self.renumber(place, Position { offset, ..start });
                if let Some(topic) = self.topics.get_mut(place) {
                    topic.position = Some(end);
                }
                all
            }
            Advance::Gap(before) => {
                // All subscribers read the missing events from history first.
                self.recover_all(place, before);
                batch.behind(before.offset)
            }
        }
    }
}

/// True if the audience names this connection or its user, not only its roles.
pub(super) fn is_named(audience: &Audience, id: ConnectionId, connection: &Connection) -> bool {
    let user = connection.user();
    audience.connections.contains(&id)
        || user.is_some_and(|user| audience.users.iter().any(|named| &**named == user))
}

/// The events of the batch whose types the connection's subscription to `global` accepts.
fn wanted_types(
    global: u32,
    connection: &Connection,
    topics: &Topics,
    filters: &FilterTable,
    batch: &Batch<'_>,
) -> u64 {
    let Some(filter) = type_filter(global, connection, topics, filters) else {
        return u64::MAX;
    };
    let wants = |at: &usize| {
        let event = batch.event(*at);
        event.is_some_and(|event| filter.wants(event))
    };
    each(batch.all())
        .filter(wants)
        .fold(0, |set, at| set | 1 << at)
}

/// The filter of the connection's subscription to `global`.
pub(super) fn type_filter<'f>(
    global: u32,
    connection: &Connection,
    topics: &Topics,
    filters: &'f FilterTable,
) -> Option<&'f Arc<EventFilter>> {
    let subscriber = topics.subscriber(connection, global)?;
    filters.get(subscriber.filter)
}

/// How one batch is written.
struct WritePass {
    /// No batch follows in this round.
    last: bool,
    /// Handled before the next batch, because that batch would overtake the events that did not
    /// fit.
    too_slow: Vec<(u32, Option<(u32, u64)>)>,
}

impl WritePass {
    /// Delivers these events to one connection: directly to its socket if its outbox is empty, or
    /// else through the outbox. `channel` is their topic if the subscription is to the channel
    /// itself.
    fn take(
        &mut self,
        slot: u32,
        connection: &mut Connection,
        set: u64,
        channel: Option<u32>,
        is_sampled: bool,
        out: &mut BatchWriter<'_, '_>,
    ) {
        if self.last
            && !is_sampled
            && connection.is_plain()
            && connection.takes_at_once()
            && let Some(frame) = out.batch.made(connection.dialect, set)
        {
            out.writer.send_directly(slot, frame, channel);
            connection.bytes_out += u64::try_from(frame.len()).unwrap_or(0);
            out.count(connection, set);
            return;
        }
        let put = if is_sampled {
            out.put_sampled(slot, connection, set, channel)
        } else {
            out.put(connection, set, channel)
        };
        match put {
            Put::Done => {}
            Put::Resync(offset) => {
                let from = channel.map(|channel| (channel, offset));
                self.too_slow.push((slot, from));
            }
            Put::Close => self.too_slow.push((slot, None)),
        }
        if self.last && connection.is_plain() {
            if !out.writer.flush(connection) {
                out.writer.close_later(slot, PendingClose::Gone);
            }
            if is_sampled {
                out.written();
            }
        } else {
            out.writer.touch(slot, connection);
        }
    }

    /// Delivers the merged events of overlapping subscriptions.
    fn share_out(
        &mut self,
        merger: OverlapMerger,
        connections: &mut Connections,
        out: &mut BatchWriter<'_, '_>,
    ) {
        for (slot, share) in merger.shares() {
            let Some(connection) = connections.get_mut(slot) else {
                continue;
            };
            // Events of a pattern cannot be read from history if they do not fit.
            let channel = share
                .channel
                .filter(|_| !share.by_pattern || out.policy != SlowConsumer::Resync);
            let (set, is_sampled) = (share.set, share.is_sampled);
            self.take(slot, connection, set, channel, is_sampled, out);
            out.writer.submit_direct(connections);
        }
    }
}

/// True if the connection is subscribed to only one of these topics.
pub(super) fn subscribed_once(connection: &Connection, topics: [Option<u32>; 3]) -> bool {
    let follows = connection.subscriptions.iter();
    let ways = follows.filter(|one| topics.contains(&Some(one.topic)));
    ways.count() == 1
}
