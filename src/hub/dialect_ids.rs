//! The numbers of dialects, and what assigns them.

use std::sync::atomic::{AtomicU32, Ordering};

/// Identifies a dialect with one framing and one compression, whose frames are the same bytes for
/// every connection. A number is never reused, so that cached frames stay valid when dialects
/// change while the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DialectId(u32);

impl DialectId {
    /// The messages of gRPC's `Subscribe`.
    pub const GRPC: DialectId = DialectId(0);
    /// Server-sent events.
    pub const SSE: DialectId = DialectId(1);

    /// The dialect with this number, which [`DialectIds`] assigns.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        DialectId(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Its number, as an index of a table.
    #[must_use]
    pub fn place(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Assigns the numbers of dialects, each once. The first few get the cheapest slots in every
/// event's table of frames, so the most used dialects should be registered first.
#[derive(Debug)]
pub struct DialectIds(AtomicU32);

impl Default for DialectIds {
    fn default() -> Self {
        // After the fixed numbers.
        DialectIds(AtomicU32::new(2))
    }
}

impl DialectIds {
    /// A number that was never assigned before.
    #[must_use]
    pub fn claim(&self) -> DialectId {
        DialectId::new(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialect_id_is_never_reused() {
        let ids = DialectIds::default();
        let given = [DialectId::GRPC, DialectId::SSE, ids.claim(), ids.claim()];
        for (at, id) in given.iter().enumerate() {
            assert!(!given.iter().skip(at + 1).any(|other| other == id));
        }
    }
}
