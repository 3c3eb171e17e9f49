//! Subscribing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::deferred::meter_of;
use super::position_lookup::{Beginning, Filtered, Lookup, Viewer, look_up};
use super::topics::{Subscriber, Topic};
use super::{ConnCtx, Shard};
use crate::error::{Error, Result};
use crate::event::{ChannelPattern, Epoch, Position};
use crate::filter::EventFilter;
use crate::hub::command::ShardCommand;
use crate::hub::protocol::{Joined, Refused};
use crate::hub::shard::connection::{Connection, RecoveryState, Subscription, Waiting};
use crate::hub::shard::filter_table::NO_FILTER;
use crate::maybe_ready::MaybeReady;

/// One requested subscription.
#[derive(Debug, Clone)]
pub struct Join {
    /// The channel, or a pattern.
    pub pattern: ChannelPattern,
    /// Resume after this position.
    pub since: Option<Position>,
    /// Replay this many of the newest events.
    pub rewind: Option<u32>,
    /// The filter of this subscription alone, in place of that of the request.
    pub filter: Option<Arc<EventFilter>>,
}

/// The requested subscriptions; the permission for each is checked already.
#[derive(Debug, Clone, Default)]
pub struct JoinRequest {
    /// The channels.
    pub joins: Vec<Join>,
    /// Those that were refused, reported with the rest.
    pub refused: Vec<Refused>,
    /// The filter; all events if `None`.
    pub filter: Option<Arc<EventFilter>>,
    /// Whether to be notified of presence changes.
    pub watch: bool,
    /// Whether a service subscribes the connection. The rules for its identity do not end such a
    /// subscription.
    pub granted: bool,
    /// The least time between two events of a key; none if zero. That of the namespace counts where it
    /// is longer.
    pub min_interval: Duration,
}

/// What runs once all subscriptions have begun.
pub(super) type Then = Box<dyn FnOnce(&mut ConnCtx<'_>, Vec<Joined>, Vec<Refused>) + Send>;

/// A client's subscriptions whose start positions are being looked up.
pub(in crate::hub) struct PendingJoin {
    pending: Vec<Pending>,
    /// The refused subscriptions, to be reported with the rest.
    refused: Vec<Refused>,
    then: Then,
}

/// A subscription whose start position is being looked up.
struct Pending {
    join: Join,
    topic: u32,
    serial: u32,
    /// The position of the subscription that it replaces.
    replaced: Option<Position>,
    /// The topic's serial and epoch when the lookup began.
    known: Option<(u32, Epoch)>,
}

/// How the subscriptions of a request are made.
#[derive(Clone, Copy)]
struct Manner {
    watch: bool,
    granted: bool,
    min_interval: Duration,
}

/// What a subscription inherits from the one that it replaces, so that nothing is lost between the
/// two.
enum Replaced {
    /// Everything up to this position was sent.
    At(Position),
    /// It had no position. The events held back for its filter, and their bytes.
    Held(VecDeque<Waiting>, usize),
}

impl Shard {
    /// Subscribes a connection. The subscriptions get events only after `then` has reported how
    /// each began. Until then their topics advance without them, and they read the difference from
    /// history. So no event is missed or duplicated.
    pub(super) fn join(&mut self, slot: u32, request: JoinRequest, then: Then) {
        let JoinRequest {
            joins,
            mut refused,
            filter,
            watch,
            granted,
            min_interval,
        } = request;
        let how = Manner {
            watch,
            granted,
            min_interval,
        };
        let mut pending = Vec::with_capacity(joins.len());
        let mut found = Vec::with_capacity(joins.len());
        let mut takes_over = false;
        for join in joins {
            let filter = join.filter.as_ref().or(filter.as_ref());
            match self.attach(slot, &join, filter, how) {
                Ok((topic, serial, replaced)) => {
                    found.push(self.look_up(slot, &join, filter));
                    // The same channel twice: the first never begins.
                    let mut named_before = pending
                        .iter_mut()
                        .filter(|p: &&mut Pending| p.topic == topic);
                    let replaced = match replaced {
                        None if takes_over => named_before.find_map(|p| p.replaced.take()),
                        replaced => replaced,
                    };
                    takes_over |= replaced.is_some();
                    pending.push(Pending {
                        join,
                        topic,
                        serial,
                        replaced,
                        known: self.topics.get(topic).and_then(Topic::known_epoch),
                    });
                }
                Err(error) => refused.push(Refused {
                    channel: join.pattern.to_string(),
                    error,
                }),
            }
        }
        let join = PendingJoin {
            pending,
            refused,
            then,
        };
        match MaybeReady::all(found) {
            // Each position has its own failure if it has one.
            MaybeReady::Ready(found) => self.finish_join(slot, join, found.unwrap_or_default()),
            MaybeReady::Pending(found) => {
                let Some(connection) = self.connections.id(slot) else {
                    return;
                };
                self.set_busy(slot);
                let join = Box::new(join);
                self.send_later(async move {
                    ShardCommand::PositionsFound {
                        connection,
                        join,
                        found: found.await.unwrap_or_default(),
                    }
                });
            }
        }
    }

    /// The start positions are known: begins the subscriptions and tells the client.
    pub(super) fn finish_join(&mut self, slot: u32, join: PendingJoin, found: Vec<Result<Lookup>>) {
        let PendingJoin {
            pending,
            mut refused,
            then,
        } = join;
        let mut joined = Vec::with_capacity(pending.len());
        for (pending, found) in pending.into_iter().zip(found) {
            match found.and_then(|found| self.begin(slot, &pending, found)) {
                Ok(began) => joined.push(began),
                Err(error) => {
                    if self.is_current(slot, pending.topic, pending.serial) {
                        self.leave_topic(slot, pending.topic);
                    }
                    let channel = pending.join.pattern.to_string();
                    refused.push(Refused { channel, error });
                }
            }
        }
        then(&mut ConnCtx::new(self, slot), joined, refused);
        self.advance_recoveries(slot);
    }

    /// Looks up the channel's position and counts the events to replay.
    fn look_up(
        &self,
        slot: u32,
        join: &Join,
        filter: Option<&Arc<EventFilter>>,
    ) -> MaybeReady<Lookup> {
        let ChannelPattern::Exact(channel) = &join.pattern else {
            return MaybeReady::ok(None);
        };
        let connection = self.connections.get(slot);
        let meter = connection.and_then(Connection::meter);
        let viewer = Viewer {
            id: self.connections.id(slot),
            identity: connection.and_then(|c| c.identity.clone()),
            filter: filter.map(|filter| Filtered {
                hub: Arc::clone(&self.hub),
                filter: Arc::clone(filter),
                meter: meter.map(Arc::downgrade).unwrap_or_default(),
            }),
            type_roles: self.hub.all_type_roles(),
        };
        let limits = &self.settings.filters;
        let asking = self
            .budget
            .asking(meter.map(|meter| &**meter), limits, &self.metrics);
        look_up(self.hub.broker(), channel, join, viewer, &asking)
    }

    /// Adds the connection to the topic's subscribers, not yet live. Returns the topic, the
    /// subscription's serial, and the position of the subscription that it replaces.
    fn attach(
        &mut self,
        slot: u32,
        join: &Join,
        filter: Option<&Arc<EventFilter>>,
        how: Manner,
    ) -> Result<(u32, u32, Option<Position>)> {
        if !matches!(join.pattern, ChannelPattern::Exact(_))
            && (join.since.is_some() || join.rewind.is_some())
        {
            return Err(Error::field(
                "since",
                "a pattern has no position: resume its channels one by one",
            ));
        }
        let known = self.topics.of(&join.pattern);
        let limit = self.settings.subscriptions_per_connection;
        let connection = self
            .connections
            .get(slot)
            .ok_or_else(|| Error::not_found("the connection has gone"))?;
        let already = known.is_some_and(|t| connection.subscription(t).is_some());
        if !already && connection.subscriptions.len() >= limit {
            self.hub
                .metrics()
                .limit_reached("subscriptions_per_connection");
            let text = format!("expected at most {limit} subscriptions on a connection");
            return Err(Error::exhausted(text));
        }
        self.check_filter_bytes(slot, filter)?;
        if let (Some(_), Some(connection)) = (filter, self.connections.get_mut(slot)) {
            meter_of(connection);
        }
        let known_topic = known.filter(|_| already);
        if let Some(topic) = known_topic {
            self.release_held(slot, topic);
        }
        let replaced = known_topic.and_then(|topic| self.replace(slot, topic));
        let present = if let (true, Some(topic)) = (already, known) {
            self.detach(slot, topic).is_some_and(|gone| gone.present)
        } else {
            self.hub.metrics().subscriptions_added(1);
            self.presence_join(slot, &join.pattern)
        };
        let topic = match self.topics.of(&join.pattern) {
            Some(topic) => topic,
            None => self.new_topic(&join.pattern),
        };
        let interval = self.interval(&join.pattern, how.min_interval);
        if interval > 0 {
            self.throttles.begin(slot, topic, interval);
        }
        let subscriber = Subscriber {
            connection: slot,
            filter: self.filters.acquire(filter),
            live: false,
            watches: how.watch,
            throttled: interval > 0,
            from: u64::MAX,
        };
        let at = self.topics.subscribe(topic, subscriber);
        let (at, is_first) = at.ok_or_else(|| Error::internal("a topic vanished"))?;
        if is_first {
            self.hub.occupancy_changed(&join.pattern, true);
        }
        let serial = self.topics.next_serial();
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.subscriptions.push(Subscription {
                topic,
                at,
                present,
                granted: how.granted,
                serial,
            });
        }
        Ok((topic, serial, self.inherit(slot, topic, serial, replaced)))
    }

    /// The interval of a subscription, in milliseconds: what was asked for, or what the namespace
    /// demands.
    fn interval(&self, pattern: &ChannelPattern, asked: Duration) -> u64 {
        let namespaces = self.hub.namespaces();
        let demanded = match pattern {
            ChannelPattern::Exact(channel) => namespaces.of(channel).min_interval,
            ChannelPattern::Namespace(name) => namespaces.named(name).min_interval,
            ChannelPattern::All => Duration::ZERO,
        };
        super::timers::millis(asked.max(demanded))
    }

    /// What the next subscription to this topic inherits from the connection's present one; `None`
    /// if that has not begun.
    fn replace(&mut self, slot: u32, topic: u32) -> Option<Replaced> {
        let position = self.topics.get(topic)?.position;
        let live = self.is_live(slot, topic);
        match self.recovery(slot, topic) {
            Some(recovery) => Some(match recovery.loose {
                Some(bytes) => Replaced::Held(std::mem::take(&mut recovery.waiting), bytes),
                None => Replaced::At(Position {
                    epoch: recovery.epoch,
                    offset: recovery.after,
                }),
            }),
            None if live => Some(position.map_or(Replaced::Held(VecDeque::new(), 0), Replaced::At)),
            None => None,
        }
    }

    /// Gives a subscription the events that its predecessor held back, on which its filter is
    /// evaluated again. Events that arrive before it begins are held back as well.
    fn inherit(
        &mut self,
        slot: u32,
        topic: u32,
        serial: u32,
        replaced: Option<Replaced>,
    ) -> Option<Position> {
        match replaced? {
            Replaced::At(position) => Some(position),
            Replaced::Held(mut waiting, bytes) => {
                for one in &mut waiting {
                    one.verdict = None;
                }
                let recovery = RecoveryState {
                    waiting,
                    loose: Some(bytes),
                    // Nothing is sent before it has begun.
                    reading: true,
                    ..RecoveryState::loose(topic, serial)
                };
                let connection = self.connections.get_mut(slot)?;
                connection.recoveries.get_or_insert_default().push(recovery);
                None
            }
        }
    }

    /// Continues with the inherited events; true if there are any.
    fn begin_held(&mut self, slot: u32, topic: u32) -> bool {
        let held = self.recovery(slot, topic).filter(|c| c.loose.is_some());
        held.map(|recovery| recovery.reading = false).is_some()
    }

    /// Checks the memory limit of the connection's filters, including this one. A filter that
    /// several subscriptions share counts once.
    fn check_filter_bytes(&self, slot: u32, filter: Option<&Arc<EventFilter>>) -> Result<()> {
        let (Some(filter), Some(connection)) = (filter, self.connections.get(slot)) else {
            return Ok(());
        };
        let most = self.settings.filters.bytes_per_connection;
        let mut held: Vec<u32> = connection
            .subscriptions
            .iter()
            .filter_map(|subscription| self.filter_of(slot, subscription.topic))
            .filter(|place| *place != NO_FILTER)
            .collect();
        held.sort_unstable();
        held.dedup();
        let others = held.into_iter().filter_map(|place| self.filters.get(place));
        let others = others.filter(|other| other.key() != filter.key());
        let bytes: usize = others.map(|other| other.bytes()).sum();
        if bytes + filter.bytes() <= most {
            return Ok(());
        }
        self.hub
            .metrics()
            .limit_reached("filter_bytes_per_connection");
        let text = format!(
            "the filters of this connection take more than {most} bytes when compiled (limits.filter_bytes_per_connection)"
        );
        Err(Error::exhausted(text))
    }

    /// True if the connection still has this very subscription: it may have ended during a lookup,
    /// and its topic's slot may be another's.
    pub(super) fn is_current(&self, slot: u32, topic: u32, serial: u32) -> bool {
        let subscription = self
            .connections
            .get(slot)
            .and_then(|c| c.subscription(topic));
        subscription.is_some_and(|s| s.serial == serial)
    }

    /// The position is known: begins the subscription with the events to replay.
    fn begin(&mut self, slot: u32, pending: &Pending, found: Option<Beginning>) -> Result<Joined> {
        let Pending {
            join,
            topic,
            serial,
            replaced,
            known,
        } = pending;
        if !self.is_current(slot, *topic, *serial) {
            return Err(Error::unavailable("the subscription ended while it began"));
        }
        let mut joined = Joined {
            channel: join.pattern.to_string(),
            position: None,
            recovered: false,
            replayed: 0,
            cursor: None,
        };
        let resumed = join.since.is_some();
        let held = self.begin_held(slot, *topic);
        let Some(entry) = self.topics.get_mut(*topic) else {
            return Err(Error::unavailable("the subscription ended while it began"));
        };
        let Some(mut found) = found else {
            if !held {
                self.go_live(slot, *topic);
            }
            if resumed {
                self.hub.metrics().recovery(false);
            }
            return Ok(joined);
        };
        if held {
            return Err(Error::unavailable(
                "the channel keeps history now: subscribe again",
            ));
        }
        let is_unchanged = known.is_some() && entry.known_epoch() == *known;
        let mut position = *entry.position.get_or_insert(found.top);
        let is_former = entry.former == Some(found.top.epoch);
        if position.epoch != found.top.epoch && is_unchanged && !is_former {
            // The broker has begun a new epoch, of which this shard has not learnt yet.
            self.renumber(*topic, found.top);
            position = found.top;
        }
        if position.epoch != found.top.epoch {
            if join.since.is_some_and(|at| at.epoch == position.epoch) {
                // Which of the two epochs is the newer one is not known, so it is not known either
                // whether the client has missed anything.
                return Err(Error::unavailable(
                    "the channel was given a new epoch: subscribe again",
                ));
            }
            // The epoch has changed since the lookup.
            found = Beginning {
                top: position,
                after: position.offset,
                recovered: false,
                replayed: 0,
                events: Vec::new(),
            };
        }
        let asks_from = join.since.is_some() || join.rewind.is_some();
        if let Some(at) = replaced.filter(|at| !asks_from && at.epoch == found.top.epoch) {
            // It continues from the replaced subscription's position: later events are delivered as
            // live ones, or are reported as a gap.
            found = Beginning {
                top: at,
                after: at.offset,
                recovered: false,
                replayed: 0,
                events: Vec::new(),
            };
        }
        self.hub.metrics().replayed(found.replayed);
        if resumed {
            self.hub.metrics().recovery(found.recovered);
        }
        self.answer_from(slot, *topic, found.after);
        joined.position = Some(found.top);
        joined.recovered = found.recovered;
        joined.replayed = found.replayed;
        if let Some(connection) = self.connections.get_mut(slot) {
            let after = Position {
                offset: found.after,
                ..found.top
            };
            let mut recovery = RecoveryState::behind(*topic, *serial, after);
            recovery.waiting = found.events.into();
            connection.recoveries.get_or_insert_default().push(recovery);
        }
        Ok(joined)
    }

    /// The connection's entry among a topic's subscribers.
    fn subscriber(&self, slot: u32, topic: u32) -> Option<&Subscriber> {
        self.topics.subscriber(self.connections.get(slot)?, topic)
    }

    /// The same, mutably.
    fn subscriber_mut(&mut self, slot: u32, topic: u32) -> Option<&mut Subscriber> {
        let connection = self.connections.get(slot)?;
        self.topics.subscriber_mut(connection, topic)
    }

    /// Sets the offset after which a subscription delivers its channel's events.
    pub(super) fn answer_from(&mut self, slot: u32, topic: u32, from: u64) {
        if let Some(subscriber) = self.subscriber_mut(slot, topic) {
            subscriber.from = from;
        }
    }

    pub(super) fn is_live(&self, slot: u32, topic: u32) -> bool {
        self.subscriber(slot, topic).is_some_and(|f| f.live)
    }

    pub(super) fn filter_of(&self, slot: u32, topic: u32) -> Option<u32> {
        Some(self.subscriber(slot, topic)?.filter)
    }

    pub(super) fn set_filter(
        &mut self,
        slot: u32,
        pattern: &ChannelPattern,
        filter: Option<&Arc<EventFilter>>,
    ) {
        let Some(topic) = self.topics.of(pattern) else {
            return;
        };
        let place = self.filters.acquire(filter);
        let unused = match self.subscriber_mut(slot, topic) {
            Some(subscriber) => std::mem::replace(&mut subscriber.filter, place),
            None => place,
        };
        self.filters.release(unused);
        if let Some(recovery) = self.recovery(slot, topic) {
            for waiting in &mut recovery.waiting {
                waiting.verdict = None;
            }
        }
    }

    /// From now on the subscriber gets live events.
    pub(super) fn go_live(&mut self, slot: u32, topic: u32) {
        self.set_live(slot, topic, true);
    }

    pub(super) fn set_live(&mut self, slot: u32, topic: u32, live: bool) {
        if let Some(subscriber) = self.subscriber_mut(slot, topic) {
            subscriber.live = live;
        }
    }

    /// The first subscriber of this shard: from now on the channel's events come to this shard. Its
    /// position may only be looked up after that, because an event between the two would be lost.
    fn new_topic(&mut self, pattern: &ChannelPattern) -> u32 {
        let route = self.hub.follow(pattern, usize::from(self.index));
        self.topics.insert(pattern, route)
    }
}
