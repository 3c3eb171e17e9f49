//! Which connections a user has here.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::bus::connection::Connection;
use crate::bus::slots::Slots;

/// Says that the rest of the number is a crowd's place, and not a connection's.
const CROWD: u32 = 1 << 31;

/// The connections of each user. Most users have one, so an entry is the number of a connection,
/// which knows its user; only those with more have a list.
#[derive(Default)]
pub(super) struct Users {
    entries: HashTable<u32>,
    crowds: Slots<Vec<u32>>,
    hasher: RandomState,
}

impl Users {
    /// The places of a user's connections.
    pub(super) fn of<'u>(&'u self, user: &str, connections: &Slots<Connection>) -> &'u [u32] {
        let is_theirs = |entry: &u32| name(&self.crowds, connections, *entry) == Some(user);
        match self.entries.find(self.hasher.hash_one(user), is_theirs) {
            Some(entry) => self.members(entry),
            None => &[],
        }
    }

    /// Notes a connection of a user that it already knows.
    pub(super) fn add(&mut self, slot: u32, connections: &Slots<Connection>) {
        let Some(user) = connections.get(slot).and_then(Connection::user) else {
            return;
        };
        let Users {
            entries,
            crowds,
            hasher,
        } = self;
        let hash = hasher.hash_one(user);
        let is_theirs = |entry: &u32| name(crowds, connections, *entry) == Some(user);
        let Some(entry) = entries.find_mut(hash, is_theirs) else {
            let hash_of = |entry: &u32| {
                hasher.hash_one(name(crowds, connections, *entry).unwrap_or_default())
            };
            entries.insert_unique(hash, slot, hash_of);
            return;
        };
        if *entry & CROWD == 0 {
            *entry = CROWD | crowds.insert(vec![*entry, slot]);
        } else if let Some(crowd) = crowds.get_mut(*entry & !CROWD) {
            crowd.push(slot);
        }
    }

    /// Forgets a connection of a user; it need not be among the connections any more.
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

    fn members<'u>(&'u self, entry: &'u u32) -> &'u [u32] {
        if entry & CROWD == 0 {
            return std::slice::from_ref(entry);
        }
        self.crowds.get(entry & !CROWD).map_or(&[], Vec::as_slice)
    }
}

/// Whose entry it is.
fn name<'c>(
    crowds: &Slots<Vec<u32>>,
    connections: &'c Slots<Connection>,
    entry: u32,
) -> Option<&'c str> {
    let slot = if entry & CROWD == 0 {
        entry
    } else {
        *crowds.get(entry & !CROWD)?.first()?
    };
    connections.get(slot)?.user()
}
