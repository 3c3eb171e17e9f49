//! The numbers of dialects, and their register.

use std::sync::atomic::{AtomicU32, Ordering};

/// Names a dialect in one framing and one compression: whose frames are the same bytes for
/// everyone. A number is never given twice, so that frames that are kept stay true when dialects
/// change while the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DialectId(u32);

impl DialectId {
    /// The messages of gRPC's `Subscribe`.
    pub const GRPC: DialectId = DialectId(0);
    /// Server-sent events.
    pub const SSE: DialectId = DialectId(1);

    /// The dialect with this number. [`DialectIds`] gives them out.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        DialectId(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Its number, as a place in a table.
    #[must_use]
    pub fn place(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Gives out the numbers of dialects, each once. The first few get the cheapest places in every
/// event's table of frames, so whoever asks first should be who is spoken most.
#[derive(Debug)]
pub struct DialectIds(AtomicU32);

impl Default for DialectIds {
    fn default() -> Self {
        // After those that have a number of their own.
        DialectIds(AtomicU32::new(2))
    }
}

impl DialectIds {
    /// A number that nobody has had.
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
