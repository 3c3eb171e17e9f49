//! Position checks: whether the broker has events of a channel that this shard has not seen.
//!
//! A broker whose events cross a network may lose the last event of a channel, and no later
//! offset shows it. The broker reports such a loss by
//! [`Sink::lagged`](crate::broker::Sink::lagged). Then the shard compares its position in each such
//! channel with the broker's, and its subscribers read the difference from history.

use std::collections::{HashSet, VecDeque};

use super::Shard;
use crate::error::Result;
use crate::event::{ChannelName, ChannelPattern, Position};
use crate::hub::command::ShardCommand;
use crate::maybe_ready::MaybeReady;

/// The most lookups at a time.
const SLICE: usize = 256;
/// How long to wait before failed lookups are repeated.
const RETRY_MS: u64 = 1_000;

/// The topics whose positions are to be checked.
#[derive(Default)]
pub(super) struct PositionChecks {
    waiting: VecDeque<u32>,
    /// The same topics, so that each is queued once.
    queued: HashSet<u32>,
    /// Lookups are being made.
    busy: bool,
    /// When the next lookups are made, in milliseconds of the shard's clock.
    next_at: Option<u64>,
}

impl PositionChecks {
    fn add(&mut self, topic: u32) {
        if self.queued.insert(topic) {
            self.waiting.push_back(topic);
        }
    }

    fn take(&mut self) -> Option<u32> {
        let topic = self.waiting.pop_front()?;
        self.queued.remove(&topic);
        Some(topic)
    }

    /// When the next lookups are made.
    pub(super) fn next(&self) -> Option<u64> {
        self.next_at
    }
}

/// A topic whose position is being looked up.
#[derive(Debug, Clone, Copy)]
pub(in crate::hub) struct Checked {
    topic: u32,
    /// Distinguishes the epoch of the lookup from a later one.
    serial: u32,
}

/// The broker's position in each of these topics.
pub(in crate::hub) type Tops = Vec<(Checked, Result<Option<Position>>)>;

impl Shard {
    /// Checks the position of a channel, or of all channels.
    pub(super) fn check_positions(&mut self, channel: Option<&ChannelName>) {
        match channel {
            Some(channel) => {
                if let Some(topic) = self.topics.of_channel(channel) {
                    self.position_checks.add(topic);
                }
            }
            None => {
                for topic in self.topics.channels() {
                    self.position_checks.add(topic);
                }
            }
        }
        self.look_up_tops();
    }

    /// Checks the position of a topic in the next round.
    pub(super) fn check_position_soon(&mut self, topic: u32) {
        self.position_checks.add(topic);
        let now = self.time.now;
        self.position_checks.next_at.get_or_insert(now);
    }

    /// Makes the next lookups when they are due.
    pub(super) fn go_on_checking_positions(&mut self) {
        if self
            .position_checks
            .next_at
            .is_some_and(|at| at <= self.time.now)
        {
            self.position_checks.next_at = None;
            self.look_up_tops();
        }
    }

    /// Looks the next positions up, if no lookups are being made.
    fn look_up_tops(&mut self) {
        if self.position_checks.busy || self.position_checks.next_at.is_some() {
            return;
        }
        let (mut asked, mut found) = (Vec::new(), Vec::new());
        while asked.len() < SLICE
            && let Some(topic) = self.position_checks.take()
        {
            let Some(entry) = self.topics.get(topic) else {
                continue;
            };
            if let ChannelPattern::Exact(channel) = &entry.pattern
                && self.hub.namespaces().of(channel).history.size > 0
            {
                let serial = entry.serial;
                asked.push(Checked { topic, serial });
                found.push(self.hub.broker().top(channel));
            }
        }
        if asked.is_empty() {
            return;
        }
        self.position_checks.busy = true;
        let tops = |found: Result<Vec<_>>| asked.into_iter().zip(found.unwrap_or_default());
        match MaybeReady::all(found) {
            MaybeReady::Ready(found) => self.take_tops(tops(found).collect()),
            MaybeReady::Pending(found) => {
                self.send_later(async move {
                    ShardCommand::PositionsChecked(tops(found.await).collect())
                });
            }
        }
    }

    /// The broker's positions are known.
    pub(super) fn take_tops(&mut self, tops: Tops) {
        self.position_checks.busy = false;
        let mut failure = None;
        for (checked, top) in tops {
            match top {
                Ok(Some(top)) => self.take_top(checked, top),
                Ok(None) => {}
                Err(error) => {
                    self.position_checks.add(checked.topic);
                    failure = Some(error);
                }
            }
        }
        if let Some(error) = failure {
            tracing::warn!(%error, "positions of channels could not be checked yet");
            self.position_checks.next_at = Some(self.time.now.saturating_add(RETRY_MS));
        } else if !self.position_checks.waiting.is_empty() {
            // In the next round, so that events and sockets get their turn.
            self.position_checks.next_at = Some(self.time.now);
        }
    }

    fn take_top(&mut self, checked: Checked, top: Position) {
        let Checked { topic, serial } = checked;
        let Some(entry) = self.topics.get_mut(topic) else {
            return;
        };
        if entry.serial != serial {
            // The channel has had a new epoch since.
            self.position_checks.add(topic);
            return;
        }
        match entry.position {
            // Subscriptions that have not begun read on from history when they do.
            None if entry.subscribers.iter().all(|subscriber| !subscriber.live) => {
                entry.position = Some(top);
            }
            Some(at) if at.epoch != top.epoch => self.renumber(topic, top),
            Some(at) if at.offset < top.offset => {
                entry.position = Some(top);
                self.recover_all(topic, at);
            }
            Some(_) | None => {}
        }
    }
}
