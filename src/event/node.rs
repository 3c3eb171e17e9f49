//! Identifies a server of a cluster.

use std::fmt;
use std::str::FromStr;

/// The number of a node. It is part of connection ids and page tokens, so that a request finds the
/// node that can answer it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u16);

impl NodeId {
    /// The number of a server that is not in a cluster.
    pub const ALONE: NodeId = NodeId(0);

    /// The node with this number.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        NodeId(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for NodeId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(NodeId)
    }
}
