//! The register of dialects.

use std::sync::atomic::{AtomicU32, Ordering};

use super::delivery::DialectId;

/// Gives out the numbers of dialects, each once. The first few get the cheapest places in every
/// event's table of frames, so whoever asks first should be who is spoken most.
#[derive(Debug)]
pub struct DialectIds(AtomicU32);

impl Default for DialectIds {
    fn default() -> Self {
        // After those that have a number of their own.
        DialectIds(AtomicU32::new(3))
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
        let given = [
            DialectId::GRPC,
            DialectId::SSE,
            DialectId::LINES,
            ids.claim(),
            ids.claim(),
        ];
        for (at, id) in given.iter().enumerate() {
            assert!(!given.iter().skip(at + 1).any(|other| other == id));
        }
    }
}
