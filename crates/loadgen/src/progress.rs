//! Counters that publishers, subscribers and the waiting main task read during a run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::type_filter::TypeFilter;

/// Shared by all threads of one run. Every number is a statistic: nothing else is published
/// through it, so relaxed order is enough.
#[derive(Debug)]
pub struct Progress {
    /// Connections that are subscribed, by channel and filter.
    ready: Vec<Vec<AtomicU64>>,
    filters: u32,
    settled: AtomicU64,
    lost_connections: AtomicU64,
    delivered: AtomicU64,
    published: AtomicU64,
    due: AtomicU64,
    last_ready: AtomicU64,
    last_delivery: AtomicU64,
    measure_from: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// For a run over `channels` channels, with this many distinct filters.
    #[must_use]
    pub fn new(channels: usize, filters: u32) -> Self {
        let by_filter = || (0..filters.max(1)).map(|_| AtomicU64::new(0)).collect();
        Self {
            ready: (0..channels).map(|_| by_filter()).collect(),
            filters,
            settled: AtomicU64::new(0),
            lost_connections: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            published: AtomicU64::new(0),
            due: AtomicU64::new(0),
            last_ready: AtomicU64::new(0),
            last_delivery: AtomicU64::new(0),
            measure_from: AtomicU64::new(u64::MAX),
            stop: AtomicBool::new(false),
        }
    }

    fn ready_place(&self, channel: usize, filter: TypeFilter) -> Option<&AtomicU64> {
        self.ready.get(channel)?.get(filter.number())
    }

    /// A connection to `channel` is subscribed, at `now`.
    pub fn connection_ready(&self, channel: usize, filter: TypeFilter, now: u64) {
        if let Some(ready) = self.ready_place(channel, filter) {
            ready.fetch_add(1, Relaxed);
        }
        self.last_ready.fetch_max(now, Relaxed);
        self.settled.fetch_add(1, Relaxed);
    }

    /// A connection failed before it was subscribed.
    pub fn connection_failed(&self) {
        self.settled.fetch_add(1, Relaxed);
    }

    /// A subscribed connection to `channel` ended.
    pub fn connection_lost(&self, channel: usize, filter: TypeFilter) {
        if let Some(ready) = self.ready_place(channel, filter) {
            ready.fetch_sub(1, Relaxed);
        }
        self.lost_connections.fetch_add(1, Relaxed);
    }

    /// Connections that are subscribed or have failed.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.settled.load(Relaxed)
    }

    /// Connections subscribed to `channel` at this moment, by their filter.
    pub fn ready_on(&self, channel: usize) -> impl Iterator<Item = (TypeFilter, u64)> {
        let filters = self.filters;
        let ready = self.ready.get(channel).into_iter().flatten().enumerate();
        ready.map(move |(number, ready)| (TypeFilter::of(number, filters), ready.load(Relaxed)))
    }

    /// Connections subscribed at this moment.
    #[must_use]
    pub fn ready(&self) -> u64 {
        let all = self.ready.iter().flatten();
        all.map(|ready| ready.load(Relaxed)).sum()
    }

    /// When the newest connection was subscribed.
    #[must_use]
    pub fn last_ready(&self) -> u64 {
        self.last_ready.load(Relaxed)
    }

    /// `count` events arrived, the newest at `now`.
    pub fn delivered_more(&self, count: u64, now: u64) {
        self.delivered.fetch_add(count, Relaxed);
        self.last_delivery.fetch_max(now, Relaxed);
    }

    /// Events that arrived, over all connections.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Relaxed)
    }

    /// When the newest event arrived.
    #[must_use]
    pub fn last_delivery(&self) -> u64 {
        self.last_delivery.load(Relaxed)
    }

    /// Event number `n` is being sent to `channel`.
    pub fn published_one(&self, channel: usize, n: u32) {
        self.published.fetch_add(1, Relaxed);
        let wanted = self
            .ready_on(channel)
            .filter(|(filter, _)| filter.rank(n).is_some());
        self.due
            .fetch_add(wanted.map(|(_, ready)| ready).sum(), Relaxed);
    }

    /// Events sent to the server.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published.load(Relaxed)
    }

    /// True while connections lag behind the publishers by more than `events` on average.
    #[must_use]
    pub fn lags_by_more_than(&self, events: u64) -> bool {
        if self.lost_connections.load(Relaxed) > 0 {
            // Their outstanding events are unknown now: don't wait for them.
            return false;
        }
        let outstanding = self.due.load(Relaxed).saturating_sub(self.delivered());
        outstanding > events.saturating_mul(self.ready().max(1))
    }

    /// Events stamped from `now` on count for latency.
    pub fn measure_from(&self, now: u64) {
        self.measure_from.store(now, Relaxed);
    }

    /// The first stamp that counts; `u64::MAX` before [`Progress::measure_from`].
    #[must_use]
    pub fn measured_from(&self) -> u64 {
        self.measure_from.load(Relaxed)
    }

    /// Signals the subscribers to close.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// True once they should.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }
}
