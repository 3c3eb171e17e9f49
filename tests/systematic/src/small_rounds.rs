//! Publishers that do the work of a shard whose thread sleeps: whatever is pushed is done, by them
//! or by the thread, without another push.

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
    /// What is done when all is done.
    wanted: usize,
}

/// An hour, so that no round is called recent that need not be, in microseconds.
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

    /// What a shard's thread does, until all is done.
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

    /// Pushes, and does up to `most` in the place of the thread if that sleeps.
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
            // That the scene is over is all that the thread is told beyond what a server tells it.
            self.waker.wake().unwrap();
        }
        if self.inbox.is_empty() {
            Remaining::Nothing
        } else {
            Remaining::Work
        }
    }
}

/// Two publishers and whatever else is done, until the shard has done `wanted`.
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
    // The second to come is too early after the first.
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
