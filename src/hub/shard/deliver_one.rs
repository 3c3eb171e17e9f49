//! Delivers a batch to one connection: selects its events, and makes room for them in its outbox.

use std::sync::Arc;
use std::time::Instant;

use super::batch::{Batch, MAX_BATCH, count, each};
use super::fanout::subscribed_once;
use super::sampling::{DeliverySampler, Sample};
use super::topics::{Subscriber, Topics};
use super::writer::Writer;
use crate::event::{ChannelPattern, ConnectionId, SlowConsumer};
use crate::filter::FilterLimits;
use crate::hub::Hub;
use crate::hub::filter_budget::{EvalContext, Slice};
use crate::hub::protocol::Notice;
use crate::hub::shard::chunk::{Chunk, Frame};
use crate::hub::shard::connection::Connection;
use crate::hub::shard::filter_table::{FilterTable, NO_FILTER};
use crate::hub::shard::outbox::Missing;
use crate::hub::shard::overflow::{RoomRequest, conflates_at};
use crate::telemetry::{DropReason, ShardMetrics, Transport};

/// The result of a batch on one shard.
pub(super) struct Outcome {
    /// Connections that got the whole batch.
    whole: u32,
    /// How many other connections got each event.
    delivered: [u32; MAX_BATCH],
    filtered: [u32; MAX_BATCH],
    dropped: [u32; MAX_BATCH],
    pub(super) all_filtered: u64,
    pub(super) by_transport: [u64; Transport::COUNT],
}

impl Default for Outcome {
    fn default() -> Self {
        Outcome {
            whole: 0,
            delivered: [0; MAX_BATCH],
            filtered: [0; MAX_BATCH],
            dropped: [0; MAX_BATCH],
            all_filtered: 0,
            by_transport: [0; Transport::COUNT],
        }
    }
}

impl Outcome {
    /// How often an event was delivered, filtered and dropped.
    pub(super) fn of(&self, at: usize) -> (u32, u32, u32) {
        let read = |counts: &[u32; MAX_BATCH]| counts.get(at).copied().unwrap_or(0);
        (
            self.whole + read(&self.delivered),
            read(&self.filtered),
            read(&self.dropped),
        )
    }

    fn add(&mut self, transport: Transport, set: u64, all: u64) {
        if set == all {
            self.whole += 1;
        } else {
            note(&mut self.delivered, set);
        }
        let [websocket, socketio, sse, grpc] = &mut self.by_transport;
        *match transport {
            Transport::WebSocket => websocket,
            Transport::SocketIo => socketio,
            Transport::Sse => sse,
            Transport::Grpc => grpc,
        } += u64::from(count(set));
    }
}

fn note(counts: &mut [u32; MAX_BATCH], set: u64) {
    for at in each(set) {
        if let Some(count) = counts.get_mut(at) {
            *count += 1;
        }
    }
}

/// The outcome of putting events into an outbox.
pub(super) enum Put {
    Done,
    /// From this offset on, the subscription reads history.
    Resync(u64),
    Close,
}

/// Writes a batch to one connection after another.
pub(super) struct BatchWriter<'h, 'd> {
    pub(super) batch: &'h mut Batch<'d>,
    pub(super) shard: u16,
    pub(super) samples: &'h mut Vec<Sample>,
    pub(super) policy: SlowConsumer,
    pub(super) limit: usize,
    pub(super) topics: &'h Topics,
    pub(super) writer: &'h mut Writer,
    pub(super) metrics: &'h ShardMetrics,
    pub(super) slice: &'h Slice,
    /// For filters that cannot be deferred.
    pub(super) overlaps: &'h Slice,
    pub(super) limits: &'h FilterLimits,
    /// Microseconds on the clock of the hub.
    pub(super) now_us: u64,
    pub(super) hub: &'h Hub,
    pub(super) outcome: &'h mut Outcome,
}

impl BatchWriter<'_, '_> {
    /// As [`BatchWriter::due`]. Where the connection has another subscription that matches the
    /// channel, the filter gets a larger budget: deferring it would let the other subscription's
    /// events overtake this one's.
    pub(super) fn due_in_time(
        &mut self,
        slot: u32,
        connection: &mut Connection,
        subscriber: &Subscriber,
        live: u64,
        filters: &mut FilterTable,
        topics: [Option<u32>; 3],
    ) -> Option<u64> {
        let due = self.due(slot, connection, subscriber, live, filters);
        if due.is_some() || subscribed_once(connection, topics) {
            return due;
        }
        let usual = std::mem::replace(&mut self.slice, self.overlaps);
        let due = self.due(slot, connection, subscriber, live, filters);
        self.slice = usual;
        due
    }

    /// The events that a subscriber gets now; `live` are those that are new to it. Events that its
    /// connection gets through another subscription, or reads from history, are left out. `None` if
    /// the budget does not suffice for its filter.
    fn due(
        &mut self,
        slot: u32,
        connection: &mut Connection,
        subscriber: &Subscriber,
        live: u64,
        filters: &mut FilterTable,
    ) -> Option<u64> {
        if connection.flags.pending_close {
            return Some(0);
        }
        // Without a filter, no further cache line is touched.
        let meter = match subscriber.filter {
            NO_FILTER => None,
            _ => connection.meter().map(|meter| &**meter),
        };
        let asking = EvalContext {
            slice: self.slice,
            meter,
            limits: self.limits,
            now_us: self.now_us,
            metrics: self.metrics,
        };
        let visible = self.batch.visible(slot, connection);
        let passing = self
            .batch
            .passing(visible, subscriber.filter, filters, &asking)?;
        if connection.last_batch != self.batch.number() {
            connection.last_batch = self.batch.number();
            connection.covered = 0;
        }
        let live = if subscriber.live { live } else { 0 };
        if live != self.batch.all() {
            // These come from history, so a pattern must not deliver them.
            connection.covered |= passing & !live & self.batch.behind(subscriber.from);
        }
        let wanted = live & !connection.covered;
        let filtered = wanted & !passing;
        if filtered != 0 {
            note(&mut self.outcome.filtered, filtered);
            self.outcome.all_filtered += u64::from(count(filtered));
        }
        connection.covered |= wanted & passing;
        Some(wanted & passing)
    }

    /// Puts events into an outbox, or applies the namespace's policy for slow consumers.
    pub(super) fn put(&mut self, connection: &mut Connection, set: u64, topic: Option<u32>) -> Put {
        if let Some(frame) = self
            .batch
            .joined(connection.dialect, &connection.protocol, set)
            && self.has_room(connection, frame.len())
        {
            self.push(connection, frame, topic, set);
            return Put::Done;
        }
        self.put_each(connection, set, topic, None)
    }

    /// As [`BatchWriter::put`], one by one, and records a sample of each sampled event.
    pub(super) fn put_sampled(
        &mut self,
        slot: u32,
        connection: &mut Connection,
        set: u64,
        topic: Option<u32>,
    ) -> Put {
        if set & self.batch.watched() == 0 {
            return self.put(connection, set, topic);
        }
        let id = ConnectionId::new(self.shard, slot, connection.nonce);
        self.put_each(connection, set, topic, Some(id))
    }

    fn put_each(
        &mut self,
        connection: &mut Connection,
        set: u64,
        topic: Option<u32>,
        sampled: Option<ConnectionId>,
    ) -> Put {
        for at in each(set) {
            let asking = match sampled {
                Some(_) => self.batch.asking(&connection.protocol, at),
                None => None,
            };
            let asked = asking.is_some();
            let frame = asking.or_else(|| {
                self.batch
                    .single(connection.dialect, &connection.protocol, at)
            });
            let Some(frame) = frame else { continue };
            let one = 1 << at;
            if self.has_room(connection, frame.len()) {
                self.push(connection, frame, topic, one);
                self.look(sampled, connection, at, asked);
                continue;
            }
            let kept = match (self.policy, topic) {
                (SlowConsumer::DropOldest | SlowConsumer::Conflate, Some(topic)) => {
                    self.hub.metrics().slow_consumer();
                    self.make_room(connection, topic, &frame)
                }
                _ => false,
            };
            if kept {
                self.push(connection, frame, topic, one);
                self.look(sampled, connection, at, asked);
                continue;
            }
            note(&mut self.outcome.dropped, one);
            // Another subscription must not deliver the rest either.
            connection.covered = u64::MAX;
            let offset = self.batch.event(at).and_then(|event| event.position);
            return match (self.policy, offset) {
                (SlowConsumer::Resync, Some(position)) => Put::Resync(position.offset),
                _ => Put::Close,
            };
        }
        Put::Done
    }

    fn push(&mut self, connection: &mut Connection, frame: Frame, topic: Option<u32>, set: u64) {
        self.writer.push(connection, frame, topic);
        self.count(connection, set);
    }

    /// Counts these events as delivered.
    pub(super) fn count(&mut self, connection: &mut Connection, set: u64) {
        connection.delivered += u64::from(count(set));
        self.outcome
            .add(connection.transport, set, self.batch.all());
    }

    /// The sampled subscribers of this many; none if no event of the batch is sampled.
    pub(super) fn sampler(&self, here: usize, most: usize) -> DeliverySampler {
        let first = each(self.batch.watched()).next();
        match first.and_then(|at| self.batch.delivery(at)) {
            Some(delivery) => DeliverySampler::choose(here, delivery.subscribers(), most),
            None => DeliverySampler::NONE,
        }
    }

    fn look(
        &mut self,
        sampled: Option<ConnectionId>,
        connection: &Connection,
        at: usize,
        asked: bool,
    ) {
        if let (Some(id), Some(delivery)) = (sampled, self.batch.delivery(at))
            && delivery.is_watched()
        {
            self.samples.push(Sample {
                connection: id,
                transport: connection.transport,
                delivery: Arc::clone(delivery),
                asked,
                put: Instant::now(),
                written: None,
            });
        }
    }

    /// The last samples are written already.
    pub(super) fn written(&mut self) {
        let now = Instant::now();
        let unwritten = |sample: &&mut Sample| sample.written.is_none();
        let last = self.samples.iter_mut().rev().take_while(unwritten);
        last.for_each(|sample| sample.written = Some(now));
    }

    /// True if there is room, at once or after a write: the outbox may be full only because this
    /// round has not been written.
    fn has_room(&mut self, connection: &mut Connection, len: usize) -> bool {
        self.fits(connection, len) || (self.writer.flush(connection) && self.fits(connection, len))
    }

    /// An empty outbox takes any frame, or a large event could never be sent.
    fn fits(&self, connection: &Connection, len: usize) -> bool {
        let limit = match self.policy {
            SlowConsumer::Conflate => conflates_at(self.limit),
            SlowConsumer::Disconnect | SlowConsumer::DropOldest | SlowConsumer::Resync => {
                self.limit
            }
        };
        connection.outbox.is_empty() || connection.outbox.bytes().saturating_add(len) <= limit
    }

    /// Drops queued events from the outbox, and puts a gap notice in their place. Only events of
    /// namespaces whose policy allows it are dropped. True if there is room now.
    fn make_room(&mut self, connection: &mut Connection, topic: u32, frame: &Frame) -> bool {
        let protocol = &connection.protocol;
        let namespaces = self.hub.namespaces();
        let topics = self.topics;
        let may_go = |place: u32| match topics.get(place).map(|topic| &topic.pattern) {
            Some(ChannelPattern::Exact(channel)) => matches!(
                namespaces.of(channel).slow_consumer,
                SlowConsumer::DropOldest | SlowConsumer::Conflate
            ),
            _ => false,
        };
        let gap = |missing: Missing| {
            let channel = topics.get(missing.channel)?.pattern.to_string();
            let reason = if missing.conflated {
                "conflated"
            } else {
                "slow_consumer"
            };
            let Missing { from, to, .. } = missing;
            let notice = Notice::Gap {
                channel: &channel,
                from,
                to,
                reason,
            };
            protocol.notice(&notice).map(Chunk::plain)
        };
        let room = RoomRequest {
            channel: topic,
            key: frame.part().map_or(0, |part| part.key),
            needed: frame.len(),
            limit: self.limit,
            conflate: self.policy == SlowConsumer::Conflate,
        };
        let shed = connection.outbox.shed(room, may_go, gap);
        self.hub.metrics().conflated(shed.conflated);
        self.hub
            .metrics()
            .dropped(DropReason::DropOldest, shed.dropped);
        self.hub
            .metrics()
            .dropped(DropReason::Conflated, shed.conflated);
        let dropped = u32::try_from(shed.dropped).unwrap_or(u32::MAX);
        connection.dropped = connection.dropped.saturating_add(dropped);
        self.fits(connection, frame.len())
    }
}
