//! The audience of an event: which connections may receive it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::NodeId;
use crate::error::{Error, Result};

/// Identifies one connection for its lifetime. It contains the node, the shard and the slot of the
/// connection, so that finding it needs no shared table. The upper 16 bits of the nonce are the
/// node, the rest is random: an old id never identifies a newer connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    shard: u16,
    slot: u32,
    nonce: u64,
}

/// The position of the node in a nonce.
const NODE_SHIFT: u32 = 48;

impl ConnectionId {
    /// The id of the connection in this slot of this shard.
    #[must_use]
    pub const fn new(shard: u16, slot: u32, nonce: u64) -> Self {
        ConnectionId { shard, slot, nonce }
    }

    /// The shard that owns the connection.
    #[must_use]
    pub const fn shard(self) -> u16 {
        self.shard
    }

    /// The connection's slot in its shard.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.slot
    }

    /// Distinguishes it from earlier connections in the slot, and from those of other nodes.
    #[must_use]
    pub const fn nonce(self) -> u64 {
        self.nonce
    }

    /// A nonce for a new connection on this node.
    #[must_use]
    pub fn new_nonce(node: NodeId) -> u64 {
        let random = fastrand::u64(1..1 << NODE_SHIFT);
        u64::from(node.number()) << NODE_SHIFT | random
    }

    /// The node that has the connection.
    #[must_use]
    pub fn node(self) -> NodeId {
        let number = u16::try_from(self.nonce >> NODE_SHIFT).unwrap_or(u16::MAX);
        NodeId::new(number)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}{:08x}{:016x}", self.shard, self.slot, self.nonce)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ConnectionId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::field(
                "connection_id",
                "expected a connection id as the server gave it",
            )
        };
        if text.len() != 28
            || !text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            return Err(wrong());
        }
        let shard = u16::from_str_radix(&text[..4], 16).map_err(|_| wrong())?;
        let slot = u32::from_str_radix(&text[4..12], 16).map_err(|_| wrong())?;
        let nonce = u64::from_str_radix(&text[12..], 16).map_err(|_| wrong())?;
        Ok(ConnectionId { shard, slot, nonce })
    }
}

/// Selects receivers. A connection matches if its user is in `users`, one of its roles is in
/// `roles`, or its id is in `connections`. If all three are empty, every connection matches.
/// `except` always excludes a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audience {
    /// User names.
    pub users: Vec<Arc<str>>,
    /// Roles.
    pub roles: Vec<Arc<str>>,
    /// Connections.
    pub connections: Vec<ConnectionId>,
    /// Connections that are excluded.
    pub except_connections: Vec<ConnectionId>,
}

impl Audience {
    /// The most users, connections or exceptions in one audience.
    pub const MAX_NAMES: usize = 1000;
    /// The most roles in one audience.
    pub const MAX_ROLES: usize = 100;
    /// The most bytes of all users and roles together.
    pub const MAX_BYTES: usize = 65_536;

    /// True if no receiver is named. Then the whole channel is addressed, minus the exceptions.
    #[must_use]
    pub fn is_everyone(&self) -> bool {
        self.users.is_empty() && self.roles.is_empty() && self.connections.is_empty()
    }

    /// True if a connection with this identity matches.
    #[must_use]
    pub fn includes(&self, id: ConnectionId, user: Option<&str>, roles: &[Arc<str>]) -> bool {
        if self.except_connections.contains(&id) {
            return false;
        }
        self.is_everyone()
            || user.is_some_and(|user| self.users.iter().any(|u| &**u == user))
            || roles.iter().any(|role| self.roles.contains(role))
            || self.connections.contains(&id)
    }

    /// Checks sizes and names.
    ///
    /// # Errors
    /// `invalid_argument`, with the list's name as field, or `audience` if the total is too large.
    pub fn validate(&self) -> Result<()> {
        let lists = [
            ("users", self.users.len(), Self::MAX_NAMES),
            ("roles", self.roles.len(), Self::MAX_ROLES),
            ("connections", self.connections.len(), Self::MAX_NAMES),
            (
                "except_connections",
                self.except_connections.len(),
                Self::MAX_NAMES,
            ),
        ];
        for (list, len, most) in lists {
            if len > most {
                return Err(Error::field(
                    format!("audience.{list}"),
                    format!("expected at most {most} entries"),
                ));
            }
        }
        for (list, names) in [("users", &self.users), ("roles", &self.roles)] {
            if names.iter().any(|name| !(1..=255).contains(&name.len())) {
                return Err(Error::field(
                    format!("audience.{list}"),
                    "expected names of 1 to 255 bytes",
                ));
            }
        }
        let names = self.users.iter().chain(&self.roles);
        if names.map(|name| name.len()).sum::<usize>() > Self::MAX_BYTES {
            let most = Self::MAX_BYTES;
            return Err(Error::field(
                "audience",
                format!("expected users and roles of at most {most} bytes in all"),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(audience: &Audience) -> Option<String> {
        let error = audience.validate().err()?;
        error.field_name().map(str::to_owned)
    }

    #[test]
    fn connection_id_keeps_length_and_has_node() {
        for number in [0, 1, 0xabcd, u16::MAX] {
            let node = NodeId::new(number);
            let id = ConnectionId::new(3, 7, ConnectionId::new_nonce(node));
            let text = id.to_string();
            assert_eq!(text.len(), 28);
            let read: ConnectionId = text.parse().unwrap();
            assert_eq!((read, read.node()), (id, node));
        }
        let nonces = [(); 2].map(|()| ConnectionId::new_nonce(NodeId::ALONE));
        assert_ne!(nonces[0], nonces[1]);
    }

    #[test]
    fn oversized_audience_names_its_list() {
        let names = |count: usize, length: usize| vec![Arc::<str>::from("x".repeat(length)); count];
        let ids = |count| vec![ConnectionId::new(0, 0, 0); count];
        let none = Audience::default;
        for (audience, field) in [
            (
                Audience {
                    users: names(1000, 64),
                    ..none()
                },
                None,
            ),
            (
                Audience {
                    connections: ids(1000),
                    ..none()
                },
                None,
            ),
            (
                Audience {
                    users: names(1001, 1),
                    ..none()
                },
                Some("audience.users"),
            ),
            (
                Audience {
                    users: names(1, 256),
                    ..none()
                },
                Some("audience.users"),
            ),
            (
                Audience {
                    users: names(1, 0),
                    ..none()
                },
                Some("audience.users"),
            ),
            (
                Audience {
                    roles: names(101, 1),
                    ..none()
                },
                Some("audience.roles"),
            ),
            (
                Audience {
                    connections: ids(1001),
                    ..none()
                },
                Some("audience.connections"),
            ),
            (
                Audience {
                    except_connections: ids(1001),
                    ..none()
                },
                Some("audience.except_connections"),
            ),
            (
                Audience {
                    users: names(1000, 66),
                    ..none()
                },
                Some("audience"),
            ),
        ] {
            assert_eq!(refused(&audience).as_deref(), field);
        }
    }
}
