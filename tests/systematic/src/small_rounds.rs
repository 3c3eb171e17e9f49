//! Publishers that process the inbox of a shard whose thread sleeps: each pushed item is
//! processed, by a publisher or by the thread, without another push.

use std::sync::Arc;

use loom::thread;

use crate::model;
use crate::queue::{HighWater, Inbound, ShardQueue};
use crate::shard::Shard;
use crate::shard_cell::{Remaining, ShardCell};
use crate::sync::Waker;

struct World {
    cell: ShardCell<Shard>,
    inbox: ShardQueue,
    waker: Waker,
    /// The number of items to process.
    wanted: usize,
}

/// An hour in microseconds, so that no round counts as recent unless the model wants it.
const LATER: u64 = 3_600_000_000;

impl World {
    fn new(wanted: usize) -> Arc<Self> {
        let waker = Waker::new();
        let world = World {
            cell: ShardCell::new(),
            inbox: ShardQueue::new(
                waker.clone(),
                HighWater {
                    len: 100,
                    bytes: usize::MAX,
                },
            ),
            waker,
            wanted,
        };
        world.cell.insert(Shard::default());
        Arc::new(world)
    }

    /// Any command.
    fn command() -> Inbound {
        Inbound::Command(Box::default())
    }

    /// The loop of a shard's thread, until all items are processed.
    fn turn(&self) {
        let round = |shard: &mut Shard| {
            self.inbox.begin_round();
            while self.inbox.pop().is_some() {
                shard.done += 1;
            }
            (shard.done == self.wanted, !self.inbox.is_empty())
        };
        loop {
            let (all, more) = self.cell.enter(0, round).unwrap();
            if all {
                return;
            }
            if !more {
                self.waker.wait();
            }
        }
    }

    /// Pushes, and processes up to `most` items in place of the thread if it sleeps.
    fn publish(&self, now: u64, most: usize) {
        if self.inbox.push_deferred(Self::command()) {
            self.cell
                .run_or_wake(&self.inbox, now, |shard| self.help(shard, most));
        }
    }

    fn help(&self, shard: &mut Shard, most: usize) -> Remaining {
        self.inbox.begin_round();
        let mut taken = 0;
        while taken < most && self.inbox.pop().is_some() {
            taken += 1;
        }
        shard.done += taken;
        if shard.done == self.wanted {
            // Ends the thread. Only a model needs this wake-up; a server does without it.
            self.waker.wake().unwrap();
        }
        if self.inbox.is_empty() {
            Remaining::Nothing
        } else {
            Remaining::Work
        }
    }
}

/// Runs both publishers until the shard has processed `wanted` items.
fn scene(
    wanted: usize,
    one: impl Fn(&World) + Copy + Send + Sync + 'static,
    other: impl Fn(&World) + Copy + Send + Sync + 'static,
) {
    model(move || {
        let world = World::new(wanted);
        let (first, second) = (Arc::clone(&world), Arc::clone(&world));
        let first = thread::spawn(move || one(&first));
        let second = thread::spawn(move || other(&second));
        world.turn();
        first.join().unwrap();
        second.join().unwrap();
        assert!(world.inbox.is_empty());
    });
}

#[test]
fn every_entry_is_processed_by_thread_or_publisher() {
    scene(
        3,
        |world| {
            world.publish(LATER, 2);
            world.publish(3 * LATER, 2);
        },
        |world| world.publish(2 * LATER, 2),
    );
}

#[test]
fn publisher_that_comes_too_soon_wakes_the_thread() {
    // The second publisher is too early after the first one's round.
    scene(
        2,
        |world| world.publish(LATER, 2),
        |world| world.publish(LATER, 2),
    );
}

#[test]
fn entries_left_by_a_small_round_are_processed_by_the_thread() {
    scene(
        3,
        |world| world.publish(LATER, 0),
        |world| {
            world.publish(2 * LATER, 1);
            world.publish(3 * LATER, 1);
        },
    );
}

#[test]
fn small_rounds_and_wake_ups_hide_no_entry() {
    scene(
        3,
        |world| {
            world.publish(LATER, 2);
            world.publish(2 * LATER, 2);
        },
        |world| world.inbox.push(World::command()),
    );
}
