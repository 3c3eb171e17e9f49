//! Latency histograms with fine buckets, from which percentiles and Prometheus' coarse buckets are
//! derived.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The exported bounds of each decade, in tenths of its start.
const STEPS: [u64; 9] = [10, 15, 20, 25, 30, 40, 50, 60, 80];

/// The exported bounds, in nanoseconds: 10 µs to 10 s. Each is also a fine bound, so the cumulative
/// counts are exact. Each is at most 1.5 times the previous one, so that interpolated percentiles
/// are meaningful.
pub(super) const EXPORTED: [u64; STEPS.len() * 6 + 1] = exported_bounds();

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which checks each index"
)]
const fn exported_bounds() -> [u64; STEPS.len() * 6 + 1] {
    let mut bounds = [0; STEPS.len() * 6 + 1];
    let mut decade = 10_000;
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = decade / 10 * STEPS[at % STEPS.len()];
        at += 1;
        if at % STEPS.len() == 0 {
            decade *= 10;
        }
    }
    bounds
}

/// The number of fine bounds: one at 1 µs, 35 in each of the seven decades up to 10 s, and 29 from
/// there to 60 s.
const BOUNDS: usize = 1 + 35 * 7 + 29;

/// The fine upper bounds, inclusive, in nanoseconds. Each is at most a tenth above the previous
/// one.
static FINE: [u64; BOUNDS] = fine_bounds();

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which checks each index"
)]
const fn fine_bounds() -> [u64; BOUNDS] {
    let mut bounds = [0; BOUNDS];
    let mut bound = 1_000;
    let mut decade = 1_000;
    let mut at = 0;
    while at < BOUNDS {
        bounds[at] = bound;
        at += 1;
        if bound >= decade * 10 {
            decade *= 10;
        }
        // Within a decade, the step is a tenth of its start, then of 2.5 times its start, then of 5
        // times its start.
        bound += if bound < decade * 5 / 2 {
            decade / 10
        } else if bound < decade * 5 || decade == 10_000_000_000 {
            decade / 4
        } else {
            decade / 2
        };
    }
    bounds
}

/// A lock-free histogram of durations, with buckets at most 10 % wide from 1 µs to 60 s, one below
/// and one above. About 2 KiB.
#[derive(Debug)]
pub struct Histogram {
    /// One per fine bound, and one for values above all bounds.
    counts: Box<[AtomicU64]>,
    /// In microseconds, so that it does not overflow for centuries.
    sum: AtomicU64,
    /// In nanoseconds.
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            counts: (0..=BOUNDS).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts one observation.
    pub fn record(&self, value: Duration) {
        self.record_many(value, 1);
    }

    /// Counts `times` observations of one value at the cost of one.
    pub fn record_many(&self, value: Duration, times: u64) {
        if times == 0 {
            return;
        }
        let nanos = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        let bucket = FINE.partition_point(|bound| *bound < nanos);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(times, Relaxed);
        }
        let micros = nanos.saturating_mul(times).saturating_add(500) / 1_000;
        self.sum.fetch_add(micros, Relaxed);
        if self.max.load(Relaxed) < nanos {
            self.max.fetch_max(nanos, Relaxed);
        }
    }

    /// A snapshot. Concurrent observations may be included or not.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            counts: self
                .counts
                .iter()
                .map(|count| count.load(Relaxed))
                .collect(),
            sum_micros: self.sum.load(Relaxed),
            max_nanos: self.max.load(Relaxed),
        }
    }
}

/// The index of a value's exported bucket. The last one is above all bounds.
pub(super) fn exported_bucket(value: Duration) -> usize {
    let nanos = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
    EXPORTED.partition_point(|bound| *bound < nanos)
}

/// A snapshot of one or several [`Histogram`]s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramSnapshot {
    counts: Vec<u64>,
    sum_micros: u64,
    max_nanos: u64,
}

impl Default for HistogramSnapshot {
    fn default() -> Self {
        HistogramSnapshot {
            counts: vec![0; BOUNDS + 1],
            sum_micros: 0,
            max_nanos: 0,
        }
    }
}

impl HistogramSnapshot {
    /// Adds another's observations.
    pub fn merge(&mut self, other: &HistogramSnapshot) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.sum_micros = self.sum_micros.wrapping_add(other.sum_micros);
        self.max_nanos = self.max_nanos.max(other.max_nanos);
    }

    /// The observations since an earlier snapshot of the same histogram. Its longest one is not
    /// known, so [`HistogramSnapshot::max`] stays that of all.
    #[must_use]
    pub fn since(&self, earlier: &HistogramSnapshot) -> HistogramSnapshot {
        let counts = self.counts.iter().zip(&earlier.counts);
        HistogramSnapshot {
            counts: counts
                .map(|(now, then)| now.saturating_sub(*then))
                .collect(),
            sum_micros: self.sum_micros.wrapping_sub(earlier.sum_micros),
            max_nanos: self.max_nanos,
        }
    }

    /// The number of observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all observations, to the microsecond.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_micros)
    }

    /// The longest observation, exact. Zero if there is none.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanos)
    }

    /// The percentile `percent` (0–100) by nearest rank: never below the exact value, and at most
    /// 10 % (below 1 µs: 1 µs) above it. Zero without observations.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        let rank = rank(self.count(), percent);
        let mut seen = 0;
        for (count, bound) in self.counts.iter().zip(FINE) {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(bound.min(self.max_nanos));
            }
        }
        self.max()
    }

    /// The buckets for Prometheus and OTLP: the upper bound in seconds, and the number of
    /// observations in the bucket (not cumulative). The last bound is infinity.
    #[must_use]
    pub fn exported_buckets(&self) -> Vec<(f64, u64)> {
        let mut counts = self.counts.iter().zip(FINE).peekable();
        let mut buckets: Vec<(f64, u64)> = EXPORTED
            .iter()
            .map(|bound| {
                let mut inside = 0;
                while let Some((count, _)) = counts.next_if(|(_, fine)| fine <= bound) {
                    inside += count;
                }
                (Duration::from_nanos(*bound).as_secs_f64(), inside)
            })
            .collect();
        let below: u64 = buckets.iter().map(|(_, inside)| inside).sum();
        buckets.push((f64::INFINITY, self.count() - below));
        buckets
    }
}

/// The nearest rank of a percentile: 1 to `count`.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank beyond 2^53 may be off by one; negative and NaN become 0, too large becomes the count"
)]
fn rank(count: u64, percent: f64) -> u64 {
    let rank = (count as f64 * percent / 100.0).ceil() as u64;
    rank.clamp(1.min(count), count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn histogram_of(nanos: &[u64]) -> HistogramSnapshot {
        let histogram = Histogram::default();
        for n in nanos {
            histogram.record(Duration::from_nanos(*n));
        }
        histogram.snapshot()
    }

    #[test]
    fn fine_bounds_grow_by_at_most_ten_percent() {
        assert_eq!(FINE.first(), Some(&1_000));
        assert_eq!(FINE.last(), Some(&60_000_000_000));
        for pair in FINE.windows(2) {
            assert!(
                pair[0] < pair[1] && pair[1] * 10 <= pair[0] * 11,
                "{pair:?}"
            );
        }
    }

    #[test]
    fn exported_bounds_are_fine_bounds() {
        for bound in EXPORTED {
            assert!(FINE.contains(&bound), "{bound}");
        }
        assert_eq!(EXPORTED.first(), Some(&10_000));
        assert_eq!(EXPORTED.last(), Some(&10_000_000_000));
        for pair in EXPORTED.windows(2) {
            assert!(pair[0] < pair[1] && pair[1] * 2 <= pair[0] * 3, "{pair:?}");
        }
    }

    #[test]
    fn empty_histogram_returns_zero() {
        let empty = HistogramSnapshot::default();
        assert_eq!(empty.percentile(99.0), Duration::ZERO);
        assert_eq!((empty.count(), empty.max()), (0, Duration::ZERO));
    }

    #[test]
    fn weighted_record_equals_repeated_records() {
        let (weighted, single) = (Histogram::default(), Histogram::default());
        weighted.record_many(Duration::from_millis(3), 1_000);
        weighted.record_many(Duration::from_secs(100), 0);
        (0..1_000).for_each(|_| single.record(Duration::from_millis(3)));
        assert_eq!(weighted.snapshot(), single.snapshot());
    }

    #[test]
    fn percentile_above_a_minute_is_the_maximum() {
        let snapshot = histogram_of(&[90_000_000_000, 61_000_000_000]);
        assert_eq!(snapshot.percentile(50.0), Duration::from_secs(90));
        assert_eq!(
            snapshot.exported_buckets().last(),
            Some(&(f64::INFINITY, 2))
        );
    }

    proptest! {
        #[test]
        fn percentiles_are_within_ten_percent(
            mut nanos in prop::collection::vec(prop_oneof![1_000..10_000_000_u64, 1_000..60_000_000_000_u64], 1..300),
            percent in 0.0..=100.0_f64,
        ) {
            let snapshot = histogram_of(&nanos);
            nanos.sort_unstable();
            let rank = rank(snapshot.count(), percent);
            let exact = nanos[usize::try_from(rank).unwrap() - 1];
            let answer = u64::try_from(snapshot.percentile(percent).as_nanos()).unwrap();
            prop_assert!(answer >= exact && answer * 10 <= exact * 11, "{answer} for {exact}");
        }

        #[test]
        fn exported_buckets_are_exact(
            nanos in prop::collection::vec(prop_oneof![0..20_000_000_000_u64, prop::sample::select(EXPORTED.to_vec())], 0..300),
        ) {
            let snapshot = histogram_of(&nanos);
            let mut cumulative = 0;
            for ((bound, inside), exported) in snapshot.exported_buckets().iter().zip(EXPORTED) {
                cumulative += inside;
                let expected = nanos.iter().filter(|n| **n <= exported).count();
                prop_assert_eq!(usize::try_from(cumulative).unwrap(), expected, "at {}", bound);
            }
            prop_assert_eq!(usize::try_from(snapshot.count()).unwrap(), nanos.len());
            let sum: u64 = nanos.iter().sum();
            let off = snapshot.sum().as_nanos().abs_diff(u128::from(sum));
            prop_assert!(off <= 500 * u128::from(snapshot.count()));
        }

        #[test]
        fn merged_histograms_equal_one(
            left in prop::collection::vec(0..70_000_000_000_u64, 0..50),
            right in prop::collection::vec(0..70_000_000_000_u64, 0..50),
        ) {
            let mut merged = histogram_of(&left);
            merged.merge(&histogram_of(&right));
            prop_assert_eq!(merged, histogram_of(&[left, right].concat()));
        }
    }
}
