//! Tests of what is reported, in virtual time, and of queues in both kinds of stores.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::event::{Fact, What};
use super::queue::{Limits, Queue, forget_others};
use super::reported::{Actual, Item, RETURN, Reported, VACANT};
use super::store::{Space, Store, Write};
use super::{
    EventKind, WebhookSettings, Webhooks, WebhooksParts, WebhooksSettings,
    channel as channel_of_edges,
};
use crate::broker::{Bounds, Memory};
use crate::cluster::Local;
use crate::event::{ChannelName, ChannelPattern, Namespace, Namespaces, Timestamp};
use crate::hub::{Hub, HubParts, Observer as _, Settings};
use crate::telemetry::{Metrics, Tracing};

/// Which channels are occupied, and who is present.
#[derive(Default)]
struct World {
    occupied: Mutex<HashSet<String>>,
    present: Mutex<HashSet<String>>,
}

impl Actual for World {
    fn is_occupied(&self, channel: &ChannelName) -> bool {
        self.occupied.lock().unwrap().contains(channel.as_str())
    }

    fn is_present(&self, channel: &ChannelName, user: &Arc<str>) -> bool {
        let present = self.present.lock().unwrap();
        present.contains(&format!("{channel}/{user}"))
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

/// A world, what was reported of it, and a clock in milliseconds.
#[derive(Default)]
struct Run {
    world: World,
    reported: Reported,
    now: u64,
}

impl Run {
    fn edge(&mut self, what: What) -> Vec<&'static str> {
        let at = Timestamp::from_micros(0);
        let fact = Fact { what, at };
        let reported = self.reported.apply(fact, self.now, &self.world);
        reported.iter().map(|fact| fact.kind().name()).collect()
    }

    /// The channel gains its first subscriber, or loses its last; the edge comes at once.
    fn occupy(&mut self, occupied: bool) -> Vec<&'static str> {
        self.set(occupied);
        let name = channel("room:1");
        self.edge(if occupied {
            What::Occupied(name)
        } else {
            What::Vacated(name)
        })
    }

    fn set(&self, occupied: bool) {
        let mut now = self.world.occupied.lock().unwrap();
        if occupied {
            now.insert("room:1".to_owned());
        } else {
            now.remove("room:1");
        }
    }

    fn pass(&mut self, ms: u64) -> Vec<&'static str> {
        self.now += ms;
        let mut out = Vec::new();
        self.reported.after_wait(self.now, &self.world, &mut out);
        out.iter().map(|fact| fact.kind().name()).collect()
    }
}

const NONE: [&str; 0] = [];

#[test]
fn channel_is_vacated_after_a_second_without_subscribers() {
    let mut run = Run::default();
    assert_eq!(run.occupy(true), ["channel.occupied"]);
    assert_eq!(run.occupy(false), NONE);
    assert_eq!(run.pass(VACANT - 1), NONE);
    assert_eq!(run.pass(1), ["channel.vacated"]);
    assert_eq!(run.pass(10 * VACANT), NONE);
    assert_eq!(run.occupy(true), ["channel.occupied"]);
}

#[test]
fn channel_that_flaps_within_a_second_is_not_reported() {
    let mut run = Run::default();
    run.occupy(true);
    for _ in 0..20 {
        assert_eq!(run.occupy(false), NONE);
        assert_eq!(run.pass(VACANT - 1), NONE);
        assert_eq!(run.occupy(true), NONE);
        assert_eq!(run.pass(1), NONE);
    }
    assert_eq!(run.reported.next_due(), None);
}

#[test]
fn second_begins_when_the_channel_was_last_vacated() {
    let mut run = Run::default();
    run.occupy(true);
    run.occupy(false);
    assert_eq!(run.pass(VACANT / 2), NONE);
    run.occupy(true);
    run.occupy(false);
    assert_eq!(run.pass(VACANT - 1), NONE);
    assert_eq!(run.pass(1), ["channel.vacated"]);
}

#[test]
fn edges_in_the_wrong_order_end_in_the_right_state() {
    let mut run = Run::default();
    run.occupy(true);
    // One shard vacates and another one occupies: the edges are swapped.
    assert_eq!(run.edge(What::Occupied(channel("room:1"))), NONE);
    assert_eq!(run.edge(What::Vacated(channel("room:1"))), NONE);
    assert_eq!(run.pass(2 * VACANT), NONE);
    // Both edges of a short visit are read when it is over.
    run.occupy(false);
    assert_eq!(run.pass(VACANT), ["channel.vacated"]);
    assert_eq!(run.edge(What::Vacated(channel("room:1"))), NONE);
    let occupied = run.edge(What::Occupied(channel("room:1")));
    assert_eq!(occupied, ["channel.occupied"]);
    assert_eq!(run.pass(VACANT), ["channel.vacated"]);
}

#[test]
fn user_joins_and_leaves_once_in_any_order_of_edges() {
    let mut run = Run::default();
    let (room, ann): (_, Arc<str>) = (channel("room:1"), Arc::from("ann"));
    let set = |run: &Run, is: bool| {
        let mut present = run.world.present.lock().unwrap();
        let key = "room:1/ann".to_owned();
        if is {
            present.insert(key);
        } else {
            present.remove(&key);
        }
    };
    let joined = || What::Joined(room.clone(), Arc::clone(&ann));
    let left = || What::Left(room.clone(), Arc::clone(&ann));
    set(&run, true);
    assert_eq!(run.edge(joined()), ["presence.joined"]);
    assert_eq!(run.edge(left()), NONE, "another connection is there");
    set(&run, false);
    assert_eq!(run.edge(left()), ["presence.left"]);
    // Swapped, after a short visit.
    assert_eq!(run.edge(left()), NONE);
    assert_eq!(run.edge(joined()), ["presence.joined"]);
    assert_eq!(run.pass(VACANT), ["presence.left"]);
}

#[test]
fn restart_gives_clients_time_to_return() {
    let mut run = Run::default();
    let at = Timestamp::from_micros(0);
    for name in ["room:1", "room:2"] {
        run.reported.restore(Item::Channel(channel(name)), 0, at);
    }
    let user = Item::User(channel("room:1"), Arc::from("ann"));
    run.reported.restore(user, 0, at);
    assert_eq!(run.occupy(true), NONE, "it was reported before the restart");
    assert_eq!(run.pass(RETURN - 1), NONE);
    assert_eq!(run.pass(1), ["channel.vacated", "presence.left"]);
}

#[test]
fn lost_edges_are_found_by_comparison() {
    let mut run = Run::default();
    run.occupy(true);
    run.set(false);
    let more: HashSet<String> = ["hall:1".to_owned()].into();
    run.world.occupied.lock().unwrap().extend(more);
    let mut out = Vec::new();
    let now = [channel("hall:1")].into_iter();
    run.reported.compare_channels(now, 0, &run.world, &mut out);
    let reported: Vec<&str> = out.iter().map(|fact| fact.kind().name()).collect();
    assert_eq!(reported, ["channel.occupied"]);
    assert_eq!(run.pass(VACANT), ["channel.vacated"]);
}

fn limits() -> Limits {
    Limits {
        bytes: 10_000,
        dead_bytes: 3_000,
    }
}

fn queue(store: &Arc<Store>, url: &str) -> Queue {
    let metrics = Metrics::new("test").webhook(url);
    Queue::open(url, limits(), Arc::clone(store), metrics).unwrap()
}

fn add(queue: &Queue, store: &Store, from: u64, to: u64) {
    let mut writes = Vec::new();
    for number in from..=to {
        let value = Bytes::from(format!("{number:0>100}"));
        queue.add(&value, Timestamp::now(), "/test", &mut writes);
    }
    store.commit(&writes, true).unwrap();
}

fn numbers(entries: &[super::store::Entry]) -> Vec<String> {
    let text = |value: &Bytes| String::from_utf8(value.to_vec()).unwrap();
    let entries = entries.iter().map(|(_, value)| text(value));
    entries
        .map(|text| text.trim_start_matches('0').to_owned())
        .collect()
}

fn both(test: impl Fn(Arc<Store>)) {
    test(Arc::new(Store::in_memory()));
    let dir = tempfile::tempdir().unwrap();
    test(Arc::new(Store::on_disk(dir.path(), true).unwrap()));
}

#[test]
fn queue_is_in_order_and_bounded_and_reports_what_it_dropped() {
    both(|store| {
        let queue = queue(&store, "http://a/");
        add(&queue, &store, 1, 100);
        let level = queue.level();
        assert_eq!(level.queued + level.dropped, 100);
        assert_eq!(level.queued, 10_000 / 164);
        let head = queue.head(3, 10_000).unwrap();
        assert_eq!(numbers(&head), ["1", "2", "3"]);
        assert_eq!(queue.head(100, 250).unwrap().len(), 2, "bounded in bytes");
        // There must be room for a tenth before the report is queued.
        queue.remove(&head).unwrap();
        add(&queue, &store, 101, 101);
        assert_eq!(queue.level().dropped, level.dropped + 1);
        queue.remove(&queue.head(20, 10_000).unwrap()).unwrap();
        add(&queue, &store, 102, 102);
        assert!(!queue.has_gap());
        let rest = queue.head(1000, 100_000).unwrap();
        let (report, last) = (&rest[rest.len() - 2].1, &rest[rest.len() - 1]);
        let report: serde_json::Value = serde_json::from_slice(report).unwrap();
        assert_eq!(report["type"], "webhook.dropped");
        assert_eq!(report["data"]["count"], level.dropped + 1);
        assert_eq!(numbers(std::slice::from_ref(last)), ["102"]);
    });
}

#[test]
fn dead_letters_are_bounded_and_sent_again() {
    both(|store| {
        let queue = queue(&store, "http://a/");
        add(&queue, &store, 1, 50);
        queue.bury(&queue.head(30, 100_000).unwrap()).unwrap();
        let level = queue.level();
        assert_eq!((level.queued, level.dead), (20, 3_000 / 164));
        assert_eq!(level.dropped, 30 - 3_000 / 164);
        assert_eq!(queue.resend().unwrap(), level.dead);
        let all = numbers(&queue.head(1000, 100_000).unwrap());
        assert_eq!(all[..2], ["31", "32"]);
        assert_eq!(all[20..22], ["13", "14"]);
        assert_eq!(queue.level().dead, 0);
    });
}

#[test]
fn stopped_queue_takes_nothing_until_it_is_resent() {
    both(|store| {
        let queue = queue(&store, "http://a/");
        add(&queue, &store, 1, 5);
        queue.stop().unwrap();
        add(&queue, &store, 6, 6);
        let level = queue.level();
        assert_eq!((level.queued, level.dead, level.dropped), (0, 5, 1));
        assert_eq!(queue.resend().unwrap(), 5);
        add(&queue, &store, 7, 7);
        let all = numbers(&queue.head(1000, 100_000).unwrap());
        assert_eq!(all, ["1", "2", "3", "4", "5", "7"]);
    });
}

#[test]
fn queue_on_disk_is_found_again_by_its_url() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Arc::new(Store::on_disk(dir.path(), false).unwrap());
        let (a, b) = (queue(&store, "http://a/"), queue(&store, "http://b/"));
        add(&a, &store, 1, 5);
        add(&b, &store, 6, 8);
        a.remove(&a.head(2, 10_000).unwrap()).unwrap();
        let busy = Store::on_disk(dir.path(), false);
        assert!(busy.is_err_and(|error| error.message().contains("another process")));
    }
    let store = Arc::new(Store::on_disk(dir.path(), false).unwrap());
    let a = Arc::new(queue(&store, "http://a/"));
    assert_eq!(a.level().queued, 3);
    assert_eq!(numbers(&a.head(9, 10_000).unwrap()), ["3", "4", "5"]);
    assert_eq!(queue(&store, "http://b/").level().queued, 3);
    forget_others(&store, &[Arc::clone(&a)]).unwrap();
    assert_eq!(queue(&store, "http://b/").level().queued, 0);
    assert_eq!(queue(&store, "http://a/").level().queued, 3);
}

#[test]
fn range_ends_before_its_end() {
    both(|store| {
        let put = |key: &[u8]| Write {
            space: Space::Reported,
            key: key.to_vec(),
            value: Some(Bytes::from_static(b"x")),
        };
        store
            .commit(&[put(b"a"), put(b"b"), put(b"c")], false)
            .unwrap();
        let keys = |from: &[u8], to: Option<&[u8]>| {
            let found = store.range(Space::Reported, from, to, 10, 10).unwrap();
            found.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(keys(b"a", Some(b"c")), [b"a", b"b"]);
        assert_eq!(keys(b"b", None), [b"b", b"c"]);
        assert!(keys(b"c", Some(b"a")).is_empty());
        assert!(
            store
                .range(Space::Dead, b"", None, 10, 10)
                .unwrap()
                .is_empty()
        );
    });
}

/// A hub without connections, alone in its cluster.
fn hub(metrics: &Arc<Metrics>) -> Arc<Hub> {
    let namespaces = Arc::new(ArcSwap::from_pointee(Namespaces::new([Namespace::named(
        "room",
    )])));
    let builder = Hub::builder(
        1,
        Settings::sample(),
        Arc::clone(&namespaces),
        Arc::clone(metrics),
        Arc::new(Tracing::off()),
    )
    .unwrap();
    let (metrics, bounds) = (Arc::clone(metrics), Bounds::default());
    let broker = Memory::new(namespaces, builder.sink(), metrics, bounds);
    builder.start(HubParts::new(Arc::new(broker))).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channel_whose_edge_found_no_room_is_reported_by_comparison() {
    let metrics = Metrics::new("test");
    let (edges, receiver) = channel_of_edges(&EventKind::ALL, &metrics);
    let hub = hub(&metrics);
    for _ in 0..super::edges::QUEUED {
        edges.occupancy(&channel("room:1"), true);
    }
    // This edge is lost, but the channel is occupied.
    let lost = channel("room:2");
    let pattern = ChannelPattern::Exact(lost.clone());
    hub.routes().add(&pattern, 0).joined();
    edges.occupancy(&lost, true);
    let settings = WebhooksSettings {
        webhooks: vec![WebhookSettings {
            url: "http://127.0.0.1:9/".to_owned(),
            secret: None,
            events: EventKind::ALL.to_vec(),
            queue_bytes: 1 << 20,
            dead_letter_bytes: 0,
            batch_events: 10,
            timeout: Duration::from_secs(1),
            retry_for: Duration::from_hours(1),
            retry_pause: Duration::from_secs(60),
        }],
        path: None,
        synced: false,
        node: "test".to_owned(),
    };
    let parts = WebhooksParts {
        hub: Arc::clone(&hub),
        cluster: Arc::new(Local::new(Arc::clone(&hub))),
        occupancy: None,
        edges: receiver,
    };
    let webhooks = Webhooks::start(&settings, parts).unwrap();
    let queue = &webhooks.webhooks[0].queue;
    let mut pause = tokio::time::interval(Duration::from_millis(10));
    let reported = async {
        loop {
            let entries = queue.head(100, 1 << 20).unwrap();
            let events = entries.iter().map(|(_, event)| {
                let event: serde_json::Value = serde_json::from_slice(event).unwrap();
                format!("{} {}", event["type"], event["subject"])
            });
            let events: Vec<String> = events.collect();
            let all = [
                r#""channel.occupied" "room:1""#,
                r#""channel.occupied" "room:2""#,
                r#""channel.vacated" "room:1""#,
            ];
            if all
                .iter()
                .all(|event| events.contains(&(*event).to_owned()))
            {
                return events;
            }
            pause.tick().await;
        }
    };
    let reported = crate::clock::timeout(Duration::from_secs(10), reported).await;
    assert_eq!(reported.unwrap().len(), 3);
    assert_eq!(webhooks.status()[0].state, "retrying");
    hub.stop();
}
