//! Positions in a channel.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Identifies one uninterrupted sequence of offsets of a channel. It is random, so that no two
/// sequences share one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// A new random epoch.
    #[must_use]
    pub fn random() -> Self {
        Epoch(fastrand::u64(1..))
    }

    /// Rebuilds an epoch from the number that a store kept.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Epoch(bits)
    }

    /// The number for a store to keep.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Epoch {
    type Err = Error;

    /// Parses what [`Epoch`] prints. Any other text becomes an epoch that no channel has. A client
    /// that resumes with a foreign position is therefore told to reload instead of being refused.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() || text.len() > 64 {
            return Err(Error::field(
                "epoch",
                "expected an epoch as the server gave it",
            ));
        }
        let well_formed = text.len() == 16 && !text.bytes().any(|b| b.is_ascii_uppercase());
        let bits = if well_formed {
            u64::from_str_radix(text, 16).unwrap_or(0)
        } else {
            0
        };
        Ok(Epoch(bits))
    }
}

/// A position in a channel. Epoch and offset are only meaningful together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The sequence of offsets.
    pub epoch: Epoch,
    /// The offset of an event, starting at 1. 0 precedes the first event.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.offset)
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (epoch, offset) = text
            .split_once('/')
            .ok_or_else(|| Error::field("since", "expected EPOCH/OFFSET"))?;
        let offset = offset
            .parse()
            .map_err(|_| Error::field("since", "expected EPOCH/OFFSET with a whole number"))?;
        Ok(Position {
            epoch: epoch.parse()?,
            offset,
        })
    }
}
