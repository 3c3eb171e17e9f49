//! When each event reached the last of its subscribers.

use std::collections::BTreeMap;

use crate::histogram::{Histogram, Percentiles};

/// With more events than this the run reports no result, because it would cost too much memory.
const MAX_EVENTS: usize = 20_000;
/// Subscribers that are read one after the other receive the newest few events alternately.
const LOOK_BACK: usize = 32;

/// When events were sent and last read. An event is identified by the nanosecond at which it was
/// sent.
#[derive(Debug, Default)]
pub struct LastOfEach {
    /// When an event was sent, and when it was last read. An event may have several entries.
    events: Vec<(u64, u64)>,
    overrun: bool,
}

impl LastOfEach {
    /// An event that was sent at `sent` was read at `now`.
    #[inline]
    pub fn arrived(&mut self, sent: u64, now: u64) {
        if self.overrun {
            return;
        }
        let newest = self.events.iter_mut().rev().take(LOOK_BACK);
        for (known, last) in newest {
            if *known == sent {
                *last = now;
                return;
            }
        }
        self.events.push((sent, now));
        if self.events.len() > MAX_EVENTS {
            self.overrun = true;
            self.events = Vec::new();
        }
    }

    /// Adds the entries of another thread.
    pub fn add(&mut self, other: LastOfEach) {
        self.overrun |= other.overrun;
        self.events.extend(other.events);
    }

    /// From sending an event to reading it for the last time; `None` if there were too many
    /// events, or none.
    #[must_use]
    pub fn percentiles(&self) -> Option<Percentiles> {
        if self.overrun || self.events.is_empty() {
            return None;
        }
        let mut last = BTreeMap::<u64, u64>::new();
        for (sent, at) in &self.events {
            let newest = last.entry(*sent).or_default();
            *newest = (*newest).max(*at);
        }
        let mut histogram = Histogram::default();
        for (sent, at) in last {
            histogram.record(at.saturating_sub(sent));
        }
        Some(histogram.percentiles())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_reader_counts_on_any_thread() {
        let (mut one, mut other) = (LastOfEach::default(), LastOfEach::default());
        for at in [3_000_000, 5_000_000] {
            one.arrived(1_000_000, at);
        }
        other.arrived(1_000_000, 9_000_000);
        one.add(other);
        let max = one.percentiles().unwrap().max;
        assert!((7.9..8.2).contains(&max), "{max}");
    }

    #[test]
    fn too_many_events_have_no_result() {
        let mut last = LastOfEach::default();
        assert!(last.percentiles().is_none());
        for sent in 0..=u64::try_from(MAX_EVENTS).unwrap() {
            last.arrived(sent, sent + 1);
        }
        assert!(last.percentiles().is_none());
    }
}
