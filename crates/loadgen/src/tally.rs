//! The counts of one thread of subscribers.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::histogram::Histogram;
use crate::last::LastOfEach;
use crate::progress::Progress;
use crate::sequence::Sequence;
use crate::type_filter::TypeFilter;

/// How many error texts are kept.
const MAX_SAMPLES: usize = 5;

/// Counted by one thread, then added up.
#[derive(Debug)]
pub struct Tally {
    progress: Arc<Progress>,
    measure_from: u64,
    /// From opening the socket to the answered subscription.
    pub setup: Histogram,
    /// From publishing to reading, of events after the warm-up.
    pub latency: Histogram,
    /// When each of them reached its last subscriber.
    pub last: LastOfEach,
    /// Events that arrived.
    pub events: u64,
    /// Their bytes, as WebSocket payload.
    pub event_bytes: u64,
    /// `gap` messages.
    pub gaps: u64,
    /// `error` messages, and events that a filter should have excluded.
    pub errors: u64,
    /// Connections that failed before they were subscribed.
    pub failed: u64,
    /// Subscribed connections that ended, by close code; 0 if there was none.
    pub closes: BTreeMap<u16, u64>,
    /// The first few errors, as they came.
    pub samples: Vec<String>,
    /// The results of each subscribed connection.
    pub seen: Vec<Seen>,
}

/// The results of one subscribed connection.
#[derive(Debug)]
pub struct Seen {
    /// Its channel.
    pub channel: usize,
    /// Its filter.
    pub filter: TypeFilter,
    /// One for each task.
    pub sequences: Vec<Sequence>,
    /// False if it ended before the run did.
    pub to_the_end: bool,
}

impl Tally {
    /// No counts yet.
    #[must_use]
    pub fn new(progress: Arc<Progress>) -> Self {
        Self {
            progress,
            measure_from: u64::MAX,
            setup: Histogram::default(),
            latency: Histogram::default(),
            last: LastOfEach::default(),
            events: 0,
            event_bytes: 0,
            gaps: 0,
            errors: 0,
            failed: 0,
            closes: BTreeMap::new(),
            samples: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Checks whether the warm-up is over; once per turn of the event loop.
    pub fn refresh(&mut self) {
        self.measure_from = self.progress.measured_from();
    }

    /// An event of `bytes` bytes that was sent at `sent` arrived at `now`.
    pub fn event(&mut self, bytes: usize, sent: u64, now: u64) {
        self.event_bytes += u64::try_from(bytes).unwrap_or(0);
        if sent >= self.measure_from {
            self.latency.record(now.saturating_sub(sent));
            self.last.arrived(sent, now);
        }
    }

    /// `events` events arrived in one read.
    pub fn arrived(&mut self, events: u64, now: u64) {
        if events > 0 {
            self.events += events;
            self.progress.delivered_more(events, now);
        }
    }

    /// An event arrived that the filter should have excluded.
    #[cold]
    pub fn unwanted(&mut self) {
        self.errors += 1;
        self.sample("an event that the filter excludes".to_owned());
    }

    /// When the newest event of all threads arrived.
    #[must_use]
    pub fn last_delivery(&self) -> u64 {
        self.progress.last_delivery()
    }

    /// Keeps `text` if it is among the first few.
    pub fn sample(&mut self, text: String) {
        if self.samples.len() < MAX_SAMPLES && !self.samples.contains(&text) {
            self.samples.push(text);
        }
    }

    /// Adds the counts of another thread.
    pub fn add(&mut self, other: Tally) {
        self.setup.add(&other.setup);
        self.latency.add(&other.latency);
        self.last.add(other.last);
        self.events += other.events;
        self.event_bytes += other.event_bytes;
        self.gaps += other.gaps;
        self.errors += other.errors;
        self.failed += other.failed;
        for (code, count) in other.closes {
            *self.closes.entry(code).or_default() += count;
        }
        for text in other.samples {
            self.sample(text);
        }
        self.seen.extend(other.seen);
    }
}
