//! The topics of a shard: the channels and patterns that its connections subscribe to.

use std::collections::HashMap;
use std::sync::Arc;

use super::channel_index::Names;
use crate::event::{ChannelName, ChannelPattern, Epoch, Position};
use crate::hub::interest::Interest;
use crate::hub::shard::connection::Connection;
use crate::hub::shard::slab::Slab;

/// A removed subscriber.
#[derive(Debug)]
pub(super) struct Unsubscribed {
    pub(super) gone: Subscriber,
    /// The connection whose subscriber has the free index from now on.
    pub(super) moved: Option<u32>,
    /// True if it was the topic's last on this node.
    pub(super) was_last: bool,
}

/// A channel or pattern, with its subscribers on this shard.
pub(super) struct Topic {
    /// Distinguishes the channel's epoch from all others that the shard has seen.
    pub(super) serial: u32,
    pub(super) pattern: ChannelPattern,
    pub(super) route: Arc<Interest>,
    /// The newest event that this shard has seen; `None` if no history is kept.
    pub(super) position: Option<Position>,
    /// The epoch before this one. Its events are late: they were queued before the new epoch was
    /// looked up.
    pub(super) former: Option<Epoch>,
    pub(super) subscribers: Vec<Subscriber>,
    /// The number of subscribers with `presence`.
    pub(super) watchers: u32,
}

impl Topic {
    /// What distinguishes the epoch that this shard knows from one that it will learn later; `None`
    /// while it knows none.
    pub(super) fn known_epoch(&self) -> Option<(u32, Epoch)> {
        Some((self.serial, self.position?.epoch))
    }
}

/// One subscriber of a topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscriber {
    /// The connection's slot.
    pub(super) connection: u32,
    /// Its filter's slot in the filter table; `u32::MAX` if it has none.
    pub(super) filter: u32,
    /// True if it gets events as they are published, not from history.
    pub(super) live: bool,
    pub(super) watches: bool,
    /// It has a minimum interval.
    pub(super) throttled: bool,
    /// This subscription delivers the channel's events after this offset. Earlier ones are
    /// delivered by a pattern to which the connection is subscribed as well.
    pub(super) from: u64,
}

/// The relation of a batch's position to its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advance {
    /// No position was known: every event is new.
    First,
    /// The events after this offset are new.
    After(u64),
    /// The position already covers every event.
    Known,
    /// The events are of the epoch before this one: late, unless a lookup was older than they are.
    Former,
    /// The channel has a new epoch.
    NewEpoch,
    /// Events between this position and the batch are missing.
    Gap(Position),
}

/// Owns the topics.
#[derive(Default)]
pub(super) struct Topics {
    slab: Slab<Topic>,
    by_channel: Names,
    by_namespace: HashMap<Arc<str>, u32>,
    all: Option<u32>,
    serials: u32,
}

impl Topics {
    #[inline]
    pub(super) fn get(&self, topic: u32) -> Option<&Topic> {
        self.slab.get(topic)
    }

    pub(super) fn get_mut(&mut self, topic: u32) -> Option<&mut Topic> {
        self.slab.get_mut(topic)
    }

    /// The topic of a channel.
    pub(super) fn of_channel(&self, channel: &ChannelName) -> Option<u32> {
        self.by_channel.find(channel, &self.slab)
    }

    /// The topic of a channel or pattern.
    pub(super) fn of(&self, pattern: &ChannelPattern) -> Option<u32> {
        match pattern {
            ChannelPattern::Exact(channel) => self.of_channel(channel),
            ChannelPattern::Namespace(namespace) => self.by_namespace.get(namespace).copied(),
            ChannelPattern::All => self.all,
        }
    }

    /// The topics of all channels.
    pub(super) fn channels(&self) -> impl Iterator<Item = u32> {
        let is_channel = |topic: &Topic| matches!(topic.pattern, ChannelPattern::Exact(_));
        (0..self.slab.end()).filter(move |place| self.get(*place).is_some_and(is_channel))
    }

    /// The topics that an event of this channel reaches: the channel's own first.
    pub(super) fn matching(&self, channel: &ChannelName) -> [Option<u32>; 3] {
        [
            self.of_channel(channel),
            self.by_namespace.get(channel.namespace()).copied(),
            self.all,
        ]
    }

    /// A number that no subscription and no topic of this shard had recently.
    pub(super) fn next_serial(&mut self) -> u32 {
        self.serials = self.serials.wrapping_add(1);
        self.serials
    }

    /// Adds the topic of a pattern that has none yet.
    pub(super) fn insert(&mut self, pattern: &ChannelPattern, route: Arc<Interest>) -> u32 {
        let topic = Topic {
            serial: self.next_serial(),
            pattern: pattern.clone(),
            route,
            position: None,
            former: None,
            subscribers: Vec::new(),
            watchers: 0,
        };
        let place = self.slab.insert(topic);
        match pattern {
            ChannelPattern::Exact(channel) => self.by_channel.insert(channel, place, &self.slab),
            ChannelPattern::Namespace(namespace) => {
                self.by_namespace.insert(Arc::clone(namespace), place);
            }
            ChannelPattern::All => self.all = Some(place),
        }
        place
    }

    /// Removes a topic if it has no subscribers; returns its pattern.
    pub(super) fn remove_if_empty(&mut self, place: u32) -> Option<ChannelPattern> {
        if !self.slab.get(place)?.subscribers.is_empty() {
            return None;
        }
        let topic = self.slab.remove(place)?;
        match &topic.pattern {
            ChannelPattern::Exact(channel) => self.by_channel.remove(channel, place),
            ChannelPattern::Namespace(namespace) => {
                self.by_namespace.remove(namespace);
            }
            ChannelPattern::All => self.all = None,
        }
        Some(topic.pattern)
    }

    /// Adds a subscriber. Returns its index in the topic, and whether it is the topic's first on this
    /// node.
    pub(super) fn subscribe(&mut self, topic: u32, subscriber: Subscriber) -> Option<(u32, bool)> {
        let topic = self.slab.get_mut(topic)?;
        let at = u32::try_from(topic.subscribers.len()).unwrap_or(u32::MAX);
        if topic.subscribers.is_empty() {
            // Most channels of a large server belong to one user: no spare capacity.
            topic.subscribers.reserve_exact(1);
        }
        topic.subscribers.push(subscriber);
        topic.watchers += u32::from(subscriber.watches);
        Some((at, topic.route.joined()))
    }

    /// Removes the subscriber at an index.
    pub(super) fn unsubscribe(&mut self, topic: u32, at: u32) -> Option<Unsubscribed> {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let topic = self.slab.get_mut(topic)?;
        if at >= topic.subscribers.len() {
            return None;
        }
        let gone = topic.subscribers.swap_remove(at);
        topic.watchers -= u32::from(gone.watches);
        Some(Unsubscribed {
            gone,
            moved: topic.subscribers.get(at).map(|s| s.connection),
            was_last: topic.route.left(),
        })
    }

    /// A connection's entry among a topic's subscribers.
    pub(super) fn subscriber(&self, connection: &Connection, topic: u32) -> Option<&Subscriber> {
        let at = usize::try_from(connection.subscription(topic)?.at).ok()?;
        self.slab.get(topic)?.subscribers.get(at)
    }

    /// The same, mutably.
    pub(super) fn subscriber_mut(
        &mut self,
        connection: &Connection,
        topic: u32,
    ) -> Option<&mut Subscriber> {
        let at = usize::try_from(connection.subscription(topic)?.at).ok()?;
        self.slab.get_mut(topic)?.subscribers.get_mut(at)
    }

    /// Moves a topic's position over a batch from `start` to `end`.
    pub(super) fn advance(&mut self, topic: u32, start: Position, end: Position) -> Advance {
        let Some(topic) = self.slab.get_mut(topic) else {
            return Advance::First;
        };
        let Some(before) = topic.position.replace(end) else {
            return Advance::First;
        };
        if before.epoch != end.epoch {
            if topic.former == Some(end.epoch) {
                topic.position = Some(before);
                return Advance::Former;
            }
            topic.former = Some(before.epoch);
            return Advance::NewEpoch;
        }
        if end.offset <= before.offset {
            topic.position = Some(before);
            return Advance::Known;
        }
        if start.offset > before.offset + 1 {
            return Advance::Gap(before);
        }
        Advance::After(before.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> ChannelPattern {
        ChannelPattern::Exact(ChannelName::new(name).unwrap())
    }

    fn subscriber(connection: u32) -> Subscriber {
        Subscriber {
            connection,
            filter: u32::MAX,
            live: true,
            watches: connection.is_multiple_of(2),
            throttled: false,
            from: 0,
        }
    }

    #[test]
    fn event_matches_its_channel_its_namespace_and_all() {
        let mut topics = Topics::default();
        let one = topics.insert(&channel("room:1"), Arc::default());
        topics.insert(&channel("room:2"), Arc::default());
        let room = ChannelPattern::Namespace(Arc::from("room"));
        let namespace = topics.insert(&room, Arc::default());
        let name = ChannelName::new("room:1").unwrap();
        assert_eq!(topics.matching(&name), [Some(one), Some(namespace), None]);
        let all = topics.insert(&ChannelPattern::All, Arc::default());
        assert_eq!(topics.matching(&name)[2], Some(all));
        let other = ChannelName::new("hall:1").unwrap();
        assert_eq!(topics.matching(&other), [None, None, Some(all)]);
        for (place, pattern) in [(one, channel("room:1")), (namespace, room)] {
            assert_eq!(topics.remove_if_empty(place), Some(pattern.clone()));
            assert_eq!(topics.of(&pattern), None);
        }
    }

    #[test]
    fn last_subscriber_takes_the_index_of_the_removed_one() {
        let mut topics = Topics::default();
        let route: Arc<Interest> = Arc::default();
        let topic = topics.insert(&channel("room:1"), Arc::clone(&route));
        for connection in 0..3 {
            let at = topics.subscribe(topic, subscriber(connection));
            assert_eq!(at, Some((connection, connection == 0)));
        }
        assert_eq!(route.subscriptions(), 3);
        assert_eq!(topics.get(topic).unwrap().watchers, 2);
        let removed = topics.unsubscribe(topic, 0).unwrap();
        assert_eq!((removed.gone.connection, removed.moved), (0, Some(2)));
        assert!(!removed.was_last);
        assert_eq!(topics.get(topic).unwrap().watchers, 1);
        assert!(topics.unsubscribe(topic, 2).is_none());
        assert_eq!(topics.unsubscribe(topic, 1).unwrap().moved, None);
        assert!(topics.unsubscribe(topic, 0).unwrap().was_last);
        assert_eq!(route.subscriptions(), 0);
        assert!(topics.remove_if_empty(topic).is_some());
    }

    #[test]
    fn position_advances_only_over_new_events() {
        let mut topics = Topics::default();
        let topic = topics.insert(&channel("room:1"), Arc::default());
        let epoch = Epoch::random();
        let at = |offset| Position { epoch, offset };
        assert_eq!(topics.advance(topic, at(3), at(5)), Advance::First);
        assert_eq!(topics.advance(topic, at(5), at(7)), Advance::After(5));
        assert_eq!(topics.advance(topic, at(6), at(7)), Advance::Known);
        assert_eq!(topics.get(topic).unwrap().position, Some(at(7)));
        assert_eq!(topics.advance(topic, at(9), at(9)), Advance::Gap(at(7)));
        let other = Position {
            epoch: Epoch::from_bits(0),
            offset: 1,
        };
        assert_eq!(topics.advance(topic, other, other), Advance::NewEpoch);
        assert_eq!(topics.get(topic).unwrap().position, Some(other));
        assert_eq!(topics.advance(topic, at(10), at(10)), Advance::Former);
        assert_eq!(topics.get(topic).unwrap().position, Some(other), "late");
    }
}
