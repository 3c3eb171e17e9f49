//! The loop of a shard's thread.

use std::time::{Duration, Instant};

use mio::{Events, Poll};

use super::deliver::Dispatcher;
use super::round::Cell;

/// Runs rounds until the last one.
pub(super) fn run(dispatcher: &Dispatcher, cell: &Cell, mut poll: Poll) {
    let mut events = Events::with_capacity(1024);
    let mut wait = Duration::ZERO;
    loop {
        match poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                tracing::error!(%error, "the event queue of a shard failed");
                break;
            }
            // Interrupted: the poll reports its events again.
            Err(_) => events.clear(),
            Ok(()) => {}
        }
        let quiet = events.is_empty();
        let turned = cell.enter(dispatcher.clock_us(), |shard| shard.run_round(&events));
        match turned.flatten() {
            Some(next) => wait = next,
            None => break,
        }
        // Outside the cell, so that publishers can run rounds meanwhile; and not before known work.
        if quiet && !wait.is_zero() {
            let start = Instant::now();
            tidings_malloc::give_back();
            wait = wait.saturating_sub(start.elapsed());
        }
    }
    drop(cell.take());
}
