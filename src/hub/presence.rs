//! The users in each channel, over all shards.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event::ChannelName;

/// The name under which connections without a user are counted.
pub(super) const ANONYMOUS: &str = "anonymous";

const STRIPES: usize = 16;

type Users = HashMap<Arc<str>, u32>;

/// The users in each channel, as far as this node's connections are concerned. It is called only
/// for channels of namespaces with presence, when a connection subscribes or unsubscribes, never
/// for an event.
pub trait PresenceStore: Send + Sync {
    /// Adds a connection of a user; true if it is the user's first in the channel.
    fn join(&self, channel: &ChannelName, user: &Arc<str>) -> bool;

    /// Removes a connection of a user; true if it was the user's last in the channel.
    fn leave(&self, channel: &ChannelName, user: &Arc<str>) -> bool;

    /// Whether the user is in the channel, here or on another node.
    fn is_present(&self, channel: &ChannelName, user: &Arc<str>) -> bool;

    /// Every user of every channel, here and on other nodes.
    fn all(&self) -> Vec<(ChannelName, Arc<str>)>;

    /// The users in a channel: the first `limit` by name.
    fn of(&self, channel: &ChannelName, limit: usize) -> Present;

    /// Renews the leases of this node's entries, in a store that other nodes read too: an entry
    /// that is not renewed expires, so the entries of a dead node disappear. Called about once a
    /// second; never waits.
    fn renew(&self);
}

/// The users of each channel with their numbers of connections there, in memory.
#[derive(Debug)]
pub struct LocalPresence {
    stripes: [Mutex<HashMap<ChannelName, Users>>; STRIPES],
    hasher: RandomState,
}

/// The users of one channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// Users by name with their connections; at most the requested number.
    pub users: Vec<(Arc<str>, u32)>,
    /// The total number of users.
    pub total: u64,
}

impl Present {
    /// Merges the users of several nodes: the first `limit` by name.
    #[must_use]
    pub fn merged(parts: impl Iterator<Item = Present>, limit: usize) -> Self {
        let mut parts = parts.peekable();
        let first = parts.next().unwrap_or_default();
        if parts.peek().is_none() {
            return first;
        }
        let mut all: BTreeMap<Arc<str>, u32> = first.users.into_iter().collect();
        // Users beyond a node's own page are only counted, once for each node.
        let count = |users: usize| u64::try_from(users).unwrap_or(u64::MAX);
        let unnamed = |total: u64, named: usize| total.saturating_sub(count(named));
        let mut beyond = unnamed(first.total, all.len());
        for part in parts {
            beyond += unnamed(part.total, part.users.len());
            for (user, connections) in part.users {
                let sum = all.entry(user).or_default();
                *sum = sum.saturating_add(connections);
            }
        }
        let total = beyond.saturating_add(count(all.len()));
        Present {
            users: all.into_iter().take(limit).collect(),
            total,
        }
    }
}

impl LocalPresence {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        LocalPresence {
            stripes: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
        }
    }

    /// True if the user has a connection in the channel.
    #[must_use]
    pub fn has(&self, channel: &ChannelName, user: &Arc<str>) -> bool {
        let channels = self.stripe(channel);
        channels
            .get(channel)
            .is_some_and(|users| users.contains_key(user))
    }

    /// Every user of every channel. One stripe is locked at a time.
    #[must_use]
    pub fn all(&self) -> Vec<(ChannelName, Arc<str>)> {
        let mut all = Vec::new();
        for stripe in &self.stripes {
            let channels = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            for (channel, users) in channels.iter() {
                all.extend(users.keys().map(|user| (channel.clone(), Arc::clone(user))));
            }
        }
        all
    }

    fn stripe(&self, channel: &ChannelName) -> MutexGuard<'_, HashMap<ChannelName, Users>> {
        let at = usize::try_from(self.hasher.hash_one(channel) % 16).unwrap_or(0);
        let stripe = self.stripes.get(at).unwrap_or(&self.stripes[0]);
        stripe.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PresenceStore for LocalPresence {
    fn join(&self, channel: &ChannelName, user: &Arc<str>) -> bool {
        let mut channels = self.stripe(channel);
        let count = channels
            .entry(channel.clone())
            .or_default()
            .entry(Arc::clone(user))
            .or_default();
        *count += 1;
        *count == 1
    }

    fn leave(&self, channel: &ChannelName, user: &Arc<str>) -> bool {
        let mut channels = self.stripe(channel);
        let Some(users) = channels.get_mut(channel) else {
            return false;
        };
        let Entry::Occupied(mut count) = users.entry(Arc::clone(user)) else {
            return false;
        };
        *count.get_mut() -= 1;
        let last = *count.get() == 0;
        if last {
            count.remove();
            if users.is_empty() {
                channels.remove(channel);
            }
        }
        last
    }

    fn is_present(&self, channel: &ChannelName, user: &Arc<str>) -> bool {
        self.has(channel, user)
    }

    fn all(&self) -> Vec<(ChannelName, Arc<str>)> {
        LocalPresence::all(self)
    }

    fn of(&self, channel: &ChannelName, limit: usize) -> Present {
        let channels = self.stripe(channel);
        let Some(users) = channels.get(channel) else {
            return Present {
                users: Vec::new(),
                total: 0,
            };
        };
        let total = u64::try_from(users.len()).unwrap_or(u64::MAX);
        if limit == 0 {
            // Only the total is asked for.
            return Present {
                users: Vec::new(),
                total,
            };
        }
        let mut users: Vec<(Arc<str>, u32)> = users
            .iter()
            .map(|(user, count)| (Arc::clone(user), *count))
            .collect();
        drop(channels);
        users.sort_unstable();
        users.truncate(limit);
        Present { users, total }
    }

    /// No other node reads it, and it ends with the process.
    fn renew(&self) {}
}

impl Default for LocalPresence {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_with_two_connections_joins_and_leaves_once() {
        let presence = LocalPresence::new();
        let channel = ChannelName::new("project:1").unwrap();
        let user: Arc<str> = Arc::from("alice");
        assert!(presence.join(&channel, &user));
        assert!(!presence.join(&channel, &user));
        assert_eq!(presence.of(&channel, 10).users, [(Arc::clone(&user), 2)]);
        assert!(!presence.leave(&channel, &user));
        assert!(presence.leave(&channel, &user));
        assert!(!presence.leave(&channel, &user));
        assert_eq!(
            presence.of(&channel, 10),
            Present {
                users: Vec::new(),
                total: 0
            }
        );
    }

    #[test]
    fn users_of_several_nodes_are_merged_by_name() {
        let part = |users: &[(&str, u32)], total| Present {
            users: users
                .iter()
                .map(|(user, n)| (Arc::from(*user), *n))
                .collect(),
            total,
        };
        let alone = part(&[("ann", 2)], 7);
        assert_eq!(Present::merged([alone.clone()].into_iter(), 10), alone);
        let parts = [part(&[("bob", 1), ("ann", 1)], 2), part(&[("ann", 2)], 1)];
        let merged = Present::merged(parts.into_iter(), 10);
        assert_eq!(merged, part(&[("ann", 3), ("bob", 1)], 2));
        let none = Present::merged(std::iter::empty(), 10);
        assert_eq!(none, Present::default());
    }
}
