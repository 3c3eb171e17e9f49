//! Metrics and the state of sources: the systems of the application whose events are published here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::histogram::Histogram;
use super::names::{Counter, Gauge};
use crate::event::Timestamp;

/// The most dead letters of each source that are kept in memory.
pub const DEAD_LETTERS: usize = 100;
/// The time over which the rate is taken.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// The longest text of a dead letter or an error, in bytes.
const MAX_TEXT: usize = 500;

/// The metrics of all sources.
#[derive(Debug, Default)]
pub struct SourcesMetrics {
    sources: RwLock<Vec<Arc<SourceMetrics>>>,
    pub(super) seconds: Histogram,
}

/// The metrics and the state of one source.
#[derive(Debug)]
pub struct SourceMetrics {
    name: String,
    kind: &'static str,
    /// The server, without user and password.
    server: String,
    pub(super) events: Counter,
    pub(super) duplicates: Counter,
    pub(super) dead_letters: Counter,
    pub(super) failures: Counter,
    pub(super) lag: Gauge,
    /// The age of the oldest record of the batch that was read last, in milliseconds; 0 if none waits.
    pub(super) lag_ms: AtomicU64,
    connected: AtomicBool,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    failure: Option<(Timestamp, String)>,
    letters: VecDeque<DeadLetter>,
    window: Window,
}

/// A record that can't be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// When it was given up.
    pub time: Timestamp,
    /// The record's name in its source: a row's id, an entry's id, a sequence.
    pub record: String,
    /// Its channel, as far as it can be shown.
    pub channel: String,
    /// Why it can't be published.
    pub reason: String,
}

/// A source, for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSnapshot {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// The server, without user and password.
    pub server: String,
    /// Whether it is connected.
    pub connected: bool,
    /// Records that wait in the source; `None` if it is not known.
    pub lag: Option<u64>,
    /// The age of the oldest waiting record.
    pub lag_time: Duration,
    /// Records that were published.
    pub events: u64,
    /// Records that were published before and were dropped.
    pub duplicates: u64,
    /// Records that can't be published.
    pub dead_letters: u64,
    /// Lost or refused connections, and publishes that must be repeated.
    pub failures: u64,
    /// Published records per second, over the last ten seconds.
    pub rate: f64,
    /// The newest failure.
    pub failure: Option<(Timestamp, String)>,
    /// The newest dead letters, newest first.
    pub letters: Vec<DeadLetter>,
}

impl SourcesMetrics {
    /// Begins to count for a source, in place of an earlier one of the same name.
    #[must_use]
    pub fn add(&self, name: &str, kind: &'static str, server: String) -> Arc<SourceMetrics> {
        let source = Arc::new(SourceMetrics {
            name: name.to_owned(),
            kind,
            server,
            events: Counter::default(),
            duplicates: Counter::default(),
            dead_letters: Counter::default(),
            failures: Counter::default(),
            lag: Gauge::default(),
            lag_ms: AtomicU64::new(0),
            connected: AtomicBool::new(false),
            recent: Mutex::default(),
        });
        source.lag.set(-1);
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|source| source.name != name);
        sources.push(Arc::clone(&source));
        source
    }

    /// Removes a source.
    pub fn remove(&self, removed: &Arc<SourceMetrics>) {
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|source| !Arc::ptr_eq(source, removed));
    }

    /// Every source, in the order of the configuration.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<SourceMetrics>> {
        let sources = self.sources.read().unwrap_or_else(PoisonError::into_inner);
        sources.clone()
    }

    /// A record of this age was published.
    pub fn took(&self, age: Duration) {
        self.seconds.record(age);
    }
}

impl SourceMetrics {
    /// The name of the source.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the source is connected.
    pub fn connected(&self, is: bool) {
        self.connected.store(is, Ordering::Relaxed);
    }

    /// Whether the source is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Counts published records, and those of them that were published before.
    pub fn published(&self, events: u64, duplicates: u64) {
        self.events.add(events);
        self.duplicates.add(duplicates);
        self.recent().window.add(events);
    }

    /// The number of records that wait; `None` if it is not known.
    pub fn lag(&self, records: Option<u64>) {
        let records = records.map(|records| i64::try_from(records).unwrap_or(i64::MAX));
        self.lag.set(records.unwrap_or(-1));
    }

    /// The age of the oldest record that waits.
    pub fn lag_time(&self, age: Duration) {
        let ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.lag_ms.store(ms, Ordering::Relaxed);
    }

    /// Something failed and is tried again.
    pub fn failed(&self, why: &str) {
        self.failures.add(1);
        self.recent().failure = Some((Timestamp::now(), clip(why)));
    }

    /// A record can't be published.
    pub fn dead_letter(&self, record: &str, channel: &str, reason: &str) {
        self.dead_letters.add(1);
        let mut recent = self.recent();
        if recent.letters.len() >= DEAD_LETTERS {
            recent.letters.pop_back();
        }
        recent.letters.push_front(DeadLetter {
            time: Timestamp::now(),
            record: clip(record),
            channel: clip(channel),
            reason: clip(reason),
        });
    }

    /// The source at this moment.
    #[must_use]
    pub fn snapshot(&self) -> SourceSnapshot {
        let mut recent = self.recent();
        SourceSnapshot {
            name: self.name.clone(),
            kind: self.kind,
            server: self.server.clone(),
            connected: self.is_connected(),
            lag: u64::try_from(self.lag.get()).ok(),
            lag_time: self.lag_age(),
            events: self.events.get(),
            duplicates: self.duplicates.get(),
            dead_letters: self.dead_letters.get(),
            failures: self.failures.get(),
            rate: recent.window.rate(),
            failure: recent.failure.clone(),
            letters: recent.letters.iter().cloned().collect(),
        }
    }

    /// The age of the oldest record that waits.
    pub(super) fn lag_age(&self) -> Duration {
        Duration::from_millis(self.lag_ms.load(Ordering::Relaxed))
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A text of at most [`MAX_TEXT`] bytes.
fn clip(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_TEXT);
    text.get(..end).unwrap_or_default().to_owned()
}

/// Counts over the last ten seconds, second by second.
#[derive(Debug, Default)]
struct Window {
    seconds: VecDeque<(Instant, u64)>,
}

impl Window {
    fn add(&mut self, events: u64) {
        let now = Instant::now();
        match self.seconds.back_mut() {
            Some((begun, count)) if now - *begun < Duration::from_secs(1) => *count += events,
            _ => self.seconds.push_back((now, events)),
        }
        self.forget(now);
    }

    fn forget(&mut self, now: Instant) {
        while let Some((begun, _)) = self.seconds.front()
            && now - *begun > RATE_WINDOW
        {
            self.seconds.pop_front();
        }
    }

    fn rate(&mut self) -> f64 {
        self.forget(Instant::now());
        let events: u64 = self.seconds.iter().map(|(_, events)| events).sum();
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        f64::from(events) / RATE_WINDOW.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_are_bounded_in_number_and_length() {
        let sources = SourcesMetrics::default();
        let source = sources.add("orders", "redis", String::from("localhost:6379"));
        for n in 0..=DEAD_LETTERS {
            source.dead_letter(&n.to_string(), "é".repeat(MAX_TEXT).as_str(), "too large");
        }
        let now = source.snapshot();
        assert_eq!(now.dead_letters, 101);
        assert_eq!(now.letters.len(), DEAD_LETTERS);
        assert_eq!(now.letters[0].record, "100");
        assert_eq!(now.letters[0].channel.len(), MAX_TEXT);
        assert_eq!(now.letters[DEAD_LETTERS - 1].record, "1");
    }

    #[test]
    fn lag_is_unknown_until_it_is_measured() {
        let sources = SourcesMetrics::default();
        let source = sources.add("orders", "nats", String::new());
        assert_eq!(source.snapshot().lag, None);
        source.lag(Some(7));
        source.published(20, 1);
        let now = source.snapshot();
        assert_eq!((now.lag, now.events, now.duplicates), (Some(7), 20, 1));
        assert!(now.rate > 0.0);
        sources.remove(&source);
        assert!(sources.all().is_empty());
    }
}
