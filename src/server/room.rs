//! Room for sockets: how many may be open at once, in all and of one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::auth::neighbours;

/// The sockets of a listener that are between their TCP handshake and their upgrade, or speak
/// plain HTTP.
pub(super) struct Room {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// An IPv6 address stands for its /64.
    by_address: HashMap<IpAddr, usize>,
}

/// The key of the limit that left no room.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// There are too many in all.
    All,
    /// There are too many of this address.
    Address,
}

impl Room {
    /// Room for so many sockets.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Room {
            most,
            taken: Mutex::default(),
        })
    }

    /// A place for a socket of this address, which may have `most` of them; until it is dropped.
    pub(super) fn take(
        self: &Arc<Self>,
        address: IpAddr,
        most: Option<usize>,
    ) -> Result<Place, Full> {
        let address = neighbours(address);
        let mut taken = self.lock();
        if taken.all >= self.most {
            return Err(Full::All);
        }
        let of_address = taken.by_address.get(&address).copied().unwrap_or_default();
        if most.is_some_and(|most| of_address >= most) {
            return Err(Full::Address);
        }
        taken.all += 1;
        taken.by_address.insert(address, of_address + 1);
        drop(taken);
        Ok(Place {
            room: Arc::clone(self),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one socket.
pub(super) struct Place {
    room: Arc<Room>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_counted_in_all_and_for_each_address() {
        let room = Room::new(3);
        let (one, two) = (ip("2001:db8::1"), ip("2001:db8::2"));
        let first = room.take(one, Some(2)).ok().unwrap();
        let _second = room.take(two, Some(2)).ok().unwrap();
        assert_eq!(room.take(one, Some(2)).err(), Some(Full::Address));
        let _third = room.take(ip("10.0.0.1"), Some(2)).ok().unwrap();
        assert_eq!(room.take(ip("10.0.0.2"), None).err(), Some(Full::All));
        drop(first);
        assert!(room.take(one, Some(2)).is_ok());
    }

    #[test]
    fn whoever_has_gone_leaves_nothing() {
        let room = Room::new(3);
        drop(room.take(ip("10.0.0.1"), None).ok().unwrap());
        assert_eq!(room.lock().all, 0);
        assert!(room.lock().by_address.is_empty());
    }
}
