//! Metrics of the store on disk.

use super::names::{Counter, Gauge};

/// Metrics of a store on disk.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    /// 0 or 1, inverted, because without a store on disk publishing is always available.
    pub(super) unavailable: Gauge,
    pub(super) commits: Counter,
    pub(super) events: Counter,
    pub(super) failures: Counter,
    pub(super) damaged: Counter,
    pub(super) kept: Gauge,
}

impl StoreMetrics {
    /// The store became writable or unwritable.
    pub fn available(&self, is: bool) {
        let now = self.unavailable.get();
        match (is, now) {
            (true, 0) | (false, 1..) => {}
            (true, _) => {
                self.unavailable.add(-now);
            }
            (false, _) => {
                self.unavailable.add(1 - now);
                self.failures.add(1);
            }
        }
    }

    /// This many events were written in one batch.
    pub fn committed(&self, events: u64) {
        self.commits.add(1);
        self.events.add(events);
    }

    /// The current bytes of stored events.
    pub fn kept(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.kept.add(bytes.saturating_sub(self.kept.get()));
    }

    /// This many records were found damaged or missing.
    pub fn damaged(&self, records: u64) {
        self.damaged.add(records);
    }
}
