//! The inbox: each pushed item is processed without another push, and publishers that wait for
//! space are woken.

use std::sync::Arc;

use loom::future::block_on;
use loom::thread;

use crate::delivery::Delivery;
use crate::event::Event;
use crate::model;
use crate::queue::{HighWater, Inbound, ShardQueue};
use crate::sync::Waker;

fn inbox(len: usize) -> (Arc<ShardQueue>, Waker) {
    let bytes = usize::MAX;
    bounded(HighWater { len, bytes })
}

fn bounded(high_water: HighWater) -> (Arc<ShardQueue>, Waker) {
    let waker = Waker::new();
    (Arc::new(ShardQueue::new(waker.clone(), high_water)), waker)
}

/// An event of a thousand bytes or more.
fn event() -> Inbound {
    let event = Event {
        trace: None,
        weight: 1000,
    };
    Inbound::Event(Arc::new(Delivery::new(Arc::new(event), 1, None)))
}

/// Any command.
fn command() -> Inbound {
    Inbound::Command(Box::default())
}

/// The loop of a shard's thread, until it has processed `wanted` items.
fn turn_until(inbox: &ShardQueue, waker: &Waker, wanted: usize) {
    let mut done = 0;
    while done < wanted {
        if inbox.is_empty() {
            waker.wait();
        }
        inbox.begin_round();
        while inbox.pop().is_some() {
            done += 1;
        }
    }
}

#[test]
fn sleeping_shard_is_woken_for_every_push() {
    model(|| {
        let (inbox, waker) = inbox(100);
        let pushing = Arc::clone(&inbox);
        let first = thread::spawn(move || pushing.push(command()));
        let pushing = Arc::clone(&inbox);
        let second = thread::spawn(move || {
            pushing.push(command());
            pushing.push(command());
        });
        turn_until(&inbox, &waker, 3);
        first.join().unwrap();
        second.join().unwrap();
        assert!(inbox.is_empty());
    });
}

#[test]
fn waiting_publisher_is_notified_of_room() {
    model(|| {
        let (inbox, waker) = inbox(2);
        let pushing = Arc::clone(&inbox);
        let publisher = thread::spawn(move || {
            for _ in 0..3 {
                block_on(pushing.ready());
                pushing.push(command());
            }
        });
        turn_until(&inbox, &waker, 3);
        publisher.join().unwrap();
        assert!(!inbox.is_full());
    });
}

#[test]
fn two_waiting_publishers_are_both_notified() {
    model(|| {
        let (inbox, waker) = inbox(2);
        inbox.push(command());
        inbox.push(command());
        let publishers = [(); 2].map(|()| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                block_on(inbox.ready());
                inbox.push(command());
            })
        });
        turn_until(&inbox, &waker, 4);
        for publisher in publishers {
            publisher.join().unwrap();
        }
    });
}

#[test]
fn publisher_waiting_for_bytes_is_notified() {
    model(|| {
        // One event fills it, whatever the delivery itself weighs; each event crosses the half
        // mark.
        let (inbox, waker) = bounded(HighWater {
            len: 100,
            bytes: 1000,
        });
        inbox.push(event());
        assert!(inbox.is_full());
        let publishers = [(); 2].map(|()| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                block_on(inbox.ready());
                inbox.push(event());
            })
        });
        turn_until(&inbox, &waker, 3);
        for publisher in publishers {
            publisher.join().unwrap();
        }
        assert!(!inbox.is_full());
    });
}
