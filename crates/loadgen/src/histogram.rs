//! A distribution of durations in constant memory.

use std::time::Duration;

use serde::Serialize;

/// Buckets for each power of two: no value is off by more than 1 part in 64.
const PER_OCTAVE: u64 = 64;
const OCTAVE_BITS: u32 = PER_OCTAVE.trailing_zeros();
/// Covers every `u64`.
const BUCKETS: usize = 64 * 60;

/// Counts durations of 0 ns to 584 years with a relative error of at most 1.6 %.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
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
        Self {
            buckets: vec![0; BUCKETS],
            count: 0,
            max: 0,
        }
    }
}

impl Histogram {
    /// Records one duration, in nanoseconds.
    pub fn record(&mut self, nanoseconds: u64) {
        if let Some(bucket) = self.buckets.get_mut(index(nanoseconds)) {
            *bucket += 1;
        }
        self.count += 1;
        self.max = self.max.max(nanoseconds);
    }

    /// Adds the counts of another histogram.
    pub fn add(&mut self, other: &Histogram) {
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += more;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// The number of recorded durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The duration that `per_thousand` of 1,000 durations do not exceed; zero if there are none.
    #[must_use]
    pub fn quantile(&self, per_thousand: u64) -> Duration {
        let rank = self
            .count
            .saturating_mul(per_thousand)
            .div_ceil(1000)
            .max(1);
        let mut seen = 0;
        for (number, bucket) in (0..).zip(&self.buckets) {
            seen += bucket;
            if seen >= rank {
                return Duration::from_nanos(upper_bound(number).min(self.max));
            }
        }
        Duration::ZERO
    }

    /// The distribution in five numbers.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let milliseconds = |per_thousand| self.quantile(per_thousand).as_secs_f64() * 1e3;
        Percentiles {
            p50: milliseconds(500),
            p90: milliseconds(900),
            p99: milliseconds(990),
            p999: milliseconds(999),
            max: milliseconds(1000),
        }
    }
}

fn index(value: u64) -> usize {
    let octave = value.max(1).ilog2().saturating_sub(OCTAVE_BITS);
    let bucket = u64::from(octave) * PER_OCTAVE + (value >> octave);
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

/// The largest value that falls into bucket `number`.
fn upper_bound(number: u64) -> u64 {
    let octave = (number / PER_OCTAVE).saturating_sub(1);
    let first = u128::from(number - octave * PER_OCTAVE);
    u64::try_from(((first + 1) << octave) - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_bound_is_within_1_6_percent() {
        let values = (0..64).flat_map(|bit| [1u64 << bit, (1u64 << bit) - 1, (1u64 << bit) | 1]);
        for value in values.chain([u64::MAX, 1_234_567, 98_765_432_101]) {
            let bucket = index(value);
            assert!(bucket < BUCKETS, "{value}");
            let bound = upper_bound(u64::try_from(bucket).unwrap());
            assert!(
                bound >= value && bound - value <= value / 64 + 1,
                "{value} {bound}"
            );
        }
    }

    #[test]
    fn percentiles_match_sorted_values() {
        let mut histogram = Histogram::default();
        for microseconds in (1..=1000).rev() {
            histogram.record(microseconds * 1000);
        }
        for (per_thousand, expected) in [(500, 500.0), (900, 900.0), (990, 990.0), (1000, 1000.0)] {
            let found = histogram.quantile(per_thousand).as_secs_f64() * 1e6;
            assert!(
                (found / expected - 1.0).abs() < 0.017,
                "{per_thousand}: {found}"
            );
        }
        assert_eq!(histogram.quantile(1000), Duration::from_millis(1));
    }

    #[test]
    fn empty_histogram_is_zero_and_sums_keep_maximum() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(990), Duration::ZERO);
        let mut other = Histogram::default();
        other.record(7_000_000);
        histogram.record(1);
        histogram.add(&other);
        assert_eq!(
            (histogram.count(), histogram.quantile(1000)),
            (2, Duration::from_millis(7))
        );
        assert_eq!(histogram.quantile(500), Duration::from_nanos(1));
    }
}
