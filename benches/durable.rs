//! Measures how fast the store on disk accepts durable events, compared to the device itself, and
//! how long it takes to open a store with 100,000 channels.
//!
//! `cargo run --release --features durable --bin durable -- DIRECTORY`
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a measuring program ends where something fails"
)]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tidings::broker::{Bounds, Broker, Disk, DiskSettings, Durability, OnDamage, Range, Sink};
use tidings::event::{
    AcceptedAt, ChannelName, Draft, Event, EventType, Headers, HistoryPolicy, Namespace,
    Namespaces, Payload, Timestamp,
};
use tidings::telemetry::{Metrics, Tracing};
use tokio::task::JoinSet;

/// The duration of a measurement with one number of publishers.
const WATCHED: Duration = Duration::from_secs(3);
/// The channels of the store that is opened.
const CHANNELS: usize = 100_000;
/// Bytes of data in each event.
const DATA: usize = 200;

/// A sink that discards events.
struct Nobody;

impl Sink for Nobody {
    fn deliver(&self, _: Arc<Event>) -> u64 {
        0
    }

    fn lagged(&self, _: Option<&ChannelName>) {}

    fn is_followed(&self, _: &ChannelName) -> bool {
        true
    }

    fn subscribers(&self, _: &Draft) -> u64 {
        0
    }
}

fn main() {
    let directory = std::env::args_os().nth(1).unwrap_or_else(|| ".".into());
    let directory = Path::new(&directory).join("durable-store");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    std::fs::create_dir_all(&directory).unwrap();
    println!("device: {:.0} syncs/s", device(&directory));
    runtime.block_on(publishing(&directory));
    runtime.block_on(opening(&directory));
    std::fs::remove_dir_all(&directory).unwrap();
}

/// How many small writes per second the device does, each with its own sync.
fn device(directory: &Path) -> f64 {
    let path = directory.join("device");
    let mut file = File::create(&path).unwrap();
    file.set_len(64 << 20).unwrap();
    file.sync_all().unwrap();
    let (start, mut syncs) = (Instant::now(), 0_u64);
    while start.elapsed() < WATCHED {
        file.write_all(&[7; DATA + 300]).unwrap();
        file.sync_data().unwrap();
        syncs += 1;
    }
    std::fs::remove_file(path).unwrap();
    syncs as f64 / start.elapsed().as_secs_f64()
}

fn open(directory: &Path, sink: &Arc<dyn Sink>) -> Arc<Disk> {
    let history = HistoryPolicy {
        size: 1000,
        ttl: Duration::from_hours(1),
        bytes: usize::MAX,
    };
    let namespaces = Namespaces::new([Namespace {
        history,
        ..Namespace::named("room")
    }]);
    let settings = DiskSettings {
        path: directory.join("store"),
        durability: Durability::Fsync,
        on_damage: OnDamage::Refuse,
        cache_bytes: 64 << 20,
        disk_bytes: 0,
        bounds: Bounds::default(),
    };
    let sink: Weak<dyn Sink> = Arc::downgrade(sink);
    let namespaces = Arc::new(ArcSwap::from_pointee(namespaces));
    let (metrics, tracing) = (Metrics::new("bench"), Arc::new(Tracing::off()));
    Arc::new(Disk::open(namespaces, sink, metrics, tracing, settings).unwrap())
}

fn draft(channel: &str) -> Draft {
    let now = Timestamp::now();
    let data = format!("\"{}\"", "x".repeat(DATA));
    Draft {
        id: Draft::new_id(now),
        channel: Some(ChannelName::new(channel).unwrap()),
        event_type: EventType::new("tick").unwrap(),
        payload: Payload::new(Bytes::from(data), "").unwrap(),
        headers: Headers::default(),
        key: None,
        idempotency_key: None,
        audience: None,
        source: None,
        time: now,
        trace: None,
        accepted: AcceptedAt::now(),
    }
}

async fn publishing(directory: &Path) {
    let sink: Arc<dyn Sink> = Arc::new(Nobody);
    for publishers in [1_usize, 10, 100, 1000] {
        let disk = open(directory, &sink);
        let (published, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let mut tasks = JoinSet::new();
        for publisher in 0..publishers {
            let (disk, published) = (Arc::clone(&disk), Arc::clone(&published));
            tasks.spawn(async move {
                let channel = format!("room:{}", publisher % 10);
                while start.elapsed() < WATCHED {
                    disk.publish(draft(&channel)).await.unwrap();
                    published.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        tasks.join_all().await;
        let rate = published.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
        println!("{publishers} publishers: {rate:.0} durable events/s");
    }
}

async fn opening(directory: &Path) {
    let sink: Arc<dyn Sink> = Arc::new(Nobody);
    let disk = open(directory, &sink);
    let start = Instant::now();
    for first in (0..CHANNELS).step_by(1000) {
        let mut tasks = JoinSet::new();
        for n in first..first + 1000 {
            let disk = Arc::clone(&disk);
            tasks.spawn(async move {
                let channel = format!("room:many-{n}");
                disk.publish(draft(&channel)).await.unwrap();
            });
        }
        tasks.join_all().await;
    }
    println!("{CHANNELS} channels made in {:?}", start.elapsed());
    drop(disk);
    let start = Instant::now();
    let disk = open(directory, &sink);
    println!("opened in {:?}", start.elapsed());
    let start = Instant::now();
    let channel = ChannelName::new("room:many-4711").unwrap();
    let page = disk.read(&channel, Range::all(10)).await.unwrap().unwrap();
    assert_eq!(page.events.len(), 1);
    println!("the first read took {:?}", start.elapsed());
}
