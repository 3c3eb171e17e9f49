//! The ids of the events that were appended to a channel lately, by whichever node.
//!
//! An event whose append was unclear, or that two nodes may append, is looked up here by its id
//! before it is appended again.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

/// How long an id is kept, in milliseconds: longer than an event can be under way.
const KEPT: u64 = 30_000;
/// The most ids of one channel.
const MOST: usize = 20_000;

/// Where an event is in its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// The epoch, as it is stored.
    pub(super) epoch: u64,
    pub(super) offset: u64,
}

/// Recent ids of one channel.
#[derive(Debug, Default)]
pub(super) struct Recent {
    found: HashMap<Uuid, Found>,
    order: VecDeque<(u64, u64, Uuid)>,
    /// Every batch behind this sequence is in here.
    since: u64,
}

impl Recent {
    /// Begins anew: batches behind this sequence will be noted.
    pub(super) fn restart(&mut self, since: u64) {
        *self = Recent {
            since,
            ..Recent::default()
        };
    }

    /// Notes an event of the batch `seq`, appended or seen at `now`.
    pub(super) fn note(&mut self, id: Uuid, found: Found, seq: u64, now: u64) {
        if self.found.insert(id, found).is_none() {
            self.order.push_back((now, seq, id));
        }
    }

    /// Removes what is old.
    pub(super) fn trim(&mut self, now: u64) {
        while let Some((at, seq, id)) = self.order.front().copied() {
            if self.order.len() <= MOST && now.saturating_sub(at) <= KEPT {
                break;
            }
            self.order.pop_front();
            self.found.remove(&id);
            self.since = self.since.max(seq);
        }
        if self.order.is_empty() {
            self.found.shrink_to_fit();
            self.order.shrink_to_fit();
        }
    }

    /// True if every batch behind this sequence is known.
    pub(super) fn covers(&self, base: u64) -> bool {
        self.since <= base
    }

    /// Where the event is.
    pub(super) fn find(&self, id: Uuid) -> Option<Found> {
        self.found.get(&id).copied()
    }
}
