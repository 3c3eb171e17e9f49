//! A distribution of durations in constant memory.

use hdrhistogram::Histogram as Counts;
use serde::Serialize;

/// Two digits: no duration is off by more than 1 %.
const DIGITS: u8 = 2;
/// The longest duration that is told from longer ones: an hour, in nanoseconds.
const LONGEST: u64 = 3_600_000_000_000;

/// Counts durations in nanoseconds with a relative error of at most 1 %, but for the slowest, which
/// is exact.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Counts<u64>,
    max: u64,
}

/// The percentiles of a distribution, in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Percentiles {
    /// Half were faster.
    pub p50: f64,
    /// Nine in ten were faster.
    pub p90: f64,
    /// 99 in 100 were faster.
    pub p99: f64,
    /// 999 in 1,000 were faster.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        match Counts::new_with_max(LONGEST, DIGITS) {
            Ok(counts) => Self { counts, max: 0 },
            Err(_) => unreachable!("an hour and two digits are within a histogram's limits"),
        }
    }
}

impl Histogram {
    /// Records one duration, in nanoseconds.
    pub fn record(&mut self, nanoseconds: u64) {
        self.counts.saturating_record(nanoseconds);
        self.max = self.max.max(nanoseconds);
    }

    /// Adds the counts of another histogram.
    pub fn add(&mut self, other: &Histogram) {
        // Both have the same limits, so that nothing is refused.
        self.counts.add(&other.counts).unwrap_or_default();
        self.max = self.max.max(other.max);
    }

    /// The distribution in five numbers.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile| milliseconds(self.counts.value_at_quantile(quantile).min(self.max));
        Percentiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: milliseconds(self.max),
        }
    }
}

fn milliseconds(nanoseconds: u64) -> f64 {
    std::time::Duration::from_nanos(nanoseconds).as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_match_sorted_values() {
        let mut histogram = Histogram::default();
        for microseconds in (1..=1000).rev() {
            histogram.record(microseconds * 1000);
        }
        let found = histogram.percentiles();
        for (found, expected) in [(found.p50, 0.5), (found.p90, 0.9), (found.p99, 0.99)] {
            assert!((found / expected - 1.0).abs() < 0.011, "{found} {expected}");
        }
        assert!((found.max - 1.0).abs() < 1e-9, "{}", found.max);
    }

    #[test]
    fn empty_histogram_is_zero_and_sums_keep_maximum() {
        let mut histogram = Histogram::default();
        let empty = histogram.percentiles();
        assert!(empty.p99 + empty.max < 1e-9, "{empty:?}");
        let mut other = Histogram::default();
        other.record(7_000_000);
        histogram.record(1);
        histogram.add(&other);
        let sum = histogram.percentiles();
        assert!((sum.max - 7.0).abs() < 1e-9 && sum.p50 < 0.001, "{sum:?}");
    }

    #[test]
    fn duration_beyond_the_limit_counts_as_the_longest() {
        let mut histogram = Histogram::default();
        histogram.record(u64::MAX);
        let found = histogram.percentiles();
        assert!(found.p50 >= 3_600_000.0 && found.max > found.p50);
    }
}
