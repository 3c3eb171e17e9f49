//! Metrics of history in memory.

use super::names::{Counter, Gauge};

/// Why an event was removed from history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evicted {
    /// Its namespace's limit on events per channel.
    Size,
    /// Its namespace's limit on bytes per channel.
    Bytes,
    /// Its namespace's limit on age.
    Age,
    /// The limit on all channels together (`history.memory_bytes`).
    Memory,
    /// A purge.
    Purge,
}

impl Evicted {
    /// The number of reasons.
    pub const COUNT: usize = 5;
    /// All reasons.
    pub(super) const ALL: [Evicted; Evicted::COUNT] = [
        Evicted::Size,
        Evicted::Bytes,
        Evicted::Age,
        Evicted::Memory,
        Evicted::Purge,
    ];

    /// The value of the metric's label.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Evicted::Size => "size",
            Evicted::Bytes => "bytes",
            Evicted::Age => "ttl",
            Evicted::Memory => "memory",
            Evicted::Purge => "purge",
        }
    }

    /// This reason's element of an array.
    pub fn pick_mut<T>(self, all: &mut [T; Evicted::COUNT]) -> &mut T {
        let [size, bytes, age, memory, purge] = all;
        match self {
            Evicted::Size => size,
            Evicted::Bytes => bytes,
            Evicted::Age => age,
            Evicted::Memory => memory,
            Evicted::Purge => purge,
        }
    }
}

/// Metrics of a store in memory.
#[derive(Debug, Default)]
pub struct HistoryMetrics {
    pub(super) bytes: Gauge,
    pub(super) evicted: [Counter; Evicted::COUNT],
}

impl HistoryMetrics {
    /// Channels and events take this many bytes more, or fewer.
    pub fn held(&self, delta: i64) {
        self.bytes.add(delta);
    }

    /// This many events were removed, for each reason.
    pub fn evicted(&self, events: &[u64; Evicted::COUNT]) {
        for (counter, events) in self.evicted.iter().zip(events) {
            if *events > 0 {
                counter.add(*events);
            }
        }
    }
}
