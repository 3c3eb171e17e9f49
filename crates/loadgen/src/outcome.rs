//! Computes the numbers of the report from counters and logs.

use std::time::Duration;

use crate::histogram::Histogram;
use crate::process::Cpu;
use crate::publisher_task::PublisherLog;
use crate::report::{CpuEach, Delivery, Publish, real};
use crate::sequence::Counts;
use crate::tally::{Seen, Tally};
use crate::type_filter::TypeFilter;

/// The counters at one moment.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) at: u64,
    pub(super) cpu: Option<Cpu>,
    pub(super) delivered: u64,
    pub(super) published: u64,
}

impl Moment {
    pub(super) fn cpu_each(&self, earlier: &Moment, count: u64) -> Option<CpuEach> {
        let used = self.cpu?.since(earlier.cpu?);
        Some(CpuEach::of(
            used,
            count,
            Duration::from_nanos(self.at.saturating_sub(earlier.at)),
        ))
    }
}

/// The result of publishing.
pub(super) struct Traffic {
    pub(super) logs: Vec<PublisherLog>,
    pub(super) start: Moment,
    /// When the last task had ended.
    pub(super) published: Moment,
    pub(super) end: Moment,
}

/// Events that the server accepted for `channel`, and that pass the filter.
pub(super) fn taken(logs: &[PublisherLog], channel: usize, filter: TypeFilter) -> u64 {
    let of = |counts: &[u32]| counts.get(channel).copied().unwrap_or(0);
    logs.iter()
        .map(|log| {
            u64::from(
                filter
                    .of_first(of(&log.sent))
                    .saturating_sub(of(&log.refused)),
            )
        })
        .sum()
}

pub(super) fn published(traffic: &Traffic) -> Publish {
    let (start, end) = (&traffic.start, &traffic.published);
    let events = end.published - start.published;
    let seconds = Duration::from_nanos(end.at - start.at).as_secs_f64();
    let (mut acknowledged, mut behind) = (Histogram::default(), Histogram::default());
    for log in &traffic.logs {
        acknowledged.add(&log.acknowledged);
        behind.add(&log.behind);
    }
    Publish {
        events,
        refused: traffic.logs.iter().map(PublisherLog::refusals).sum(),
        per_second: real(events) / seconds.max(1e-9),
        acknowledged_ms: acknowledged.percentiles(),
        behind_ms: behind.percentiles(),
        cpu: traffic.end.cpu_each(start, events),
    }
}

pub(super) fn delivered(traffic: &Traffic, tally: &Tally) -> Delivery {
    let (start, end) = (&traffic.start, &traffic.end);
    let deliveries = end.delivered - start.delivered;
    let last = tally
        .last_delivery()
        .clamp(start.at + 1, end.at.max(start.at + 1));
    let seconds = Duration::from_nanos(last - start.at).as_secs_f64();
    let counts = integrity(&traffic.logs, &tally.seen);
    Delivery {
        deliveries,
        seconds,
        per_second: real(deliveries) / seconds,
        latency_ms: tally.latency.percentiles(),
        last_ms: tally.last.percentiles(),
        lost: counts.lost,
        duplicate: counts.duplicate,
        reordered: counts.reordered,
        gaps: tally.gaps,
        frame_bytes: real(tally.event_bytes) / real(tally.events.max(1)),
        cpu: end.cpu_each(start, deliveries),
    }
}

/// Compares the events that every connection received with those sent to its channel. Refused
/// events have numbers too, but no connection must receive them.
fn integrity(logs: &[PublisherLog], seen: &[Seen]) -> Counts {
    let mut all = Counts::default();
    for connection in seen {
        for (log, sequence) in logs.iter().zip(&connection.sequences) {
            let of = |counts: &[u32]| counts.get(connection.channel).copied().unwrap_or(0);
            let mut counts = if connection.to_the_end {
                sequence.counts(connection.filter.of_first(of(&log.sent)))
            } else {
                sequence.gaps_only()
            };
            counts.lost = counts.lost.saturating_sub(u64::from(of(&log.refused)));
            all.add(counts);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::Sequence;

    fn seen(numbers: &[u32], to_the_end: bool) -> Seen {
        let mut sequence = Sequence::default();
        for number in numbers {
            sequence.saw(*number);
        }
        Seen {
            channel: 0,
            filter: TypeFilter::default(),
            sequences: vec![sequence],
            to_the_end,
        }
    }

    #[test]
    fn refused_events_are_not_lost() {
        let log = |refused| PublisherLog {
            sent: vec![4],
            refused: vec![refused],
            ..PublisherLog::default()
        };
        let connections = [seen(&[0, 1, 2], true), seen(&[0, 2, 3], true)];
        assert_eq!(integrity(&[log(0)], &connections).lost, 2);
        assert_eq!(integrity(&[log(1)], &connections).lost, 0);
        assert_eq!(taken(&[log(1)], 0, TypeFilter::default()), 3);
    }

    #[test]
    fn filtered_events_are_not_lost() {
        let log = PublisherLog {
            sent: vec![20],
            refused: vec![0],
            ..PublisherLog::default()
        };
        let filter = TypeFilter::of(0, 10);
        let filtered = |numbers: &[u32]| Seen {
            filter,
            ..seen(numbers, true)
        };
        let all: Vec<u32> = (0..20).filter_map(|n| filter.rank(n)).collect();
        let connections = [filtered(&all), filtered(&all[1..])];
        assert_eq!(taken(&[log], 0, filter), 18);
        let log = PublisherLog {
            sent: vec![20],
            refused: vec![0],
            ..PublisherLog::default()
        };
        assert_eq!(integrity(&[log], &connections).lost, 1);
    }

    #[test]
    fn early_end_counts_only_skipped_events() {
        let log = PublisherLog {
            sent: vec![100],
            refused: vec![0],
            ..PublisherLog::default()
        };
        let connections = [seen(&[0, 2, 3], false)];
        assert_eq!(
            integrity(&[log], &connections),
            Counts {
                lost: 1,
                ..Counts::default()
            }
        );
    }
}
