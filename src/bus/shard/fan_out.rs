//! Events to many connections.

use std::sync::Arc;

use super::io::flush;
use super::life::Doom;
use super::run::{MAX_RUN, Run, count, each};
use super::{Shard, Subscriber, Topic};
use crate::bus::chunk::{Chunk, Frame};
use crate::bus::connection::Connection;
use crate::bus::delivery::Delivery;
use crate::bus::filter_table::{FilterTable, NO_FILTER};
use crate::bus::hub::Hub;
use crate::bus::outbox::{Missing, Spares};
use crate::bus::protocol::Notice;
use crate::bus::shed::Room;
use crate::bus::slots::Slots;
use crate::event::{Audience, ChannelName, ChannelPattern, Position, SlowConsumer};
use crate::telemetry::{DropReason, ShardMetrics, Transport};

impl Shard {
    /// Takes an event: at once, or together with those that come right behind it.
    pub(super) fn gather(&mut self, delivery: Arc<Delivery>) {
        if !self.gathered.takes(&delivery) {
            self.fan_out(false);
        }
        self.gathered.push(delivery);
    }

    /// Puts what was gathered into the outbox of everyone here who is to have it. With `last`,
    /// nothing comes behind it in this round: what can leave leaves at once.
    pub(super) fn fan_out(&mut self, last: bool) {
        let deliveries = self.gathered.take();
        let Some(first) = deliveries.first() else {
            return;
        };
        self.runs += 1;
        let hub = Arc::clone(&self.hub);
        let mut run = Run::new(&deliveries, self.runs, self.index, &hub);
        let mut outcome = Outcome::default();
        let event = Arc::clone(first.event());
        match (&event.channel, &event.audience) {
            (Some(channel), _) => {
                let end = deliveries.last().and_then(|last| last.event().position);
                let fresh = self.advance_topic(channel, &run, end);
                self.fan_out_channel(&mut run, channel, fresh, last, &mut outcome);
            }
            (None, Some(audience)) => {
                self.fan_out_direct(&mut run, audience, &mut outcome);
            }
            (None, None) => {}
        }
        drop(run);
        self.count(&deliveries, &outcome);
        self.gathered.give_back(deliveries);
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
            self.batch.push((Arc::clone(delivery), delivered));
        }
    }

    /// `fresh` are the events that the channel's own subscribers have not had from history; those
    /// who follow it by a pattern have had none from there.
    fn fan_out_channel(
        &mut self,
        run: &mut Run<'_>,
        channel: &ChannelName,
        fresh: u64,
        last: bool,
        outcome: &mut Outcome,
    ) {
        let topics = [
            self.by_channel.get(channel).copied(),
            self.by_namespace.get(channel.namespace()).copied(),
            self.of_all,
        ];
        let Shard {
            topics: places,
            connections,
            filters,
            hungry,
            touched,
            doomed,
            ..
        } = self;
        let mut hand = Hand {
            run,
            policy: self.hub.namespaces().of(channel).slow_consumer,
            limit: self.settings.outbox_bytes,
            topics: places,
            spares: &mut self.spares,
            metrics: &self.metrics,
            hub: &self.hub,
            outcome,
        };
        // Acted on before the next run, or that one could slip in ahead of what found no room.
        let mut too_slow: Vec<(u32, Option<(u32, u64)>)> = Vec::new();
        for (by_name, place) in (0..)
            .zip(topics)
            .filter_map(|(n, place)| Some((n == 0, place?)))
        {
            let Some(topic) = places.get(place) else {
                continue;
            };
            let from_topic = matches!(topic.pattern, ChannelPattern::Exact(_)).then_some(place);
            for follower in &topic.subscribers {
                let slot = follower.connection;
                let Some(connection) = connections.get_mut(slot) else {
                    continue;
                };
                let live = if by_name { fresh } else { hand.run.all() };
                let set = hand.owed(slot, connection, follower, live, filters);
                if !follower.live {
                    hunger(hungry, slot, connection);
                }
                if set == 0 {
                    continue;
                }
                match hand.put(connection, set, from_topic) {
                    Put::Done => {}
                    Put::Resync(offset) => too_slow.push((slot, Some((place, offset)))),
                    Put::Close => too_slow.push((slot, None)),
                }
                if last && connection.is_plain() {
                    if !flush(connection, hand.spares, hand.metrics) {
                        doomed.push((slot, Doom::Gone));
                    }
                } else {
                    Shard::touch(touched, slot, connection);
                }
            }
        }
        for (slot, topic) in too_slow {
            match topic {
                Some((topic, offset)) => self.resync(slot, topic, offset.saturating_sub(1)),
                None => self.too_slow(slot),
            }
        }
    }

    /// An event without a channel: straight to those named.
    fn fan_out_direct(&mut self, run: &mut Run<'_>, audience: &Audience, outcome: &mut Outcome) {
        let mut slots: Vec<u32> = Vec::new();
        if audience.roles.is_empty() {
            for user in &audience.users {
                slots.extend(self.by_user.get(user).into_iter().flatten());
            }
            slots.extend(audience.connections.iter().filter_map(|id| self.find(*id)));
        } else {
            slots.extend(self.connections.iter().map(|(slot, _)| slot));
        }
        let mut hand = Hand {
            run,
            policy: SlowConsumer::Disconnect,
            limit: self.settings.outbox_bytes,
            topics: &self.topics,
            spares: &mut self.spares,
            metrics: &self.metrics,
            hub: &self.hub,
            outcome,
        };
        for slot in slots {
            let Some(connection) = self.connections.get_mut(slot) else {
                continue;
            };
            if connection.last_run == hand.run.number()
                || connection.ending.is_some()
                || connection.flags.doomed
            {
                continue;
            }
            let set = hand.run.passing(
                slot,
                connection,
                NO_FILTER,
                &mut self.filters,
                &self.metrics,
            );
            if set == 0 {
                continue;
            }
            connection.last_run = hand.run.number();
            if let Put::Resync(_) | Put::Close = hand.put(connection, set, None) {
                connection.flags.doomed = true;
                self.doomed.push((slot, Doom::TooSlow));
            }
            Shard::touch(&mut self.touched, slot, connection);
        }
    }

    /// Notes how far the channel has come here, and answers which events of the run are new: the
    /// others were already counted when the first subscriber learnt the channel's position.
    fn advance_topic(
        &mut self,
        channel: &ChannelName,
        run: &Run<'_>,
        end: Option<Position>,
    ) -> u64 {
        let all = run.all();
        let (Some(start), Some(end)) = (run.start(), end) else {
            return all;
        };
        let Some(&place) = self.by_channel.get(channel) else {
            return all;
        };
        let Some(topic) = self.topics.get_mut(place) else {
            return all;
        };
        let Some(before) = topic.position.replace(end) else {
            return all;
        };
        if before.epoch != end.epoch {
            let offset = start.offset.saturating_sub(1);
            self.renumber(place, Position { offset, ..start });
            if let Some(topic) = self.topics.get_mut(place) {
                topic.position = Some(end);
            }
            return all;
        }
        if end.offset <= before.offset {
            topic.position = Some(before);
            return 0;
        }
        if start.offset > before.offset + 1 {
            // A broker left a hole: everyone reads the missing part from history first.
            self.catch_up_all(place, before);
        }
        run.behind(before.offset)
    }
}

/// What one shard did with a run.
struct Outcome {
    /// Connections that got all of it.
    whole: u32,
    /// What others got of each event.
    delivered: [u32; MAX_RUN],
    filtered: [u32; MAX_RUN],
    dropped: [u32; MAX_RUN],
    all_filtered: u64,
    by_transport: [u64; Transport::COUNT],
}

impl Default for Outcome {
    fn default() -> Self {
        Outcome {
            whole: 0,
            delivered: [0; MAX_RUN],
            filtered: [0; MAX_RUN],
            dropped: [0; MAX_RUN],
            all_filtered: 0,
            by_transport: [0; Transport::COUNT],
        }
    }
}

impl Outcome {
    /// How often an event was delivered, filtered and dropped.
    fn of(&self, at: usize) -> (u32, u32, u32) {
        let read = |counts: &[u32; MAX_RUN]| counts.get(at).copied().unwrap_or(0);
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

fn note(counts: &mut [u32; MAX_RUN], set: u64) {
    for at in each(set) {
        if let Some(count) = counts.get_mut(at) {
            *count += 1;
        }
    }
}

/// What came of putting events into an outbox.
enum Put {
    Done,
    /// From this offset on, they come from history.
    Resync(u64),
    Close,
}

/// Hands a run to one connection after the other.
struct Hand<'h, 'd> {
    run: &'h mut Run<'d>,
    policy: SlowConsumer,
    limit: usize,
    topics: &'h Slots<Topic>,
    spares: &'h mut Spares,
    metrics: &'h ShardMetrics,
    hub: &'h Hub,
    outcome: &'h mut Outcome,
}

impl Hand<'_, '_> {
    /// The events that a follower is to get now, `live` being those that come live where it is.
    /// What it has by another subscription, or gets from history, is left out.
    fn owed(
        &mut self,
        slot: u32,
        connection: &mut Connection,
        follower: &Subscriber,
        live: u64,
        filters: &mut FilterTable,
    ) -> u64 {
        if connection.flags.doomed {
            return 0;
        }
        let passing = self
            .run
            .passing(slot, connection, follower.filter, filters, self.metrics);
        if connection.last_run != self.run.number() {
            connection.last_run = self.run.number();
            connection.answered = 0;
        }
        let live = if follower.live { live } else { 0 };
        if live != self.run.all() {
            // It comes from history, and so not by a pattern.
            connection.answered |= passing & !live & self.run.behind(follower.from);
        }
        let wanted = live & !connection.answered;
        let filtered = wanted & !passing;
        if filtered != 0 {
            note(&mut self.outcome.filtered, filtered);
            self.outcome.all_filtered += u64::from(count(filtered));
        }
        connection.answered |= wanted & passing;
        wanted & passing
    }

    /// Puts events into an outbox, or does what the namespace says of slow connections.
    fn put(&mut self, connection: &mut Connection, set: u64, topic: Option<u32>) -> Put {
        if let Some(frame) = self
            .run
            .joined(connection.dialect, &connection.protocol, set)
            && self.has_room(connection, frame.len())
        {
            self.push(connection, frame, topic, set);
            return Put::Done;
        }
        for at in each(set) {
            let frame = self
                .run
                .single(connection.dialect, &connection.protocol, at);
            let Some(frame) = frame else { continue };
            let one = 1 << at;
            if self.has_room(connection, frame.len()) {
                self.push(connection, frame, topic, one);
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
                continue;
            }
            note(&mut self.outcome.dropped, one);
            // None of the rest comes by another subscription either.
            connection.answered = u64::MAX;
            let offset = self.run.event(at).and_then(|event| event.position);
            return match (self.policy, offset) {
                (SlowConsumer::Resync, Some(position)) => Put::Resync(position.offset),
                _ => Put::Close,
            };
        }
        Put::Done
    }

    fn push(&mut self, connection: &mut Connection, frame: Frame, topic: Option<u32>, set: u64) {
        connection.outbox.push(frame, topic, self.spares);
        connection.delivered += u64::from(count(set));
        self.outcome.add(connection.transport, set, self.run.all());
    }

    /// True if there is room, now or once the outbox has been written: it may only be full because
    /// this batch has not been.
    fn has_room(&mut self, connection: &mut Connection, len: usize) -> bool {
        self.fits(connection, len)
            || (flush(connection, self.spares, self.metrics) && self.fits(connection, len))
    }

    /// An empty outbox takes any frame, or a large event could never leave.
    fn fits(&self, connection: &Connection, len: usize) -> bool {
        connection.outbox.is_empty() || connection.outbox.bytes().saturating_add(len) <= self.limit
    }

    /// Takes waiting events out of the outbox, and says so in their place. Only those of channels
    /// whose namespace lets events go. True if there is room now.
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
        let room = Room {
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
        let dropped = u32::try_from(shed.dropped).unwrap_or(u32::MAX);
        connection.dropped = connection.dropped.saturating_add(dropped);
        self.fits(connection, frame.len())
    }
}

/// Marks a connection whose catching up may go on.
pub(super) fn hunger(hungry: &mut Vec<u32>, slot: u32, connection: &mut Connection) {
    if !connection.flags.hungry {
        connection.flags.hungry = true;
        hungry.push(slot);
    }
}
