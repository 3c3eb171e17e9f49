//! What every broker must do: one suite that each of them passes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::{Bounds, Broker, Memory, Page, Range, Receipt, Sink};
use crate::event::{
    ChannelName, Draft, Event, EventType, Headers, HistoryPolicy, Namespace, Namespaces, Payload,
    Position, Timestamp,
};
use crate::telemetry::{FanoutSpan, Metrics};

/// A sink that remembers what it was given.
#[derive(Default)]
struct Recorder {
    events: Mutex<Vec<Arc<Event>>>,
    followed: AtomicBool,
}

impl Sink for Recorder {
    fn deliver(&self, event: Arc<Event>, _: Option<FanoutSpan>) -> u64 {
        self.events.lock().unwrap().push(event);
        3
    }

    fn is_followed(&self, _: &ChannelName) -> bool {
        self.followed.load(Ordering::Relaxed)
    }
}

/// A broker with its sink. `kept` keeps five events for an hour, `brief` any number for a minute,
/// `small` 2,000 bytes; other namespaces keep nothing.
struct Subject {
    broker: Box<dyn Broker>,
    sink: Arc<Recorder>,
}

fn namespaces() -> Arc<ArcSwap<Namespaces>> {
    let hour = Duration::from_hours(1);
    let policy = |name: &str, size, ttl, bytes| Namespace {
        history: HistoryPolicy { size, ttl, bytes },
        max_idle: Duration::from_mins(10),
        ..Namespace::named(name)
    };
    Arc::new(ArcSwap::from_pointee(Namespaces::new([
        policy("kept", 5, hour, usize::MAX),
        policy("brief", 1000, Duration::from_mins(1), usize::MAX),
        policy("small", 1000, hour, 2000),
    ])))
}

fn memory() -> Subject {
    let sink = Arc::new(Recorder::default());
    let shared: Arc<dyn Sink> = Arc::<Recorder>::clone(&sink);
    let weak: Weak<dyn Sink> = Arc::downgrade(&shared);
    let bounds = Bounds {
        channels: 100,
        keys: 3,
    };
    let broker = Memory::new(namespaces(), weak, Metrics::new("test"), bounds);
    Subject {
        broker: Box::new(broker),
        sink,
    }
}

fn draft(channel: &str, n: usize, key: Option<&str>) -> Draft {
    let now = Timestamp::now();
    Draft {
        id: Draft::new_id(now),
        channel: Some(ChannelName::new(channel).unwrap()),
        event_type: EventType::new("tick").unwrap(),
        payload: Payload::new(Bytes::from(n.to_string()), "").unwrap(),
        headers: Headers::default(),
        key: None,
        idempotency_key: key.map(Arc::from),
        audience: None,
        source: None,
        time: now,
        trace: None,
        accepted: Instant::now(),
    }
}

impl Subject {
    async fn publish(&self, channel: &str, n: usize) -> Receipt {
        self.broker
            .publish(draft(channel, n, None), None)
            .await
            .unwrap()
    }

    async fn read(&self, channel: &str, range: Range) -> Page {
        let channel = ChannelName::new(channel).unwrap();
        self.broker
            .read(&channel, range)
            .await
            .unwrap()
            .expect("history")
    }

    async fn offsets(&self, channel: &str, range: Range) -> Vec<u64> {
        offsets(&self.read(channel, range).await)
    }

    /// Enough sweeps for everything to have been looked at.
    fn sweep(&self) {
        for _ in 0..8 {
            self.broker.sweep();
        }
    }
}

fn offsets(page: &Page) -> Vec<u64> {
    page.events
        .iter()
        .map(|event| event.position.unwrap().offset)
        .collect()
}

async fn numbers_from_one_in_each_channel(subject: &Subject) {
    for n in 1..=3 {
        let a = subject.publish("kept:a", 0).await.position.unwrap();
        let b = subject.publish("kept:b", 0).await.position.unwrap();
        assert_eq!((a.offset, b.offset), (n, n));
        assert_ne!(a.epoch, b.epoch);
    }
}

async fn delivers_in_order_and_with_the_place_it_answers(subject: &Subject) {
    let mut places = Vec::new();
    for n in 0..20 {
        let receipt = subject.publish("kept:a", n).await;
        assert_eq!((receipt.subscribers, receipt.duplicate), (3, false));
        places.push(receipt.position);
    }
    let delivered: Vec<Option<Position>> = subject
        .sink
        .events
        .lock()
        .unwrap()
        .iter()
        .map(|event| event.position)
        .collect();
    assert_eq!(delivered, places);
}

async fn keeps_no_more_than_it_should(subject: &Subject) {
    for n in 0..12 {
        subject.publish("kept:a", n).await;
        subject.publish("small:a", n).await;
    }
    let page = subject.read("kept:a", Range::all(100)).await;
    assert_eq!(offsets(&page), [8, 9, 10, 11, 12]);
    assert_eq!((page.oldest, page.top.offset, page.more), (8, 12, false));
    let page = subject.read("small:a", Range::all(100)).await;
    let weight: usize = page.events.iter().map(|event| event.weight()).sum();
    assert!(weight <= 2000 && !page.events.is_empty(), "{weight}");
    assert_eq!(page.events.last().unwrap().position.unwrap().offset, 12);
}

async fn reads_any_part_in_either_direction(subject: &Subject) {
    for n in 0..5 {
        subject.publish("kept:a", n).await;
    }
    let range = |after, until, limit, reverse| Range {
        after,
        until,
        limit,
        reverse,
    };
    assert_eq!(
        subject.offsets("kept:a", range(1, 4, 9, false)).await,
        [2, 3, 4]
    );
    assert_eq!(
        subject
            .offsets("kept:a", range(0, u64::MAX, 2, false))
            .await,
        [1, 2]
    );
    assert_eq!(
        subject.offsets("kept:a", range(0, u64::MAX, 2, true)).await,
        [5, 4]
    );
    assert_eq!(
        subject.offsets("kept:a", range(0, 3, 9, true)).await,
        [3, 2, 1]
    );
    assert_eq!(
        subject
            .offsets("kept:a", range(5, u64::MAX, 9, false))
            .await,
        [0_u64; 0]
    );
    assert_eq!(
        subject
            .offsets("kept:a", range(u64::MAX - 1, u64::MAX, 9, false))
            .await,
        [0_u64; 0]
    );
    assert!(subject.read("kept:a", range(0, 3, 2, false)).await.more);
    assert!(!subject.read("kept:a", range(0, 3, 3, false)).await.more);
}

async fn says_what_can_be_resumed_from(subject: &Subject) {
    let start = subject.read("kept:a", Range::all(0)).await.top;
    assert_eq!(start.offset, 0);
    for n in 0..7 {
        subject.publish("kept:a", n).await;
    }
    let page = subject.read("kept:a", Range::all(0)).await;
    let at = |offset| Position { offset, ..page.top };
    assert_eq!(
        page.top.epoch, start.epoch,
        "the numbering began with the first look"
    );
    assert!(
        page.covers(at(7)) && page.covers(at(2)),
        "events 3 to 7 are kept"
    );
    assert!(!page.covers(at(1)), "event 2 is gone");
    assert!(!page.covers(at(8)), "that is yet to come");
    let foreign = subject.publish("kept:b", 0).await.position.unwrap().epoch;
    assert!(!page.covers(Position {
        epoch: foreign,
        offset: 7
    }));
}

async fn keeps_nothing_where_nothing_is_to_be_kept(subject: &Subject) {
    let receipt = subject.publish("plain:a", 1).await;
    assert_eq!((receipt.position, receipt.subscribers), (None, 3));
    let channel = ChannelName::new("plain:a").unwrap();
    let page = subject.broker.read(&channel, Range::all(1)).await.unwrap();
    assert!(page.is_none());
}

async fn answers_a_repeat_with_the_first_place(subject: &Subject) {
    for channel in ["kept:a", "plain:a"] {
        let publish = |key| subject.broker.publish(draft(channel, 1, Some(key)), None);
        let first = publish("k").await.unwrap();
        let again = publish("k").await.unwrap();
        assert_eq!(
            (again.id, again.position, again.duplicate),
            (first.id, first.position, true)
        );
    }
    let events = subject.sink.events.lock().unwrap().len();
    assert_eq!(events, 2, "a repeat is delivered to nobody");
}

async fn lists_channels_by_name(subject: &Subject) {
    for name in ["kept:b", "kept:a", "brief:a", "plain:a"] {
        subject.publish(name, 0).await;
    }
    let list = async |prefix: &str, after: &str, limit| {
        let kept = subject.broker.list(prefix, after, limit).await.unwrap();
        kept.iter()
            .map(|kept| kept.channel.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(list("", "", 9).await, ["brief:a", "kept:a", "kept:b"]);
    assert_eq!(list("kept", "", 9).await, ["kept:a", "kept:b"]);
    assert_eq!(list("kept", "kept:a", 9).await, ["kept:b"]);
    assert_eq!(list("", "", 1).await, ["brief:a"]);
}

async fn lets_go_of_what_has_expired(subject: &Subject) {
    subject.publish("brief:a", 0).await;
    tokio::time::advance(Duration::from_secs(30)).await;
    subject.publish("brief:a", 1).await;
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(subject.offsets("brief:a", Range::all(9)).await, [2]);
    tokio::time::advance(Duration::from_secs(31)).await;
    let page = subject.read("brief:a", Range::all(9)).await;
    assert_eq!(
        (offsets(&page).len(), page.oldest, page.top.offset),
        (0, 3, 2)
    );
    assert!(
        page.covers(page.top),
        "whoever has seen everything has missed nothing"
    );
}

async fn forgets_an_idle_channel_but_never_a_followed_one(subject: &Subject) {
    let before = subject.publish("brief:a", 0).await.position.unwrap();
    subject.sink.followed.store(true, Ordering::Relaxed);
    tokio::time::advance(Duration::from_hours(1)).await;
    subject.sweep();
    let kept = subject.read("brief:a", Range::all(0)).await.top;
    assert_eq!(kept, before, "followed");
    subject.sink.followed.store(false, Ordering::Relaxed);
    tokio::time::advance(Duration::from_hours(1)).await;
    subject.sweep();
    let fresh = subject.read("brief:a", Range::all(0)).await.top;
    assert_eq!(fresh.offset, 0);
    assert_ne!(
        fresh.epoch, before.epoch,
        "an old position is never taken for one of the new epoch"
    );
}

async fn bounds_keys_and_channels(subject: &Subject) {
    let publish = |n: usize| {
        let key = n.to_string();
        subject
            .broker
            .publish(draft("plain:a", 1, Some(&key)), None)
    };
    for n in 0..3 {
        publish(n).await.unwrap();
    }
    let refused = publish(3).await.unwrap_err();
    assert_eq!(refused.code(), crate::error::Code::ResourceExhausted);
    assert!(refused.retry_delay().is_some());
    tokio::time::advance(Duration::from_mins(5)).await;
    subject.sweep();
    assert!(
        !publish(0).await.unwrap().duplicate,
        "forgotten after five minutes"
    );
    for n in 0..100 {
        subject.publish(&format!("kept:{n}"), 0).await;
    }
    let one_more = subject
        .broker
        .publish(draft("kept:more", 0, None), None)
        .await;
    assert_eq!(
        one_more.unwrap_err().code(),
        crate::error::Code::ResourceExhausted
    );
}

async fn knows_what_it_keeps(subject: &Subject) {
    let is_known = |channel: &str| {
        let channel = ChannelName::new(channel).unwrap();
        subject.broker.is_known(&channel)
    };
    for channel in ["kept:published", "kept:read"] {
        assert!(!is_known(channel), "{channel}");
    }
    subject.publish("kept:published", 0).await;
    subject.read("kept:read", Range::all(0)).await;
    for channel in ["kept:published", "kept:read"] {
        assert!(is_known(channel), "{channel}");
    }
    assert!(
        is_known("other:1"),
        "nothing is ever brought into being there"
    );
}

/// Runs every rule against a fresh subject each.
macro_rules! every_rule {
    ($make:ident: $($rule:ident)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $rule() {
            super::$rule(&super::$make()).await;
        }
    )*};
}

mod memory_broker {
    every_rule! { memory:
        numbers_from_one_in_each_channel
        delivers_in_order_and_with_the_place_it_answers
        keeps_no_more_than_it_should
        reads_any_part_in_either_direction
        says_what_can_be_resumed_from
        keeps_nothing_where_nothing_is_to_be_kept
        answers_a_repeat_with_the_first_place
        lists_channels_by_name
        lets_go_of_what_has_expired
        forgets_an_idle_channel_but_never_a_followed_one
        bounds_keys_and_channels
        knows_what_it_keeps
    }
}
