//! How many records to ask for, where a source bounds a batch only by number.

use super::BATCH_BYTES;

/// The first batches, before the size of the records is known.
const FIRST: usize = 100;

/// The size of the next batch: as many records as had fitted into [`BATCH_BYTES`] before.
#[derive(Debug)]
pub(super) struct BatchSize {
    most: usize,
    next: usize,
}

impl BatchSize {
    /// At most this many records.
    pub(super) fn new(most: u32) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
        BatchSize {
            most,
            next: most.min(FIRST),
        }
    }

    /// The number of records to ask for.
    pub(super) fn next(&self) -> usize {
        self.next
    }

    /// A batch had this many records and bytes.
    pub(super) fn had(&mut self, records: usize, bytes: usize) {
        if records == 0 {
            return;
        }
        let average = (bytes / records).max(1);
        let fitting = (BATCH_BYTES / average).clamp(1, self.most);
        // It shrinks at once and grows step by step.
        self.next = fitting.min(self.next.saturating_mul(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_records_make_small_batches() {
        let mut size = BatchSize::new(1000);
        assert_eq!(size.next(), 100);
        size.had(100, 100 * 100);
        assert_eq!(size.next(), 200);
        size.had(200, 200 * 1024 * 1024);
        assert_eq!(size.next(), 8);
        size.had(1, 100 * BATCH_BYTES);
        assert_eq!(size.next(), 1);
        for _ in 0..20 {
            size.had(1, 10);
        }
        assert_eq!(size.next(), 1000);
    }
}
