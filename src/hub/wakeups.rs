//! Deferred wake-ups: a publisher wakes sleeping shards once, after it has released every lock.
//!
//! [`Sink::deliver`](crate::broker::Sink::deliver) runs under a channel's lock, where no shard's
//! round may run. So it only records the wake-ups here, and `Hub::wake_after`, which wraps the call
//! of the broker, settles them at its end.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::deliver::Dispatcher;
use super::end_the_process;
use super::round::SMALL_ROUND_SUBSCRIBERS;

/// How publishes on this thread wake shards.
#[derive(Clone, Copy)]
enum WakeScope {
    /// A sleeping shard is woken at once.
    Outside,
    /// Within `Hub::wake_after`.
    Deferring(DeferredWakes),
    /// In a shard's round: no other round is run.
    InRound,
}

/// Deferred wake-ups.
#[derive(Clone, Copy)]
struct DeferredWakes {
    dispatcher: *const Dispatcher,
    /// The shards that were asleep, as a bit set.
    shards: u64,
    /// Deliveries of the events published so far.
    deliveries: u64,
}

thread_local! {
    static SCOPE: Cell<WakeScope> = const { Cell::new(WakeScope::Outside) };
}

/// Marks the calling thread as a shard's thread for its lifetime.
pub(in crate::hub) fn enter_shard_thread() {
    SCOPE.set(WakeScope::InRound);
}

impl Dispatcher {
    /// Runs `work`, then wakes the shards once for all its publishes. If they are only a few
    /// deliveries, it runs the round of a sleeping shard instead of waking its thread. A panic of
    /// `work` wakes as well. The caller holds no lock. Nested calls are part of the outermost one.
    pub(in crate::hub) fn wake_after<T>(&self, work: impl FnOnce() -> T) -> T {
        if !matches!(SCOPE.get(), WakeScope::Outside) {
            return work();
        }
        SCOPE.set(WakeScope::Deferring(DeferredWakes {
            dispatcher: self,
            shards: 0,
            deliveries: 0,
        }));
        let flush = FlushWakesOnDrop(self);
        let done = work();
        drop(flush);
        done
    }

    /// Records that an event with this many deliveries was pushed and that these shards, a bit set,
    /// were asleep.
    pub(in crate::hub) fn defer_wake(&self, shards: u64, deliveries: u64) {
        let WakeScope::Deferring(deferred) = SCOPE.get() else {
            return self.wake(shards);
        };
        if !std::ptr::eq(deferred.dispatcher, self) {
            return self.wake(shards);
        }
        let mut deferred = DeferredWakes {
            shards: deferred.shards | shards,
            deliveries: deferred.deliveries.saturating_add(deliveries.max(1)),
            ..deferred
        };
        if deferred.deliveries > u64::from(SMALL_ROUND_SUBSCRIBERS) {
            // Too many for a small round: wake the threads while more events are published.
            self.wake(deferred.shards);
            deferred.shards = 0;
        }
        SCOPE.set(WakeScope::Deferring(deferred));
    }

    fn wake(&self, shards: u64) {
        if shards == 0 {
            return;
        }
        for (index, inbox) in self.queues.iter().enumerate() {
            if shards & (1 << index) != 0 {
                inbox.wake();
            }
        }
    }

    fn run_or_wake(&self, shards: u64) {
        for (index, (cell, inbox)) in self.cells.iter().zip(&self.queues).enumerate() {
            if shards & (1 << index) == 0 {
                continue;
            }
            let round =
                || cell.run_or_wake(inbox, self.clock_us(), |shard| shard.run_small_round());
            if catch_unwind(AssertUnwindSafe(round)).is_err() {
                end_the_process(index);
            }
        }
    }
}

/// Settles the deferred wake-ups when it is dropped.
struct FlushWakesOnDrop<'d>(&'d Dispatcher);

impl Drop for FlushWakesOnDrop<'_> {
    fn drop(&mut self) {
        let WakeScope::Deferring(deferred) = SCOPE.replace(WakeScope::Outside) else {
            return;
        };
        if deferred.shards == 0 {
            return;
        }
        if std::thread::panicking() {
            return self.0.wake(deferred.shards);
        }
        SCOPE.set(WakeScope::InRound);
        self.0.run_or_wake(deferred.shards);
        SCOPE.set(WakeScope::Outside);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use arc_swap::ArcSwap;
    use bytes::Bytes;
    use mio::{Events, Poll};

    use super::*;
    use crate::broker::{Bounds, Memory, Sink};
    use crate::event::{
        AcceptedAt, Audience, ChannelName, ChannelPattern, Draft, Event, EventType, Headers,
        Namespace, Namespaces, Payload, Timestamp,
    };
    use crate::hub::command::{Reply, ShardCommand};
    use crate::hub::queue::Inbound;
    use crate::hub::round::WAKE;
    use crate::hub::shard::Shard;
    use crate::hub::shard_cell::Remaining;
    use crate::hub::{Hub, HubParts, Settings};
    use crate::telemetry::{Metrics, TextFormat, Tracing};

    /// One shard whose thread never wakes.
    struct World {
        hub: Arc<Hub>,
        poll: Poll,
        metrics: Arc<Metrics>,
    }

    /// A shard with this many subscriptions to the channel.
    fn world(subscriptions: usize) -> World {
        let metrics = Metrics::new("wake_ups");
        let namespaces = Namespaces::new([Namespace::named("room")]);
        let namespaces = Arc::new(ArcSwap::from_pointee(namespaces));
        let builder = Hub::builder(
            1,
            Settings::sample(),
            Arc::clone(&namespaces),
            Arc::clone(&metrics),
            Arc::new(Tracing::default()),
        )
        .unwrap();
        let sink = builder.sink();
        let broker = Memory::new(namespaces, sink, Arc::clone(&metrics), Bounds::default());
        let (hub, mut polls) = builder.build(HubParts::new(Arc::new(broker)));
        let poll = polls.remove(0);
        let registry = poll.registry().try_clone().unwrap();
        let inbox = Arc::clone(&hub.dispatcher.queues[0]);
        let shard = Shard::new(0, Arc::clone(&hub), inbox, registry);
        hub.dispatcher.cells[0].insert(Box::new(shard));
        let pattern = ChannelPattern::Exact(channel());
        let route = hub.dispatcher.routes.add(&pattern, 0);
        (0..subscriptions).for_each(|_| {
            route.joined();
        });
        World { hub, poll, metrics }
    }

    fn channel() -> ChannelName {
        ChannelName::new("room:1").unwrap()
    }

    impl World {
        fn publish(&self) {
            self.publish_to(Some(channel()), None);
        }

        fn publish_to(&self, channel: Option<ChannelName>, audience: Option<Audience>) {
            let payload = Payload::new(Bytes::from_static(b"1"), "").unwrap();
            self.publish_data(channel, audience, payload);
        }

        fn publish_data(
            &self,
            channel: Option<ChannelName>,
            audience: Option<Audience>,
            payload: Payload,
        ) {
            let now = Timestamp::now();
            let draft = Draft {
                id: Draft::new_id(now),
                channel,
                event_type: EventType::new("tick").unwrap(),
                payload,
                headers: Headers::default(),
                key: None,
                idempotency_key: None,
                audience: audience.map(Arc::new),
                source: None,
                time: now,
                trace: None,
                accepted: AcceptedAt::now(),
                expires: None,
                conditions: None,
            };
            self.hub
                .dispatcher
                .deliver(Arc::new(Event::new(draft, None)));
        }

        fn woken(&mut self) -> bool {
            let mut events = Events::with_capacity(4);
            let poll = self.poll.poll(&mut events, Some(Duration::ZERO));
            poll.unwrap();
            events.iter().any(|e| e.token() == WAKE)
        }

        fn is_done(&self) -> bool {
            self.hub.dispatcher.queues[0].is_empty()
        }

        fn helped(&self) -> bool {
            let text = self.metrics.text(TextFormat::Prometheus);
            text.contains("tidings_helped_rounds_total 1")
        }

        fn run_or_wake(&self, now: u64, left: Remaining) -> bool {
            let mut entered = false;
            self.hub.dispatcher.cells[0].run_or_wake(&self.hub.dispatcher.queues[0], now, |_| {
                entered = true;
                left
            });
            entered
        }
    }

    #[tokio::test]
    async fn publisher_runs_small_round_while_thread_sleeps() {
        let mut world = world(1);
        world.hub.wake_after(|| {
            world.publish();
            assert!(!world.is_done(), "not where the publisher may hold locks");
        });
        assert!(world.is_done() && world.helped());
        assert!(!world.woken());
    }

    #[tokio::test]
    async fn stalled_shard_stops_publishers_at_its_byte_limit() {
        let world = world(usize::try_from(SMALL_ROUND_SUBSCRIBERS).unwrap() + 1);
        let data = Bytes::from(vec![1; 1 << 20]);
        let payload = Payload::new(data, "application/octet-stream").unwrap();
        let mut waiting = 0;
        while !world.hub.is_full() {
            world.publish_data(Some(channel()), None, payload.clone());
            waiting += 1;
            assert!(
                waiting << 20 <= crate::hub::INBOX_BYTES,
                "{waiting} MiB wait"
            );
        }
        let mut room = std::pin::pin!(world.hub.ready());
        let waits =
            std::future::poll_fn(|cx| std::task::Poll::Ready(room.as_mut().poll(cx).is_pending()));
        assert!(waits.await, "publishers wait");
        let events = Events::with_capacity(1);
        while !world.is_done() {
            world.hub.dispatcher.cells[0].enter(0, |shard| shard.run_round(&events));
        }
        room.await;
    }

    #[tokio::test]
    async fn events_of_nested_publishes_share_one_round() {
        let mut world = world(1);
        world.hub.wake_after(|| {
            for _ in 0..SMALL_ROUND_SUBSCRIBERS {
                world.hub.wake_after(|| world.publish());
                assert!(!world.is_done(), "within another one it is part of that");
            }
        });
        assert!(world.is_done() && world.helped());
        assert!(!world.woken());
    }

    #[tokio::test]
    async fn many_deliveries_wake_the_thread_at_once() {
        let many = usize::try_from(SMALL_ROUND_SUBSCRIBERS).unwrap() + 1;
        let mut crowd = world(many);
        let hub = Arc::clone(&crowd.hub);
        hub.wake_after(|| {
            crowd.publish();
            assert!(crowd.woken(), "it begins at once");
        });
        assert!(!crowd.is_done());
        let mut burst = world(1);
        let hub = Arc::clone(&burst.hub);
        hub.wake_after(|| {
            (0..many).for_each(|_| burst.publish());
            assert!(burst.woken(), "it begins at once");
        });
        assert!(!burst.is_done());
    }

    #[tokio::test]
    async fn event_for_roles_is_left_to_the_thread() {
        let mut world = world(1);
        let hub = Arc::clone(&world.hub);
        hub.wake_after(|| {
            let audience = Audience {
                roles: vec![Arc::from("editor")],
                ..Audience::default()
            };
            world.publish_to(None, Some(audience));
            assert!(world.woken(), "it begins at once");
        });
        assert!(!world.is_done());
        world.hub.dispatcher.run_or_wake(1);
        assert!(world.woken(), "nor does anyone else hand it out");
    }

    #[tokio::test]
    async fn publish_outside_wake_after_wakes_at_once() {
        let mut world = world(1);
        world.publish();
        assert!(world.woken() && !world.is_done());
    }

    #[tokio::test]
    async fn shard_thread_wakes_others_and_runs_no_small_round() {
        let mut world = world(1);
        SCOPE.set(WakeScope::InRound);
        world.hub.wake_after(|| world.publish());
        SCOPE.set(WakeScope::Outside);
        assert!(world.woken() && !world.is_done());
    }

    #[tokio::test]
    async fn panic_after_publish_still_wakes_the_shard() {
        let mut world = world(1);
        let publish = AssertUnwindSafe(|| {
            world.hub.wake_after(|| {
                world.publish();
                std::panic::resume_unwind(Box::new(()));
            });
        });
        assert!(catch_unwind(publish).is_err());
        assert!(world.woken() && !world.is_done());
        assert!(matches!(SCOPE.get(), WakeScope::Outside));
    }

    #[tokio::test]
    async fn wake_ups_of_another_hub_are_not_deferred() {
        let (one, mut other) = (world(1), world(1));
        one.hub.wake_after(|| other.publish());
        assert!(other.woken() && !other.is_done());
    }

    #[tokio::test]
    async fn command_left_by_small_round_stays_first() {
        let mut world = world(1);
        let (reply, mut answer) = Reply::channel();
        let question = Inbound::Command(Box::new(ShardCommand::IsEmpty { reply }));
        let deferred = world.hub.dispatcher.queues[0].push_deferred(question);
        assert!(deferred);
        world.hub.dispatcher.run_or_wake(1);
        assert!(world.woken(), "commands are for the thread");
        world.publish();
        assert!(world.woken(), "the shard had looked, and sleeps again");
        let left = world.hub.dispatcher.cells[0].enter(0, |shard| shard.run_small_round());
        assert_eq!(left, Some(Remaining::Work));
        assert!(!world.is_done(), "no event overtakes the command");
        assert!(answer.try_recv().is_err());
        let events = Events::with_capacity(1);
        let turned = world.hub.dispatcher.cells[0].enter(0, |shard| shard.run_round(&events));
        assert!(turned.flatten().is_some() && world.is_done());
        assert_eq!(answer.try_recv(), Ok(true));
    }

    #[tokio::test]
    async fn event_with_many_subscribers_is_left_to_the_thread() {
        let mut world = world(usize::try_from(SMALL_ROUND_SUBSCRIBERS).unwrap() + 1);
        world.publish();
        assert!(world.woken());
        world.hub.dispatcher.run_or_wake(1);
        assert!(world.woken());
        let events = Events::with_capacity(1);
        let turned = world.hub.dispatcher.cells[0].enter(0, |shard| shard.run_round(&events));
        assert!(turned.flatten().is_some() && world.is_done());
    }

    #[tokio::test]
    async fn thread_is_woken_if_the_cell_is_locked_or_was_just_now() {
        let mut world = world(1);
        assert!(world.run_or_wake(1_000, Remaining::Nothing) && !world.woken());
        assert!(!world.run_or_wake(1_100, Remaining::Nothing), "just now");
        assert!(world.woken());
        assert!(world.run_or_wake(1_300, Remaining::Work));
        assert!(world.woken(), "it left something");
        let hub = Arc::clone(&world.hub);
        hub.dispatcher.cells[0].enter(2_000, |_| {
            assert!(
                !world.run_or_wake(9_000, Remaining::Nothing),
                "somebody is inside"
            );
            assert!(world.woken());
        });
        assert!(
            !world.run_or_wake(2_100, Remaining::Nothing),
            "the thread was, just now"
        );
        assert!(world.woken());
        drop(world.hub.dispatcher.cells[0].take());
        assert!(
            !world.run_or_wake(9_000, Remaining::Nothing),
            "nobody lives there"
        );
        assert!(world.woken());
    }
}
