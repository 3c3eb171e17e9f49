//! An index of a shard's connections by user.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::hub::shard::slab::Slab;

/// Marks an entry as the slot of a list instead of a connection.
const CROWD: u32 = 1 << 31;

/// The connections of each user. Most users have one, so an entry is a connection's slot, and
/// `user_of` returns its user; only users with several connections have a list.
#[derive(Default)]
pub(super) struct Users {
    entries: HashTable<u32>,
    crowds: Slab<Vec<u32>>,
    hasher: RandomState,
}

impl Users {
    /// The slots of a user's connections.
    pub(super) fn of<'c>(&self, user: &str, user_of: impl Fn(u32) -> Option<&'c str>) -> &[u32] {
        let is_theirs =
            |entry: &u32| speaker(&self.crowds, *entry).and_then(&user_of) == Some(user);
        let entry = self.entries.find(self.hasher.hash_one(user), is_theirs);
        match entry {
            Some(crowd) if crowd & CROWD != 0 => {
                let crowd = self.crowds.get(crowd & !CROWD);
                crowd.map_or(&[], Vec::as_slice)
            }
            Some(one) => std::slice::from_ref(one),
            None => &[],
        }
    }

    /// Adds a connection, for which `user_of` already returns the user.
    pub(super) fn add<'c>(&mut self, slot: u32, user_of: impl Fn(u32) -> Option<&'c str>) {
        let Some(user) = user_of(slot) else { return };
        let Users {
            entries,
            crowds,
            hasher,
        } = self;
        let hash = hasher.hash_one(user);
        let name = |crowds: &_, entry: &u32| speaker(crowds, *entry).and_then(&user_of);
        match entries.find_mut(hash, |entry| name(crowds, entry) == Some(user)) {
            Some(crowd) if *crowd & CROWD != 0 => {
                if let Some(crowd) = crowds.get_mut(*crowd & !CROWD) {
                    crowd.push(slot);
                }
            }
            Some(one) => *one = CROWD | crowds.insert(vec![*one, slot]),
            None => {
                let again = |entry: &u32| hasher.hash_one(name(crowds, entry).unwrap_or_default());
                entries.insert_unique(hash, slot, again);
            }
        }
    }

    /// Removes a connection of a user.
    pub(super) fn remove(&mut self, user: &str, slot: u32) {
        let Users {
            entries,
            crowds,
            hasher,
        } = self;
        let is_it = |entry: &u32| match crowds.get(*entry & !CROWD) {
            Some(crowd) if *entry & CROWD != 0 => crowd.contains(&slot),
            _ => *entry == slot,
        };
        let Ok(mut entry) = entries.find_entry(hasher.hash_one(user), is_it) else {
            return;
        };
        if *entry.get() & CROWD == 0 {
            entry.remove();
            return;
        }
        let place = *entry.get() & !CROWD;
        let Some(crowd) = crowds.get_mut(place) else {
            return;
        };
        crowd.retain(|other| *other != slot);
        if let [last] = **crowd {
            *entry.get_mut() = last;
            crowds.remove(place);
        }
    }
}

/// A connection of an entry, from which the user is read.
fn speaker(crowds: &Slab<Vec<u32>>, entry: u32) -> Option<u32> {
    if entry & CROWD == 0 {
        return Some(entry);
    }
    crowds.get(entry & !CROWD)?.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections 0 to 9 belong to the user `0`, and so on.
    fn names() -> Vec<String> {
        (0..10_000).map(|slot| (slot / 10).to_string()).collect()
    }

    #[test]
    fn connections_of_a_user_are_found() {
        let (names, mut users) = (names(), Users::default());
        let user_of = |slot: u32| names.get(usize::try_from(slot).ok()?).map(String::as_str);
        for slot in (0..10_000).step_by(10) {
            users.add(slot, user_of);
        }
        for user in 0..1000 {
            assert_eq!(users.of(&user.to_string(), user_of), [user * 10]);
        }
        for slot in [71, 72, 73] {
            users.add(slot, user_of);
        }
        assert_eq!(users.of("7", user_of), [70, 71, 72, 73]);
        assert_eq!(users.of("8", user_of), [80]);
        assert!(users.of("nobody", user_of).is_empty());
    }

    #[test]
    fn removed_connections_leave_no_entry() {
        let (names, mut users) = (names(), Users::default());
        let user_of = |slot: u32| names.get(usize::try_from(slot).ok()?).map(String::as_str);
        for slot in 70..80 {
            users.add(slot, user_of);
        }
        for slot in 70..79 {
            users.remove("7", slot);
            assert!(!users.of("7", user_of).contains(&slot));
        }
        assert_eq!(users.of("7", user_of), [79]);
        assert!(users.crowds.is_empty());
        users.remove("7", 70);
        users.remove("7", 79);
        assert!(users.of("7", user_of).is_empty() && users.entries.is_empty());
    }
}
