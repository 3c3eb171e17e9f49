//! The brokers that the contract suite tests, and helpers to call them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::broker::disk::tests::TestDisk;
use crate::broker::nats::fixture::TestNats;
use crate::broker::redis::tests::TestRedis;
use crate::broker::{Bounds, Broker, Memory, Page, Range, Receipt, Sink};
use crate::event::{
    AcceptedAt, ChannelName, Draft, Event, EventType, Headers, HistoryPolicy, IdempotencyKey,
    Namespace, Namespaces, Payload, Timestamp,
};
use crate::telemetry::Metrics;

/// A sink that records delivered events.
#[derive(Default)]
pub(in crate::broker) struct Recorder {
    pub(in crate::broker) events: Mutex<Vec<Arc<Event>>>,
    pub(in crate::broker) followed: AtomicBool,
    /// How often it was told that events may have been lost.
    pub(in crate::broker) lagged: AtomicUsize,
}

impl Sink for Recorder {
    fn deliver(&self, event: Arc<Event>) -> u64 {
        self.events.lock().unwrap().push(event);
        3
    }

    fn lagged(&self, _: Option<&ChannelName>) {
        self.lagged.fetch_add(1, Ordering::Relaxed);
    }

    fn is_followed(&self, _: &ChannelName) -> bool {
        self.followed.load(Ordering::Relaxed)
    }

    fn subscribers(&self, _: &Draft) -> u64 {
        3
    }
}

/// A broker with its sink. `kept` keeps five events for an hour, `brief` any number for a minute,
/// `small` 2,000 bytes; other namespaces keep nothing.
pub(super) struct Subject {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) sink: Arc<Recorder>,
    namespaces: Arc<ArcSwap<Namespaces>>,
    disk: Option<TestDisk>,
    nats: Option<TestNats>,
    redis: Option<TestRedis>,
}

pub(in crate::broker) fn namespaces() -> Arc<ArcSwap<Namespaces>> {
    Arc::new(ArcSwap::from_pointee(keeping(5)))
}

/// The namespaces, with this many events for each channel of `kept`.
fn keeping(size: usize) -> Namespaces {
    let hour = Duration::from_hours(1);
    let policy = |name: &str, size, ttl, bytes| Namespace {
        history: HistoryPolicy { size, ttl, bytes },
        max_idle: Duration::from_mins(10),
        ..Namespace::named(name)
    };
    Namespaces::new([
        policy("kept", size, hour, usize::MAX),
        policy("brief", 1000, Duration::from_mins(1), usize::MAX),
        policy("small", 1000, hour, 2000),
    ])
}

pub(super) fn memory() -> Subject {
    let sink = Arc::new(Recorder::default());
    let shared: Arc<dyn Sink> = Arc::<Recorder>::clone(&sink);
    let weak: Weak<dyn Sink> = Arc::downgrade(&shared);
    let bounds = Bounds {
        channels: 100,
        keys: 48,
        keys_per_publisher: 3,
        ..Bounds::default()
    };
    let namespaces = namespaces();
    let broker = Memory::new(Arc::clone(&namespaces), weak, Metrics::new("test"), bounds);
    Subject {
        broker: Arc::new(broker),
        sink,
        namespaces,
        disk: None,
        nats: None,
        redis: None,
    }
}

pub(super) fn disk() -> Subject {
    let bounds = Bounds {
        channels: 100,
        keys: 48,
        keys_per_publisher: 3,
        ..Bounds::default()
    };
    let disk = TestDisk::new(bounds);
    Subject {
        broker: disk.broker(),
        sink: Arc::clone(&disk.sink),
        namespaces: Arc::clone(&disk.namespaces),
        disk: Some(disk),
        nats: None,
        redis: None,
    }
}

pub(super) async fn nats() -> Subject {
    let bounds = Bounds {
        channels: 100,
        keys: 48,
        keys_per_publisher: 3,
        ..Bounds::default()
    };
    let nats = TestNats::new(bounds).await;
    Subject {
        broker: nats.broker(),
        sink: Arc::clone(&nats.sink),
        namespaces: Arc::clone(&nats.namespaces),
        disk: None,
        nats: Some(nats),
        redis: None,
    }
}

pub(super) async fn redis() -> Subject {
    let bounds = Bounds {
        channels: 100,
        keys: 48,
        keys_per_publisher: 3,
        ..Bounds::default()
    };
    let redis = TestRedis::shared(bounds).await;
    Subject {
        broker: redis.broker(),
        sink: Arc::clone(&redis.sink),
        namespaces: Arc::clone(&redis.namespaces),
        disk: None,
        nats: None,
        redis: Some(redis),
    }
}

pub(in crate::broker) fn draft(channel: &str, n: usize, key: Option<&str>) -> Draft {
    let now = Timestamp::now();
    Draft {
        id: Draft::new_id(now),
        channel: Some(ChannelName::new(channel).unwrap()),
        event_type: EventType::new("tick").unwrap(),
        payload: Payload::new(Bytes::from(n.to_string()), "").unwrap(),
        headers: Headers::default(),
        key: None,
        idempotency_key: key.map(|key| keyed("s:test", key)),
        audience: None,
        source: None,
        time: now,
        trace: None,
        accepted: AcceptedAt::now(),
    }
}

/// A publisher's key.
pub(in crate::broker) fn keyed(publisher: &str, key: &str) -> Arc<IdempotencyKey> {
    Arc::new(IdempotencyKey {
        publisher: publisher.into(),
        key: key.into(),
    })
}

impl Subject {
    pub(super) async fn publish(&self, channel: &str, n: usize) -> Receipt {
        self.broker.publish(draft(channel, n, None)).await.unwrap()
    }

    pub(super) async fn read(&self, channel: &str, range: Range) -> Page {
        let channel = ChannelName::new(channel).unwrap();
        self.broker
            .read(&channel, range)
            .await
            .unwrap()
            .expect("history")
    }

    pub(super) async fn offsets(&self, channel: &str, range: Range) -> Vec<u64> {
        offsets(&self.read(channel, range).await)
    }

    /// What was delivered. An engine delivers after it has answered.
    pub(super) async fn events(&self) -> Vec<Arc<Event>> {
        if let Some(redis) = &self.redis {
            redis.settle().await;
        }
        self.sink.events.lock().unwrap().clone()
    }

    /// Simulates a reload that lets `kept` keep this many events.
    pub(super) fn keep(&self, size: usize) {
        self.namespaces.store(Arc::new(keeping(size)));
    }

    /// Enough sweeps to visit everything.
    pub(super) async fn sweep(&self) {
        for _ in 0..8 {
            self.broker.sweep();
            if let Some(disk) = &self.disk {
                disk.settle().await;
            }
            if let Some(nats) = &self.nats {
                nats.settle().await;
            }
        }
    }

    /// Advances the time.
    pub(super) async fn advance(&self, by: Duration) {
        match (&self.disk, &self.nats, &self.redis) {
            (Some(disk), _, _) => disk.advance(by),
            (None, Some(nats), _) => nats.advance(by),
            (None, None, Some(redis)) => redis.advance(by).await,
            (None, None, None) => tokio::time::advance(by).await,
        }
    }
}

pub(super) fn offsets(page: &Page) -> Vec<u64> {
    page.events
        .iter()
        .map(|event| event.position.unwrap().offset)
        .collect()
}
