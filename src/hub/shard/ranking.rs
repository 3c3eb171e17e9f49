//! Connections in an order, for operators: the first of them, without looking at all of them at once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::OnceLock;

use super::Shard;
use super::query::{ConnectionFilter, LOOKED_AT};
use crate::clock::uptime_ms;
use crate::event::{ConnectionId, Timestamp};
use crate::hub::shard::connection::Connection;

/// What connections are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionOrder {
    /// Bytes that wait in the outbox.
    Outbox,
    /// Events that it lost.
    Dropped,
    /// Bytes received and sent.
    Bytes,
    /// When it was opened.
    ConnectedAt,
    /// Its round trip time.
    RoundTrip,
}

impl ConnectionOrder {
    /// All orders.
    pub const ALL: [ConnectionOrder; 5] = [
        ConnectionOrder::Outbox,
        ConnectionOrder::Dropped,
        ConnectionOrder::Bytes,
        ConnectionOrder::ConnectedAt,
        ConnectionOrder::RoundTrip,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ConnectionOrder::Outbox => "outbox",
            ConnectionOrder::Dropped => "dropped",
            ConnectionOrder::Bytes => "bytes",
            ConnectionOrder::ConnectedAt => "connected_at",
            ConnectionOrder::RoundTrip => "round_trip",
        }
    }
}

/// A connection with the value that it is ordered by. Equal values are ordered by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ranked {
    /// The value.
    pub value: u64,
    /// The connection.
    pub id: ConnectionId,
}

/// Which connections, in which order.
#[derive(Debug, Clone)]
pub struct RankQuery {
    /// Which connections.
    pub filter: ConnectionFilter,
    /// What they are ordered by.
    pub order: ConnectionOrder,
    /// Largest first.
    pub descending: bool,
    /// Only those that come after this one in the order.
    pub after: Option<Ranked>,
    /// The most connections.
    pub limit: usize,
}

/// The first connections of a query, as far as they were looked at.
#[derive(Debug)]
pub struct Ranking {
    descending: bool,
    limit: usize,
    /// The largest key on top: the first to go.
    kept: BinaryHeap<Key>,
}

/// A [`Ranked`] whose order is that of the query.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Up(Ranked),
    Down(Reverse<Ranked>),
}

impl Ranking {
    /// An empty one for a query.
    #[must_use]
    pub fn new(query: &RankQuery) -> Self {
        Ranking {
            descending: query.descending,
            limit: query.limit,
            kept: BinaryHeap::new(),
        }
    }

    /// Adds one; the last is dropped if there are too many.
    pub fn add(&mut self, ranked: Ranked) {
        self.kept.push(if self.descending {
            Key::Down(Reverse(ranked))
        } else {
            Key::Up(ranked)
        });
        if self.kept.len() > self.limit {
            self.kept.pop();
        }
    }

    /// The first ones, in order.
    #[must_use]
    pub fn into_vec(self) -> Vec<Ranked> {
        let sorted = self.kept.into_sorted_vec().into_iter();
        sorted
            .map(|key| match key {
                Key::Up(ranked) | Key::Down(Reverse(ranked)) => ranked,
            })
            .collect()
    }
}

impl RankQuery {
    /// True if this one comes after the last of the page before.
    fn is_next(&self, ranked: Ranked) -> bool {
        self.after.is_none_or(|after| {
            if self.descending {
                ranked < after
            } else {
                ranked > after
            }
        })
    }
}

impl Shard {
    /// The first connections of a part of the shard, and the slot to continue from.
    pub(super) fn rank(&self, query: &RankQuery, from: u32) -> (Vec<Ranked>, Option<u32>) {
        let end = self.connections.end().min(from.saturating_add(LOOKED_AT));
        let mut ranking = Ranking::new(query);
        for slot in from..end {
            if self.is_wanted(slot, &query.filter)
                && let (Some(connection), Some(id)) =
                    (self.connections.get(slot), self.connections.id(slot))
            {
                let value = self.value_of(connection, query.order);
                let ranked = Ranked { value, id };
                if query.is_next(ranked) {
                    ranking.add(ranked);
                }
            }
        }
        (
            ranking.into_vec(),
            (end < self.connections.end()).then_some(end),
        )
    }

    fn value_of(&self, connection: &Connection, order: ConnectionOrder) -> u64 {
        match order {
            ConnectionOrder::Outbox => u64::try_from(connection.outbox.bytes()).unwrap_or(u64::MAX),
            ConnectionOrder::Dropped => u64::from(connection.dropped),
            ConnectionOrder::Bytes => connection.bytes_in.saturating_add(connection.bytes_out),
            ConnectionOrder::ConnectedAt => {
                booted_at().saturating_add(self.time.uptime_at(connection.connected_at))
            }
            ConnectionOrder::RoundTrip => u64::from(connection.round_trip_us),
        }
    }
}

/// The calendar's milliseconds when the uptime was zero. Read once: the calendar may be set, and a page
/// must continue where the one before ended.
fn booted_at() -> u64 {
    static BOOTED: OnceLock<u64> = OnceLock::new();
    *BOOTED.get_or_init(|| {
        let now = u64::try_from(Timestamp::now().as_millis()).unwrap_or(0);
        now.saturating_sub(uptime_ms())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(descending: bool, limit: usize) -> RankQuery {
        RankQuery {
            filter: ConnectionFilter::default(),
            order: ConnectionOrder::Bytes,
            descending,
            after: None,
            limit,
        }
    }

    #[test]
    fn ranking_keeps_the_first_ones_in_order() {
        for (descending, expected) in [(false, [1, 2, 2]), (true, [9, 7, 2])] {
            let mut ranking = Ranking::new(&query(descending, 3));
            for (value, slot) in [(2, 1), (7, 2), (1, 3), (9, 4), (2, 5)] {
                ranking.add(Ranked {
                    value,
                    id: ConnectionId::new(0, slot, 0),
                });
            }
            let values: Vec<u64> = ranking.into_vec().iter().map(|r| r.value).collect();
            assert_eq!(values, expected);
        }
    }

    #[test]
    fn next_page_begins_after_the_last_connection_even_among_equal_values() {
        let ranked = |value, slot| Ranked {
            value,
            id: ConnectionId::new(0, slot, 0),
        };
        let mut query = query(true, 3);
        query.after = Some(ranked(5, 4));
        assert!(query.is_next(ranked(5, 3)) && query.is_next(ranked(4, 9)));
        assert!(!query.is_next(ranked(5, 4)) && !query.is_next(ranked(5, 5)));
    }
}
