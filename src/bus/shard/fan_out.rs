//! One event to many connections.

use std::rc::Rc;
use std::sync::Arc;

use super::io::flush;
use super::life::Doom;
use super::{Shard, Topic};
use crate::bus::connection::Connection;
use crate::bus::delivery::{Delivery, MAX_DIALECTS};
use crate::bus::filter::EventView;
use crate::bus::filter_table::FilterTable;
use crate::bus::hub::Hub;
use crate::bus::outbox::{Frame, Missing, Origin, Spares};
use crate::bus::protocol::Notice;
use crate::bus::shed::Room;
use crate::bus::slots::Slots;
use crate::bus::visibility::may_see;
use crate::event::{ChannelName, ChannelPattern, ConnectionId, Event, Position, SlowConsumer};
use crate::telemetry::{DropReason, ShardMetrics, Transport};

/// What one shard did with one event.
#[derive(Debug, Default, Clone, Copy)]
struct Outcome {
    delivered: u32,
    filtered: u32,
    dropped: u32,
    by_transport: [u32; 3],
}

impl Outcome {
    fn add(&mut self, transport: Transport) {
        self.delivered += 1;
        let [websocket, sse, grpc] = &mut self.by_transport;
        *match transport {
            Transport::WebSocket => websocket,
            Transport::Sse => sse,
            Transport::Grpc => grpc,
        } += 1;
    }
}

/// What holds for one event, whoever gets it.
struct Fan<'d> {
    delivery: &'d Delivery,
    event: &'d Event,
    type_roles: Option<Arc<[Arc<str>]>>,
    policy: SlowConsumer,
    sequence: u64,
    shard: u16,
    limit: usize,
    frames: [Option<Frame>; MAX_DIALECTS],
    key: u64,
}

impl Shard {
    /// Puts an event into the outbox of everyone here who is to have it.
    pub(super) fn fan_out(&mut self, delivery: Arc<Delivery>) {
        let event = Arc::clone(delivery.event());
        self.sequence += 1;
        let fresh = match (&event.channel, event.position) {
            (Some(channel), Some(position)) => self.advance_topic(channel, position),
            _ => true,
        };
        let policy = event
            .channel
            .as_ref()
            .map_or(SlowConsumer::Disconnect, |c| {
                self.hub.namespaces().of(c).slow_consumer
            });
        let mut fan = Fan {
            delivery: &delivery,
            event: &event,
            type_roles: self.hub.type_roles(&event.event_type),
            policy,
            sequence: self.sequence,
            shard: self.index,
            limit: self.settings.outbox_bytes,
            frames: [const { None }; MAX_DIALECTS],
            key: event.key.as_deref().map_or(0, hash_key),
        };
        let outcome = match &event.channel {
            Some(channel) => self.fan_out_channel(&mut fan, channel, fresh),
            None => self.fan_out_direct(&mut fan),
        };
        drop(fan);
        for (transport, count) in Transport::ALL.into_iter().zip(outcome.by_transport) {
            if count > 0 {
                self.metrics.delivered(transport, u64::from(count), 0);
            }
        }
        self.metrics.filtered(u64::from(outcome.filtered));
        delivery.count(outcome.delivered, outcome.filtered, outcome.dropped);
        self.batch.push((delivery, outcome.delivered));
    }

    /// Without `fresh`, the event is one that the channel's own subscribers have had from history;
    /// those who follow it by a pattern have not.
    fn fan_out_channel(
        &mut self,
        fan: &mut Fan<'_>,
        channel: &ChannelName,
        fresh: bool,
    ) -> Outcome {
        let topics = [
            self.by_channel.get(channel).copied(),
            self.by_namespace.get(channel.namespace()).copied(),
            self.of_all,
        ];
        let mut outcome = Outcome::default();
        let view = EventView::new(fan.event);
        // Acted on before the next event, or that one could slip in ahead of what found no room.
        let mut too_slow: Vec<(u32, Option<u32>)> = Vec::new();
        let offset = fan.event.position.map_or(0, |position| position.offset);
        for (by_name, place) in (0..)
            .zip(topics)
            .filter_map(|(n, place)| Some((n == 0, place?)))
        {
            let Some(topic) = self.topics.get(place) else {
                continue;
            };
            for follower in &topic.subscribers {
                let slot = follower.connection;
                let Some(connection) = self.connections.get_mut(slot) else {
                    continue;
                };
                if !follower.live || (by_name && !fresh) {
                    if offset > follower.from
                        && fan.may_go_to(
                            slot,
                            connection,
                            follower.filter,
                            &mut self.filters,
                            &view,
                        )
                    {
                        // It comes from history, and so not by a pattern.
                        connection.last_event = fan.sequence;
                    }
                    if !follower.live {
                        hunger(&mut self.hungry, slot, connection);
                    }
                    continue;
                }
                if connection.last_event == fan.sequence {
                    continue;
                }
                if !fan.may_go_to(slot, connection, follower.filter, &mut self.filters, &view) {
                    outcome.filtered += 1;
                    continue;
                }
                connection.last_event = fan.sequence;
                let origin = fan.origin(place, topic);
                match fan.put(
                    connection,
                    origin,
                    &self.topics,
                    &mut self.spares,
                    &self.metrics,
                    &self.hub,
                ) {
                    Put::Done => outcome.add(connection.protocol.transport()),
                    Put::Resync => {
                        outcome.dropped += 1;
                        too_slow.push((slot, Some(place)));
                    }
                    Put::Close => {
                        outcome.dropped += 1;
                        too_slow.push((slot, None));
                    }
                }
                Shard::touch(&mut self.touched, slot, connection);
            }
        }
        for (slot, topic) in too_slow {
            match (topic, fan.event.position) {
                (Some(topic), Some(position)) => self.resync(slot, topic, position.offset - 1),
                _ => self.too_slow(slot),
            }
        }
        outcome
    }

    /// An event without a channel: straight to those named.
    fn fan_out_direct(&mut self, fan: &mut Fan<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(audience) = fan.event.audience.clone() else {
            return outcome;
        };
        let mut slots: Vec<u32> = Vec::new();
        if audience.roles.is_empty() {
            for user in &audience.users {
                slots.extend(self.by_user.get(user).into_iter().flatten());
            }
            slots.extend(audience.connections.iter().filter_map(|id| self.find(*id)));
        } else {
            slots.extend(self.connections.iter().map(|(slot, _)| slot));
        }
        let view = EventView::new(fan.event);
        for slot in slots {
            let Some(connection) = self.connections.get_mut(slot) else {
                continue;
            };
            if connection.last_event == fan.sequence || connection.ending.is_some() {
                continue;
            }
            let no_filter = crate::bus::filter_table::NO_FILTER;
            if !fan.may_go_to(slot, connection, no_filter, &mut self.filters, &view) {
                continue;
            }
            connection.last_event = fan.sequence;
            match fan.put_direct(connection, &mut self.spares, &self.metrics, &self.hub) {
                Put::Done => outcome.add(connection.protocol.transport()),
                Put::Resync | Put::Close => {
                    outcome.dropped += 1;
                    self.doomed.push((slot, Doom::TooSlow));
                }
            }
            Shard::touch(&mut self.touched, slot, connection);
        }
        outcome
    }

    /// Notes how far the channel has come here. False if the event was already counted when the
    /// first subscriber learnt the channel's position.
    fn advance_topic(&mut self, channel: &ChannelName, position: Position) -> bool {
        let Some(&place) = self.by_channel.get(channel) else {
            return true;
        };
        let Some(topic) = self.topics.get_mut(place) else {
            return true;
        };
        let before = topic.position.replace(position);
        let Some(before) = before else { return true };
        if before.epoch != position.epoch {
            self.gap_for_all(place, 1, position.offset.saturating_sub(1), "epoch_changed");
            return true;
        }
        if position.offset <= before.offset {
            topic.position = Some(before);
            return false;
        }
        if position.offset > before.offset + 1 {
            // A broker left a hole: everyone reads the missing part from history first.
            self.catch_up_all(place, before.offset);
        }
        true
    }

    /// Tells every subscriber of a topic that it misses something.
    fn gap_for_all(&mut self, place: u32, from: u64, to: u64, reason: &'static str) {
        let Some(topic) = self.topics.get(place) else {
            return;
        };
        if from > to {
            return;
        }
        let channel = topic.pattern.to_string();
        let slots: Vec<u32> = topic.subscribers.iter().map(|s| s.connection).collect();
        for slot in slots {
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
    }
}

/// What came of putting an event into an outbox.
enum Put {
    Done,
    Resync,
    Close,
}

impl Fan<'_> {
    /// Where the event comes from, if it may be taken out of an outbox again. One that came by a
    /// pattern may not: a gap in it could not be told by channel.
    fn origin(&self, place: u32, topic: &Topic) -> Option<Origin> {
        let ChannelPattern::Exact(_) = topic.pattern else {
            return None;
        };
        let offset = self.event.position.map_or(0, |position| position.offset);
        Some(Origin {
            channel: place,
            offset,
            key: self.key,
        })
    }

    fn may_go_to(
        &self,
        slot: u32,
        connection: &Connection,
        filter: u32,
        filters: &mut FilterTable,
        view: &EventView<'_>,
    ) -> bool {
        if !filters.passes(filter, self.sequence, view) {
            return false;
        }
        if self.type_roles.is_none() && self.event.audience.is_none() {
            return true;
        }
        let id = ConnectionId::new(self.shard, slot, connection.nonce);
        may_see(
            self.event,
            self.type_roles.as_deref(),
            connection.identity.as_deref(),
            Some(id),
        )
    }

    fn frame(&mut self, connection: &Connection) -> Frame {
        let protocol = &*connection.protocol;
        match self.frames.get_mut(protocol.dialect().place()) {
            Some(Some(frame)) => Rc::clone(frame),
            Some(empty) => Rc::clone(empty.insert(Rc::new(self.delivery.frame(protocol)))),
            None => Rc::new(self.delivery.frame(protocol)),
        }
    }

    /// Puts the event into an outbox, or does what the namespace says of slow connections.
    fn put(
        &mut self,
        connection: &mut Connection,
        origin: Option<Origin>,
        topics: &Slots<Topic>,
        spares: &mut Spares,
        metrics: &ShardMetrics,
        hub: &Hub,
    ) -> Put {
        let frame = self.frame(connection);
        if self.push(connection, &frame, origin, spares, metrics) {
            return Put::Done;
        }
        match self.policy {
            SlowConsumer::Disconnect => Put::Close,
            SlowConsumer::Resync => Put::Resync,
            SlowConsumer::DropOldest | SlowConsumer::Conflate => {
                hub.metrics().slow_consumer();
                self.make_room(connection, origin, frame, topics, spares, hub)
            }
        }
    }

    /// Puts a frame into an outbox if it has room, now or once it has been written.
    fn push(
        &self,
        connection: &mut Connection,
        frame: &Frame,
        origin: Option<Origin>,
        spares: &mut Spares,
        metrics: &ShardMetrics,
    ) -> bool {
        let room = self.fits(connection, frame.len())
            || self.fits_after_flush(connection, frame.len(), spares, metrics);
        if room {
            connection.outbox.push(Rc::clone(frame), origin, spares);
            connection.delivered += 1;
        }
        room
    }

    /// Takes waiting events out of the outbox, and says so in their place. Only those of channels
    /// whose namespace lets events go.
    fn make_room(
        &self,
        connection: &mut Connection,
        origin: Option<Origin>,
        frame: Frame,
        topics: &Slots<Topic>,
        spares: &mut Spares,
        hub: &Hub,
    ) -> Put {
        let Some(newer) = origin else {
            return Put::Close;
        };
        let protocol = Arc::clone(&connection.protocol);
        let namespaces = hub.namespaces();
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
            protocol.notice(&notice).map(Rc::new)
        };
        let room = Room {
            needed: frame.len(),
            limit: self.limit,
            conflate: self.policy == SlowConsumer::Conflate,
        };
        let shed = connection.outbox.shed(newer, room, may_go, gap);
        hub.metrics().conflated(shed.conflated);
        hub.metrics().dropped(DropReason::DropOldest, shed.dropped);
        let dropped = u32::try_from(shed.dropped).unwrap_or(u32::MAX);
        connection.dropped = connection.dropped.saturating_add(dropped);
        if !self.fits(connection, frame.len()) {
            return Put::Close;
        }
        connection.outbox.push(frame, origin, spares);
        connection.delivered += 1;
        Put::Done
    }

    fn put_direct(
        &mut self,
        connection: &mut Connection,
        spares: &mut Spares,
        metrics: &ShardMetrics,
        hub: &Hub,
    ) -> Put {
        let frame = self.frame(connection);
        if self.push(connection, &frame, None, spares, metrics) {
            return Put::Done;
        }
        hub.metrics().dropped(DropReason::SlowConsumer, 1);
        Put::Close
    }

    /// True if there is room. An empty outbox takes any frame, or a large event could never leave.
    fn fits(&self, connection: &Connection, len: usize) -> bool {
        connection.outbox.is_empty() || connection.outbox.bytes().saturating_add(len) <= self.limit
    }

    /// The outbox may only be full because this batch has not been written yet.
    fn fits_after_flush(
        &self,
        connection: &mut Connection,
        len: usize,
        spares: &mut Spares,
        metrics: &ShardMetrics,
    ) -> bool {
        flush(connection, spares, metrics);
        self.fits(connection, len)
    }
}

/// Marks a connection whose catching up may go on.
pub(super) fn hunger(hungry: &mut Vec<u32>, slot: u32, connection: &mut Connection) {
    if !connection.flags.hungry {
        connection.flags.hungry = true;
        hungry.push(slot);
    }
}

fn hash_key(key: &str) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(key.as_bytes());
    hasher.finish().max(1)
}
