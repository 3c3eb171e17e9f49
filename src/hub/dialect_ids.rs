//! Assigns dialect numbers.

use std::sync::atomic::{AtomicU32, Ordering};

use super::delivery::DialectId;

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
