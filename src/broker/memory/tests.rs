//! Tests of the memory limit. All other behaviour is covered by the contract suite.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::broker::contract::{Recorder, draft, namespaces};
use crate::event::{Audience, Payload};
use crate::telemetry::TextFormat;

/// A broker with a budget of this many bytes, and the sink of its events.
struct World {
    memory: Memory,
    metrics: Arc<Metrics>,
    sink: Arc<Recorder>,
}

fn world(memory_bytes: usize) -> World {
    let sink = Arc::new(Recorder::default());
    let shared: Arc<dyn Sink> = Arc::<Recorder>::clone(&sink);
    let metrics = Metrics::new("test");
    let bounds = Bounds {
        memory_bytes,
        ..Bounds::default()
    };
    let weak = Arc::downgrade(&shared);
    World {
        memory: Memory::new(namespaces(), weak, Arc::clone(&metrics), bounds),
        metrics,
        sink,
    }
}

impl World {
    fn publish(&self, channel: &str, bytes: usize) -> Result<Receipt> {
        let data = Bytes::from(vec![b'1'; bytes]);
        let draft = Draft {
            payload: Payload::new(data, "text/plain").unwrap(),
            ..draft(channel, 0, None)
        };
        let published = self.memory.publish_now(draft);
        // The test's own sink would keep evicted events alive.
        self.sink.events.lock().unwrap().clear();
        published
    }

    fn page(&self, channel: &str) -> Page {
        let channel = ChannelName::new(channel).unwrap();
        let page = self.memory.read_now(&channel, Range::all(100_000));
        page.unwrap().expect("history")
    }

    /// The usage according to the metrics, and the actual one.
    fn held(&self) -> (usize, usize) {
        let reported = self.metric("tidings_history_memory_bytes");
        let each = |stripe: &Mutex<Stripe>| {
            let stripe = stripe.lock().unwrap();
            let bytes = |(name, kept): (&ChannelName, &Channel)| {
                let page = kept.page(Range::all(usize::MAX));
                let events = page.events.iter().map(|event| channel::weight(event));
                Channel::own_bytes(name) + events.sum::<usize>()
            };
            stripe.channels.iter().map(bytes).sum::<usize>()
        };
        let real = self.memory.stripes.iter().map(each).sum();
        (usize::try_from(reported).unwrap(), real)
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.text(TextFormat::Prometheus);
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let value = line.and_then(|line| line.split(' ').next_back()).unwrap();
        // A gauge is formatted as a float.
        value.split('.').next().unwrap().parse().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn flood_evicts_its_own_channels_only() {
    let world = world(1 << 20);
    for n in 0..5 {
        world.publish("kept:quiet", 100 + n).unwrap();
    }
    let position = world.page("kept:quiet").top;
    for n in 0..200 {
        world
            .publish(&format!("brief:flood-{}", n % 7), 50_000)
            .unwrap();
        let (reported, real) = world.held();
        assert_eq!(reported, real);
        assert!(reported <= 1 << 20, "{reported} after {n}");
    }
    let quiet = world.page("kept:quiet");
    assert_eq!((quiet.events.len(), quiet.top), (5, position));
    let evicted = world.metric("tidings_history_evicted_total{reason=\"memory\"}");
    assert!(evicted >= 150, "{evicted}");
}

#[tokio::test(start_paused = true)]
async fn evicted_position_cannot_be_resumed() {
    let world = world(300_000);
    let first = world.publish("brief:a", 50_000).unwrap().position.unwrap();
    let mut newest = first;
    for _ in 0..20 {
        newest = world.publish("brief:a", 50_000).unwrap().position.unwrap();
    }
    let page = world.page("brief:a");
    assert!(!page.covers(first) && page.covers(newest));
    assert_eq!(page.top, newest, "the numbering goes on");
    assert!(page.oldest > first.offset + 1);
    let offsets: Vec<u64> = page
        .events
        .iter()
        .map(|e| e.position.unwrap().offset)
        .collect();
    assert_eq!(offsets, (page.oldest..=newest.offset).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn small_events_are_evicted_for_large_one() {
    let world = world(200_000);
    for _ in 0..900 {
        world.publish("brief:small", 1).unwrap();
    }
    world.publish("kept:large", 40_000).unwrap();
    let (reported, real) = world.held();
    assert!(reported <= 200_000 && reported == real, "{reported} {real}");
    assert_eq!(world.page("kept:large").events.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn audiences_count_in_history() {
    let world = world(1 << 20);
    let users = (0..1000).map(|n| Arc::from(format!("{n:060}"))).collect();
    let audience = Arc::new(Audience {
        users,
        ..Audience::default()
    });
    for _ in 0..100 {
        let draft = Draft {
            audience: Some(Arc::clone(&audience)),
            ..draft("brief:a", 0, None)
        };
        world.memory.publish_now(draft).unwrap();
    }
    let kept = world.page("brief:a").events.len();
    assert!(kept * 60_000 <= 1 << 20, "{kept}");
}

#[tokio::test(start_paused = true)]
async fn empty_channels_count_towards_limit() {
    let world = world(100_000);
    let made = (0..10_000)
        .take_while(|n| world.publish(&format!("kept:{n}"), 1).is_ok())
        .count();
    assert!((50..1000).contains(&made), "{made}");
    let (reported, real) = world.held();
    assert!(reported <= 100_000 && reported == real, "{reported} {real}");
    let refused = world.publish("kept:more", 1).unwrap_err();
    assert!(
        refused.message().contains("history.memory_bytes"),
        "{refused}"
    );
    // Existing channels still accept events.
    assert!(world.publish("kept:0", 1).is_ok());
    tokio::time::advance(Duration::from_hours(2)).await;
    for _ in 0..8 {
        world.memory.sweep();
    }
    assert_eq!(world.held(), (0, 0));
    assert!(world.publish("kept:more", 1).is_ok());
}

#[tokio::test(start_paused = true)]
async fn concurrent_publishers_stay_within_limit() {
    let world = Arc::new(world(1 << 20));
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let world = Arc::clone(&world);
            let runtime = tokio::runtime::Handle::current();
            std::thread::spawn(move || {
                let _entered = runtime.enter();
                for n in 0..300 {
                    let channel = format!("brief:{}", (thread + n) % 11);
                    world.publish(&channel, 1000 * (n % 20)).unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    world.memory.sweep();
    let (reported, real) = world.held();
    assert!(reported <= 1 << 20 && reported == real, "{reported} {real}");
}
