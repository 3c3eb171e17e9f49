//! The connections of a shard: by slot, by id and by user.

use super::user_index::Users;
use crate::event::ConnectionId;
use crate::hub::shard::connection::Connection;
use crate::hub::shard::slab::Slab;

/// Owns the connections.
pub(super) struct Connections {
    shard: u16,
    slab: Slab<Connection>,
    users: Users,
}

impl Connections {
    /// No connections; ids contain this shard.
    pub(super) fn new(shard: u16) -> Self {
        Connections {
            shard,
            slab: Slab::new(),
            users: Users::default(),
        }
    }

    /// Adds a connection and returns its slot.
    pub(super) fn insert(&mut self, connection: Connection) -> u32 {
        self.slab.insert(connection)
    }

    /// Removes a connection. [`Connections::remove_user`] removes its user.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Connection> {
        self.slab.remove(slot)
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&Connection> {
        self.slab.get(slot)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slab.get_mut(slot)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Connection)> {
        self.slab.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// One past the highest slot.
    pub(super) fn end(&self) -> u32 {
        self.slab.end()
    }

    /// The id of the connection in a slot.
    pub(super) fn id(&self, slot: u32) -> Option<ConnectionId> {
        let connection = self.slab.get(slot)?;
        Some(ConnectionId::new(self.shard, slot, connection.nonce))
    }

    /// The slot of a connection. `None` if it no longer exists, even if another one has its slot by
    /// now.
    pub(super) fn find(&self, id: ConnectionId) -> Option<u32> {
        let connection = self.slab.get(id.slot())?;
        (id.shard() == self.shard && connection.nonce == id.nonce()).then_some(id.slot())
    }

    /// The slots of a user's connections.
    pub(super) fn of_user(&self, user: &str) -> &[u32] {
        self.users.of(user, |slot| self.slab.get(slot)?.user())
    }

    /// Indexes a connection by its user, which is set already.
    pub(super) fn add_user(&mut self, slot: u32) {
        let Connections { slab, users, .. } = self;
        users.add(slot, |slot| slab.get(slot)?.user());
    }

    /// Removes a slot from the index of users.
    pub(super) fn remove_user(&mut self, user: &str, slot: u32) {
        self.users.remove(user, slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::shard::fixture::connection;

    #[test]
    fn id_of_removed_connection_never_finds_its_successor() {
        let mut connections = Connections::new(3);
        let slot = connections.insert(connection(None));
        let id = connections.id(slot).unwrap();
        assert_eq!(connections.find(id), Some(slot));
        let other_shard = ConnectionId::new(4, slot, id.nonce());
        assert_eq!(connections.find(other_shard), None);
        connections.remove(slot);
        let mut successor = connection(None);
        successor.nonce = id.nonce() + 1;
        assert_eq!(connections.insert(successor), slot, "the slot is reused");
        assert_eq!(connections.find(id), None);
    }

    #[test]
    fn user_index_holds_each_connection_once_until_removed() {
        let mut connections = Connections::new(0);
        let slots = [(); 2].map(|()| connections.insert(connection(Some("ann"))));
        for slot in slots {
            connections.add_user(slot);
        }
        assert_eq!(connections.of_user("ann"), slots);
        connections.remove_user("ann", slots[0]);
        assert_eq!(connections.of_user("ann"), [slots[1]]);
        assert!(connections.of_user("bob").is_empty());
    }
}
