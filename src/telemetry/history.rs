//! What is counted of history in memory.

use super::names::{Counter, Gauge};

/// Why an event is no longer in history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evicted {
    /// Its namespace keeps no more events of a channel.
    Size,
    /// Its namespace keeps no more bytes of a channel.
    Bytes,
    /// It was there for as long as its namespace says.
    Age,
    /// All channels together held more than `history.memory_bytes`.
    Memory,
}

impl Evicted {
    /// How many reasons there are.
    pub const COUNT: usize = 4;
    /// All of them.
    pub(super) const ALL: [Evicted; Evicted::COUNT] =
        [Evicted::Size, Evicted::Bytes, Evicted::Age, Evicted::Memory];

    /// The name as it stands in a label.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Evicted::Size => "size",
            Evicted::Bytes => "bytes",
            Evicted::Age => "ttl",
            Evicted::Memory => "memory",
        }
    }

    /// This reason's own of an array.
    pub fn pick_mut<T>(self, all: &mut [T; Evicted::COUNT]) -> &mut T {
        let [size, bytes, age, memory] = all;
        match self {
            Evicted::Size => size,
            Evicted::Bytes => bytes,
            Evicted::Age => age,
            Evicted::Memory => memory,
        }
    }
}

/// Counters of a store that keeps events in memory.
#[derive(Debug, Default)]
pub struct HistoryMetrics {
    pub(super) bytes: Gauge,
    pub(super) evicted: [Counter; Evicted::COUNT],
}

impl HistoryMetrics {
    /// Channels and events take so many bytes more, or fewer.
    pub fn held(&self, delta: i64) {
        self.bytes.add(delta);
    }

    /// So many events went, for each reason.
    pub fn evicted(&self, events: &[u64; Evicted::COUNT]) {
        for (counter, events) in self.evicted.iter().zip(events) {
            if *events > 0 {
                counter.add(*events);
            }
        }
    }
}
