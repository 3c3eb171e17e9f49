//! What was reported so far, and what follows from an edge.
//!
//! An edge says that something has changed, and the hub's tables say how it is now. Edges of one
//! channel from two shards may come in either order, and some may be lost when the queue is full.
//! So an edge that the tables contradict is ignored, or looked at again a second later.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::event::{ABNORMAL, Connection, Ended, Fact, What};
use crate::event::{ChannelName, ConnectionId, Timestamp};

/// How long a channel must be without subscribers to be reported as vacated, in milliseconds.
pub(super) const VACANT: u64 = 1_000;
/// How long after a restart clients have to return before what they have left is reported, in
/// milliseconds.
pub(super) const RETURN: u64 = 15_000;

/// How things are.
pub(super) trait Actual {
    /// Whether a channel has subscribers, on any node.
    fn is_occupied(&self, channel: &ChannelName) -> bool;
    /// Whether a user is in a channel, on any node.
    fn is_present(&self, channel: &ChannelName, user: &Arc<str>) -> bool;
}

/// A channel, or a user in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Item {
    Channel(ChannelName),
    User(ChannelName, Arc<str>),
}

/// What was reported. Its size is bounded by the connections and subscriptions of the server.
#[derive(Debug, Default)]
pub(super) struct Reported {
    /// Open connections with their users.
    open: HashMap<ConnectionId, Option<Arc<str>>>,
    occupied: HashSet<ChannelName>,
    present: HashSet<(ChannelName, Arc<str>)>,
    /// When to look again, and when the item was left.
    waiting: HashMap<Item, (u64, Timestamp)>,
    /// The same, by time.
    due: BTreeSet<(u64, Item)>,
}

impl Reported {
    /// Returns what is to be reported after this fact.
    pub(super) fn apply(&mut self, fact: Fact, now: u64, actual: &dyn Actual) -> Option<Fact> {
        let at = fact.at;
        match &fact.what {
            What::Opened(connection) => {
                let before = self.open.insert(connection.id, connection.user.clone());
                before.is_none().then_some(fact)
            }
            What::Closed(connection, _) => self.open.remove(&connection.id).map(|_| fact),
            What::Occupied(channel) => {
                let is_occupied = actual.is_occupied(channel);
                let item = Item::Channel(channel.clone());
                let is_new = self.occupied.insert(channel.clone());
                if is_occupied {
                    self.stop_waiting(&item);
                } else {
                    self.wait(item, now + VACANT, at);
                }
                is_new.then_some(fact)
            }
            What::Vacated(channel) => {
                if self.occupied.contains(channel) && !actual.is_occupied(channel) {
                    self.wait(Item::Channel(channel.clone()), now + VACANT, at);
                }
                None
            }
            What::Joined(channel, user) => {
                let item = Item::User(channel.clone(), Arc::clone(user));
                let is_new = self.present.insert((channel.clone(), Arc::clone(user)));
                if actual.is_present(channel, user) {
                    self.stop_waiting(&item);
                } else {
                    self.wait(item, now + VACANT, at);
                }
                is_new.then_some(fact)
            }
            What::Left(channel, user) => {
                if actual.is_present(channel, user) {
                    return None;
                }
                let key = (channel.clone(), Arc::clone(user));
                let was_present = self.present.remove(&key);
                self.stop_waiting(&Item::User(key.0, key.1));
                was_present.then_some(fact)
            }
        }
    }

    /// Reports what has been left for long enough.
    pub(super) fn after_wait(&mut self, now: u64, actual: &dyn Actual, out: &mut Vec<Fact>) {
        while let Some((due, item)) = self.due.first().cloned()
            && due <= now
        {
            self.due.pop_first();
            let left_at = self.waiting.remove(&item).map(|(_, at)| at);
            let at = left_at.unwrap_or_else(Timestamp::now);
            self.leave(item, at, actual, out);
        }
    }

    /// Reports everything that waits, at once: the server stops, and nothing will be left.
    pub(super) fn end_waits(&mut self, actual: &dyn Actual, out: &mut Vec<Fact>) {
        self.after_wait(u64::MAX, actual, out);
    }

    /// When something is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes over what an earlier process has reported. Clients have time to return.
    pub(super) fn restore(&mut self, item: Item, now: u64, at: Timestamp) {
        match &item {
            Item::Channel(channel) => {
                self.occupied.insert(channel.clone());
            }
            Item::User(channel, user) => {
                self.present.insert((channel.clone(), Arc::clone(user)));
            }
        }
        self.wait(item, now + RETURN, at);
    }

    /// Edges were lost: compares the channels with those that have subscribers now.
    pub(super) fn compare_channels(
        &mut self,
        occupied: impl Iterator<Item = ChannelName>,
        now: u64,
        actual: &dyn Actual,
        out: &mut Vec<Fact>,
    ) {
        let at = Timestamp::now();
        for channel in occupied {
            let what = What::Occupied(channel);
            out.extend(self.apply(Fact { what, at }, now, actual));
        }
        let known: Vec<ChannelName> = self.occupied.iter().cloned().collect();
        for channel in known {
            let what = What::Vacated(channel);
            out.extend(self.apply(Fact { what, at }, now, actual));
        }
    }

    /// Edges were lost: compares the users in channels with those that are there now.
    pub(super) fn compare_users(
        &mut self,
        present: impl Iterator<Item = (ChannelName, Arc<str>)>,
        now: u64,
        actual: &dyn Actual,
        out: &mut Vec<Fact>,
    ) {
        let at = Timestamp::now();
        let known: Vec<(ChannelName, Arc<str>)> = self.present.iter().cloned().collect();
        for (channel, user) in known {
            let what = What::Left(channel, user);
            out.extend(self.apply(Fact { what, at }, now, actual));
        }
        for (channel, user) in present {
            let what = What::Joined(channel, user);
            out.extend(self.apply(Fact { what, at }, now, actual));
        }
    }

    /// Edges were lost: compares the connections with those that are open now.
    pub(super) fn compare_connections(&mut self, open: Vec<Connection>, out: &mut Vec<Fact>) {
        let at = Timestamp::now();
        let ids: HashSet<ConnectionId> = open.iter().map(|connection| connection.id).collect();
        let gone: Vec<ConnectionId> = self.open.keys().copied().collect();
        for id in gone.into_iter().filter(|id| !ids.contains(id)) {
            if let Some(user) = self.open.remove(&id) {
                out.push(closed_unseen(id, user, at, "its end was not recorded"));
            }
        }
        for connection in open {
            let known = self.open.insert(connection.id, connection.user.clone());
            if known.is_none() {
                let what = What::Opened(Box::new(connection));
                out.push(Fact { what, at });
            }
        }
    }

    fn leave(&mut self, item: Item, at: Timestamp, actual: &dyn Actual, out: &mut Vec<Fact>) {
        match item {
            Item::Channel(channel) => {
                if !actual.is_occupied(&channel) && self.occupied.remove(&channel) {
                    let what = What::Vacated(channel);
                    out.push(Fact { what, at });
                }
            }
            Item::User(channel, user) => {
                if actual.is_present(&channel, &user) {
                    return;
                }
                let key = (channel, user);
                if self.present.remove(&key) {
                    let what = What::Left(key.0, key.1);
                    out.push(Fact { what, at });
                }
            }
        }
    }

    fn wait(&mut self, item: Item, due: u64, at: Timestamp) {
        if let Some((before, _)) = self.waiting.insert(item.clone(), (due, at)) {
            self.due.remove(&(before, item.clone()));
        }
        self.due.insert((due, item));
    }

    fn stop_waiting(&mut self, item: &Item) {
        if let Some((due, _)) = self.waiting.remove(item) {
            self.due.remove(&(due, item.clone()));
        }
    }
}

/// The end of a connection that nobody has seen.
pub(super) fn closed_unseen(
    id: ConnectionId,
    user: Option<Arc<str>>,
    at: Timestamp,
    reason: &str,
) -> Fact {
    let connection = Connection {
        id,
        user,
        roles: Vec::new(),
        address: None,
        transport: "",
    };
    let ended = Ended {
        code: ABNORMAL,
        reason: reason.into(),
        by: "server".into(),
        totals: None,
    };
    let what = What::Closed(Box::new(connection), Box::new(ended));
    Fact { what, at }
}
