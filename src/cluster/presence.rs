//! Presence over several nodes.
//!
//! Each node tells the others when a user joins a channel with the node's first connection, or
//! leaves it with the last. So every node knows on which other nodes a user is, and notifies its
//! own subscribers once: at the first node and after the last.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::messages::pb;
use crate::event::{ChannelName, NodeId};
use crate::hub::{LocalPresence, PresenceStore, Present};

/// A user joined a channel on a node, or left it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// The channel.
    pub channel: ChannelName,
    /// The user.
    pub user: Arc<str>,
    /// False if the user left.
    pub joined: bool,
}

impl Change {
    pub(super) fn message(&self) -> pb::PresenceChange {
        pb::PresenceChange {
            channel: self.channel.to_string(),
            user: self.user.to_string(),
            joined: self.joined,
        }
    }

    pub(super) fn of(message: &pb::PresenceChange) -> Option<Self> {
        Some(Change {
            channel: ChannelName::new(&message.channel).ok()?,
            user: Arc::from(message.user.as_str()),
            joined: message.joined,
        })
    }
}

/// A user of this node who joined a channel or left it. Which of the two is read when it is sent: two
/// connections of a user change on two threads, and may be noted here in the other order.
pub type Changed = (ChannelName, Arc<str>);

/// The most changes that wait to be sent.
const QUEUED: usize = 65_536;

type Elsewhere = HashMap<ChannelName, HashMap<Arc<str>, BTreeSet<NodeId>>>;

/// The users of this node, and on which other nodes users are.
pub struct ClusterPresence {
    local: LocalPresence,
    elsewhere: Mutex<Elsewhere>,
    changes: Sender<Changed>,
    /// True once a change found no room: the other nodes need everything anew.
    overflowed: AtomicBool,
}

impl ClusterPresence {
    /// Nobody anywhere; and the changes of this node, to send to the others.
    #[must_use]
    pub fn new() -> (Arc<Self>, Receiver<Changed>) {
        let (changes, receiver) = channel(QUEUED);
        let presence = ClusterPresence {
            local: LocalPresence::new(),
            elsewhere: Mutex::default(),
            changes,
            overflowed: AtomicBool::new(false),
        };
        (Arc::new(presence), receiver)
    }

    fn elsewhere(&self) -> MutexGuard<'_, Elsewhere> {
        self.elsewhere
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The other nodes need everything anew.
    pub(super) fn overflow(&self) {
        self.overflowed.store(true, Ordering::Release);
    }

    /// True if the other nodes need everything anew; false from then on.
    pub(super) fn take_overflow(&self) -> bool {
        self.overflowed.swap(false, Ordering::AcqRel)
    }

    /// What to tell other nodes of a user who has joined or left.
    pub(super) fn now(&self, (channel, user): Changed) -> Change {
        Change {
            joined: self.local.has(&channel, &user),
            channel,
            user,
        }
    }

    /// All users on this node.
    pub(super) fn local_users(&self) -> Vec<Change> {
        let joined = |(channel, user)| Change {
            channel,
            user,
            joined: true,
        };
        self.local.all().into_iter().map(joined).collect()
    }

    /// A user joined or left on another node; true if that is news to this node's subscribers.
    pub(super) fn changed_elsewhere(&self, node: NodeId, change: &Change) -> bool {
        let mut elsewhere = self.elsewhere();
        let is_here = self.local.has(&change.channel, &change.user);
        if change.joined {
            let users = elsewhere.entry(change.channel.clone()).or_default();
            let nodes = users.entry(Arc::clone(&change.user)).or_default();
            let is_first = nodes.is_empty();
            return nodes.insert(node) && is_first && !is_here;
        }
        let Some(users) = elsewhere.get_mut(&change.channel) else {
            return false;
        };
        let Some(nodes) = users.get_mut(&change.user) else {
            return false;
        };
        let left = nodes.remove(&node);
        let is_last = nodes.is_empty();
        if is_last {
            users.remove(&change.user);
            if users.is_empty() {
                elsewhere.remove(&change.channel);
            }
        }
        left && is_last && !is_here
    }

    /// A node is gone. Returns the users that have left with it.
    pub(super) fn node_lost(&self, node: NodeId) -> Vec<(ChannelName, Arc<str>)> {
        let mut gone = Vec::new();
        self.elsewhere().retain(|channel, users| {
            users.retain(|user, nodes| {
                if nodes.remove(&node) && nodes.is_empty() && !self.local.has(channel, user) {
                    gone.push((channel.clone(), Arc::clone(user)));
                }
                !nodes.is_empty()
            });
            !users.is_empty()
        });
        gone
    }
}

impl PresenceStore for Arc<ClusterPresence> {
    fn join(&self, channel: &ChannelName, user: &Arc<str>) -> bool {
        // Held throughout, so that a change of another node comes before this one or after it.
        let elsewhere = self.elsewhere();
        if !self.local.join(channel, user) {
            return false;
        }
        self.tell(channel, user);
        !is_in(&elsewhere, channel, user)
    }

    fn leave(&self, channel: &ChannelName, user: &Arc<str>) -> bool {
        let elsewhere = self.elsewhere();
        if !self.local.leave(channel, user) {
            return false;
        }
        self.tell(channel, user);
        !is_in(&elsewhere, channel, user)
    }

    fn is_present(&self, channel: &ChannelName, user: &Arc<str>) -> bool {
        self.local.has(channel, user) || is_in(&self.elsewhere(), channel, user)
    }

    fn all(&self) -> Vec<(ChannelName, Arc<str>)> {
        let mut all = self.local.all();
        for (channel, users) in self.elsewhere().iter() {
            let users = users.keys();
            all.extend(users.map(|user| (channel.clone(), Arc::clone(user))));
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    fn of(&self, channel: &ChannelName, limit: usize) -> Present {
        self.local.of(channel, limit)
    }

    /// Heartbeats act as the lease: the users of a node without heartbeats leave.
    fn renew(&self) {}
}

impl ClusterPresence {
    fn tell(&self, channel: &ChannelName, user: &Arc<str>) {
        let changed = (channel.clone(), Arc::clone(user));
        if self.changes.try_send(changed).is_err() {
            self.overflow();
        }
    }
}

fn is_in(elsewhere: &Elsewhere, channel: &ChannelName, user: &Arc<str>) -> bool {
    let users = elsewhere.get(channel);
    users.is_some_and(|users| users.contains_key(user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_joins_with_first_node_and_leaves_with_last() {
        let (presence, mut changes) = ClusterPresence::new();
        let channel = ChannelName::new("room:1").unwrap();
        let user: Arc<str> = Arc::from("ann");
        let elsewhere = |joined| Change {
            channel: channel.clone(),
            user: Arc::clone(&user),
            joined,
        };
        let (one, two) = (NodeId::new(1), NodeId::new(2));
        assert!(presence.changed_elsewhere(one, &elsewhere(true)));
        assert!(
            !presence.changed_elsewhere(one, &elsewhere(true)),
            "repeated"
        );
        assert!(!presence.changed_elsewhere(two, &elsewhere(true)));
        assert!(!presence.join(&channel, &user), "known already");
        assert!(presence.now(changes.try_recv().unwrap()).joined);
        assert!(!presence.changed_elsewhere(one, &elsewhere(false)));
        assert!(presence.node_lost(two).is_empty(), "still here");
        assert!(presence.leave(&channel, &user));
        assert!(!presence.now(changes.try_recv().unwrap()).joined);
        assert!(presence.changed_elsewhere(two, &elsewhere(true)));
        assert_eq!(presence.node_lost(two).len(), 1);
    }

    #[test]
    fn user_who_left_and_is_back_before_that_was_sent_is_told_as_present() {
        let (presence, mut changes) = ClusterPresence::new();
        let channel = ChannelName::new("room:1").unwrap();
        let user: Arc<str> = Arc::from("ann");
        presence.join(&channel, &user);
        presence.leave(&channel, &user);
        presence.join(&channel, &user);
        while let Ok(changed) = changes.try_recv() {
            assert!(presence.now(changed).joined);
        }
    }
}
