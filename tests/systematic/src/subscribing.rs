//! Joining while events are published: what a shard does not find when it looks up where the
//! channel stands, comes to it; and a channel's route outlives whoever leaves beside it.
//!
//! The broker is stood in for by what both of its kinds do: an event gets its offset and is handed
//! to the routes in one step under the channel's lock.

use std::sync::Arc;

use loom::sync::Mutex;
use loom::thread;

use crate::event::{ChannelName, ChannelPattern};
use crate::interest::InterestTable;
use crate::model;

struct World {
    routes: InterestTable,
    /// How far the channel is, under its lock.
    last: Mutex<u64>,
    /// What has come to shard 0.
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

    /// Joins as a shard does: the route first, then the look-up. Where the channel stands.
    fn join(&self, pattern: &ChannelPattern) -> u64 {
        self.routes.add(pattern, 0);
        *self.last.lock().unwrap()
    }
}

/// Nothing after what was looked up may be missing.
fn check(world: &World, stands: u64, published: u64) {
    let came = world.inbox.lock().unwrap();
    let new: Vec<u64> = came.iter().copied().filter(|at| *at > stands).collect();
    let expected: Vec<u64> = (stands + 1..=published).collect();
    assert_eq!(new, expected, "looked up at {stands}");
}

fn joins_under_publish(pattern: ChannelPattern) {
    model(move || {
        let world = World::new();
        let publishing = Arc::clone(&world);
        let publisher = thread::spawn(move || {
            publishing.publish();
            publishing.publish();
        });
        let stands = world.join(&pattern);
        publisher.join().unwrap();
        check(&world, stands, 2);
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
            let stands = world.join(&pattern);
            leaver.join().unwrap();
            publisher.join().unwrap();
            world.publish();
            check(&world, stands, 2);
            assert_eq!(world.routes.find(&channel()).0, 1);
        });
    }
}
