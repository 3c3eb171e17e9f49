//! The rounds of a shard, as its thread and publishers run them.
//!
//! Publishers reach a shard through this trait only, so that the publishers' side of the hub knows
//! no connection.

use std::time::Duration;

use mio::{Events, Token};

use super::shard_cell::{Remaining, ShardCell};

/// The token of a shard's queue among those of its sockets.
pub(in crate::hub) const WAKE: Token = Token(usize::MAX);
/// The most subscribers of an event that a small round delivers.
pub(in crate::hub) const SMALL_ROUND_SUBSCRIBERS: u32 = 8;

/// A shard that works in rounds.
pub(in crate::hub) trait Round: Send {
    /// One round of the thread, with the sockets that are ready. Returns how long the thread may
    /// sleep, or `None` after the last round.
    fn run_round(&mut self, events: &Events) -> Option<Duration>;

    /// One small round in place of the sleeping thread: delivers a few events that have few
    /// subscribers, and writes them. Commands, recovery and timers are left to the thread: a
    /// command may open connections and publish.
    fn run_small_round(&mut self) -> Remaining;
}

/// Where a shard lives.
pub(in crate::hub) type Cell = ShardCell<Box<dyn Round>>;
