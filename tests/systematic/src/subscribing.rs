//! Subscribing while events are published: an event after the position that a shard looked up
//! is delivered to the shard; and a channel's route stays when another shard removes its own.
//!
//! The broker is replaced by the step that both of its kinds share: an event gets its offset
//! and is passed to the routes atomically, under the channel's lock.

use std::sync::Arc;

use loom::sync::Mutex;
use loom::thread;

use crate::event::{ChannelName, ChannelPattern};
use crate::interest::InterestTable;
use crate::model;

struct World {
    routes: InterestTable,
    /// The channel's last offset, under its lock.
    last: Mutex<u64>,
    /// The offsets delivered to shard 0.
    inbox: Mutex<Vec<u64>>,
}

fn channel() -> ChannelName {
    ChannelName("room:1".into())
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(World {
            routes: InterestTable::new(),
            last: Mutex::new(0),
            inbox: Mutex::new(Vec::new()),
        })
    }

    fn publish(&self) {
        let mut last = self.last.lock().unwrap();
        *last += 1;
        let (shards, _) = self.routes.find(&channel());
        if shards & 1 != 0 {
            self.inbox.lock().unwrap().push(*last);
        }
    }

    /// Subscribes as a shard does: adds the route first, then looks the position up. Returns the
    /// channel's position.
    fn join(&self, pattern: &ChannelPattern) -> u64 {
        self.routes.add(pattern, 0);
        *self.last.lock().unwrap()
    }
}

/// No event after the looked-up position may be missing.
fn check(world: &World, position: u64, published: u64) {
    let received = world.inbox.lock().unwrap();
    let new: Vec<u64> = received
        .iter()
        .copied()
        .filter(|at| *at > position)
        .collect();
    let expected: Vec<u64> = (position + 1..=published).collect();
    assert_eq!(new, expected, "looked up at {position}");
}

fn joins_under_publish(pattern: ChannelPattern) {
    model(move || {
        let world = World::new();
        let publishing = Arc::clone(&world);
        let publisher = thread::spawn(move || {
            publishing.publish();
            publishing.publish();
        });
        let position = world.join(&pattern);
        publisher.join().unwrap();
        check(&world, position, 2);
    });
}

#[test]
fn event_is_looked_up_or_routed_during_subscribe() {
    joins_under_publish(ChannelPattern::Exact(channel()));
}

#[test]
fn event_is_looked_up_or_routed_for_a_namespace() {
    joins_under_publish(ChannelPattern::Namespace("room".into()));
}

#[test]
fn event_is_looked_up_or_routed_for_all() {
    joins_under_publish(ChannelPattern::All);
}

#[test]
fn leaving_shard_keeps_the_interest_of_a_joining_one() {
    for pattern in [
        ChannelPattern::Exact(channel()),
        ChannelPattern::Namespace("room".into()),
    ] {
        model(move || {
            let world = World::new();
            world.routes.add(&pattern, 1);
            let (leaving, publishing) = (Arc::clone(&world), Arc::clone(&world));
            let left = pattern.clone();
            let leaver = thread::spawn(move || {
                leaving.routes.remove(&left, 1);
            });
            let publisher = thread::spawn(move || publishing.publish());
            let position = world.join(&pattern);
            leaver.join().unwrap();
            publisher.join().unwrap();
            world.publish();
            check(&world, position, 2);
            assert_eq!(world.routes.find(&channel()).0, 1);
        });
    }
}
