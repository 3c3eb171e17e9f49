//! Who is in which channel, over all shards.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event::ChannelName;

/// The name under which connections without a user are counted.
pub(super) const ANONYMOUS: &str = "anonymous";

const STRIPES: usize = 16;

type Users = HashMap<Arc<str>, u32>;

/// The users of each channel with how many connections each has there. Kept only for channels of
/// namespaces with presence; written when a connection joins or leaves, never by an event.
#[derive(Debug)]
pub(super) struct Presence {
    stripes: [Mutex<HashMap<ChannelName, Users>>; STRIPES],
    hasher: RandomState,
}

/// The users of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Users by name with their connections; at most as many as asked for.
    pub users: Vec<(Arc<str>, u32)>,
    /// How many users there are in all.
    pub total: u64,
}

impl Presence {
    /// Nobody anywhere.
    #[must_use]
    pub(super) fn new() -> Self {
        Presence {
            stripes: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
        }
    }

    fn stripe(&self, channel: &ChannelName) -> MutexGuard<'_, HashMap<ChannelName, Users>> {
        let at = usize::try_from(self.hasher.hash_one(channel) % 16).unwrap_or(0);
        let stripe = self.stripes.get(at).unwrap_or(&self.stripes[0]);
        stripe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection of a user more; true if it is the user's first in the channel.
    pub(super) fn join(&self, channel: &ChannelName, user: &Arc<str>) -> bool {
        let mut channels = self.stripe(channel);
        let count = channels
            .entry(channel.clone())
            .or_default()
            .entry(Arc::clone(user))
            .or_default();
        *count += 1;
        *count == 1
    }

    /// One connection of a user fewer; true if it was the user's last in the channel.
    pub(super) fn leave(&self, channel: &ChannelName, user: &Arc<str>) -> bool {
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

    /// Who is in a channel: the first `limit` users by name.
    #[must_use]
    pub(super) fn of(&self, channel: &ChannelName, limit: usize) -> Present {
        let channels = self.stripe(channel);
        let Some(users) = channels.get(channel) else {
            return Present {
                users: Vec::new(),
                total: 0,
            };
        };
        let total = u64::try_from(users.len()).unwrap_or(u64::MAX);
        let mut users: Vec<(Arc<str>, u32)> = users
            .iter()
            .map(|(user, count)| (Arc::clone(user), *count))
            .collect();
        drop(channels);
        users.sort_unstable();
        users.truncate(limit);
        Present { users, total }
    }
}

impl Default for Presence {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_with_two_connections_joins_and_leaves_once() {
        let presence = Presence::new();
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
}
