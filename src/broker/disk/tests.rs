//! Tests of what is specific to the store on disk. All other behaviour is covered by the contract
//! suite.

mod backup;
mod bytes;
mod clocks;
mod damage;
mod revocations;
mod small_files;

use tempfile::TempDir;

use super::record::KeyRecord;
use super::*;
use crate::broker::contract::{Recorder, draft, keyed, namespaces};
use crate::broker::keys::{KEY_TTL, KeyShares};

/// A broker in its own directory, which can be closed and reopened.
pub(in crate::broker) struct TestDisk {
    pub(in crate::broker) sink: Arc<Recorder>,
    pub(super) metrics: Arc<Metrics>,
    disk: Arc<Disk>,
    pub(in crate::broker) namespaces: Arc<ArcSwap<Namespaces>>,
    clock: Clock,
    dir: Arc<TempDir>,
    settings: DiskSettings,
}

impl TestDisk {
    pub(in crate::broker) fn new(bounds: Bounds) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let settings = DiskSettings {
            path: dir.path().join("store"),
            durability: Durability::Fsync,
            on_damage: OnDamage::Refuse,
            cache_bytes: 1 << 20,
            disk_bytes: 0,
            bounds,
        };
        Self::open(dir, settings, Clock::default()).unwrap()
    }

    fn open(
        dir: Arc<TempDir>,
        settings: DiskSettings,
        clock: Clock,
    ) -> std::result::Result<Self, OpenError> {
        let sink = Arc::new(Recorder::default());
        let shared: Arc<dyn Sink> = Arc::<Recorder>::clone(&sink);
        let metrics = Metrics::new("test");
        let namespaces = namespaces();
        let disk = Disk::open_at(
            Arc::clone(&namespaces),
            Arc::downgrade(&shared),
            Arc::clone(&metrics),
            Arc::default(),
            settings.clone(),
            clock.clone(),
        )?;
        Ok(TestDisk {
            sink,
            metrics,
            disk: Arc::new(disk),
            namespaces,
            clock,
            dir,
            settings,
        })
    }

    pub(in crate::broker) fn broker(&self) -> Arc<dyn Broker> {
        Arc::<Disk>::clone(&self.disk)
    }

    pub(in crate::broker) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub(in crate::broker) async fn settle(&self) {
        self.disk.settle().await;
    }
}

fn bounds() -> Bounds {
    Bounds {
        channels: 1000,
        keys: 1000,
        keys_per_publisher: 100,
        ..Bounds::default()
    }
}

impl TestDisk {
    /// Closes and reopens the store.
    fn reopen(self) -> Self {
        self.try_reopen().unwrap()
    }

    fn try_reopen(self) -> std::result::Result<Self, OpenError> {
        let (dir, settings, clock) = (Arc::clone(&self.dir), self.settings.clone(), self.clock);
        self.disk.close();
        drop(self.disk);
        Self::open(dir, settings, clock)
    }

    async fn publish(&self, channel: &str, n: usize) -> Receipt {
        let event = draft(channel, n, None);
        self.disk.publish(event).await.unwrap()
    }

    async fn page(&self, channel: &str) -> Page {
        let channel = ChannelName::new(channel).unwrap();
        let page = self.disk.read(&channel, Range::all(1000)).await.unwrap();
        page.expect("history")
    }

    async fn offsets(&self, channel: &str) -> Vec<u64> {
        let page = self.page(channel).await;
        let positions = page.events.iter().map(|event| event.position.unwrap());
        positions.map(|position| position.offset).collect()
    }

    /// Makes the store fail, and waits until it works again.
    async fn fail(&self) {
        let (answer, failed) = queue::Answer::new();
        assert!(
            self.disk
                .shared
                .queue
                .push(Share::OWN, Op::Fail(answer))
                .is_ok()
        );
        failed.await.unwrap().unwrap();
        assert!(!self.disk.is_available());
        while !self.disk.is_available() {
            tokio::task::yield_now().await;
        }
    }

    fn store(&self) -> Arc<Store> {
        self.disk.shared.store.load_full().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.settings.path.join(name)
    }
}

#[tokio::test]
async fn closed_store_is_reopened_complete() {
    let disk = TestDisk::new(bounds());
    for n in 0..8 {
        disk.publish("kept:a", n).await;
    }
    let first = disk.disk.publish(draft("kept:b", 0, Some("k")));
    let first = first.await.unwrap();
    let before = disk.page("kept:a").await;

    let disk = disk.reopen();
    let after = disk.page("kept:a").await;
    assert_eq!((after.top, after.oldest), (before.top, 4));
    assert_eq!(disk.offsets("kept:a").await, [4, 5, 6, 7, 8]);
    let again = disk.disk.publish(draft("kept:b", 1, Some("k")));
    let again = again.await.unwrap();
    assert_eq!(
        (again.id, again.position, again.duplicate),
        (first.id, first.position, true)
    );
    assert_eq!(disk.publish("kept:a", 9).await.position.unwrap().offset, 9);
    assert_eq!(disk.disk.list("", "", 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn key_shares_are_restored_on_open() {
    let mut disk = TestDisk::new(bounds());
    disk.settings.bounds.keys_per_publisher = 2;
    let disk = disk.reopen();
    let publish = async |disk: &TestDisk, publisher: &str, key: &str| {
        let event = Draft {
            idempotency_key: Some(keyed(publisher, key)),
            ..draft("kept:a", 0, None)
        };
        disk.disk.publish(event).await
    };
    let first = publish(&disk, "u:evil", "a").await.unwrap();
    publish(&disk, "u:evil", "b").await.unwrap();
    let disk = disk.reopen();
    assert!(publish(&disk, "u:evil", "c").await.is_err());
    let again = publish(&disk, "u:evil", "a").await.unwrap();
    assert_eq!((again.id, again.duplicate), (first.id, true));
    let other = publish(&disk, "s:shop", "a").await.unwrap();
    assert!(!other.duplicate, "whose a key is was kept");
    disk.advance(Duration::from_mins(6));
    assert!(publish(&disk, "u:evil", "c").await.is_ok(), "given back");
}

#[tokio::test]
async fn old_version_keys_match_every_publisher() {
    let disk = TestDisk::new(bounds());
    let place = disk.publish("kept:a", 0).await.position.unwrap();
    let id = uuid::Uuid::from_u128(7);
    {
        let store = disk.store();
        let era = store.manifest().unwrap().unwrap().era;
        // In the format before publishers were stored.
        let record = KeyRecord {
            channel: "kept:a".to_owned(),
            key: "k".to_owned(),
            id: id.as_bytes().to_vec(),
            epoch: place.epoch.to_bits() ^ era,
            offset: place.offset,
            publisher: String::new(),
        };
        let mut batch = store.batch();
        let expires = u64::try_from(crate::event::Timestamp::now().as_millis()).unwrap();
        batch.put_key(expires + 200_000, 1, 0, &record);
        batch.commit(store::Commit::Synced).unwrap();
    }
    let disk = disk.reopen();
    let again = disk.disk.publish(draft("kept:a", 1, Some("k"))).await;
    let again = again.unwrap();
    assert_eq!(
        (again.id, again.position, again.duplicate),
        (id, Some(place), true)
    );
    disk.advance(Duration::from_mins(6));
    let fresh = disk.disk.publish(draft("kept:a", 1, Some("k"))).await;
    assert!(!fresh.unwrap().duplicate);
}

#[tokio::test]
async fn uncached_history_is_read_from_disk() {
    let mut disk = TestDisk::new(bounds());
    disk.settings.cache_bytes = 0;
    let disk = disk.reopen();
    for n in 0..300 {
        disk.publish("brief:a", n).await;
    }
    assert_eq!(disk.offsets("brief:a").await, (1..=300).collect::<Vec<_>>());
    let channel = ChannelName::new("brief:a").unwrap();
    let newest = Range {
        reverse: true,
        ..Range::all(2)
    };
    let page = disk.disk.read(&channel, newest).await.unwrap().unwrap();
    assert_eq!(page.events.len(), 2);
    assert!(page.more);
    assert_eq!(page.events[0].position, Some(page.top));
}

#[tokio::test]
async fn retention_limits_survive_restart() {
    let disk = TestDisk::new(bounds());
    for n in 0..200 {
        disk.publish("brief:a", n).await;
        disk.publish("small:a", n).await;
    }
    disk.advance(Duration::from_secs(40));
    for n in 200..210 {
        disk.publish("brief:a", n).await;
    }
    let small = disk.offsets("small:a").await;
    disk.advance(Duration::from_secs(30));
    let disk = disk.reopen();
    assert_eq!(
        disk.offsets("brief:a").await,
        (201..=210).collect::<Vec<_>>(),
        "the rest is older than a minute"
    );
    assert_eq!(disk.offsets("small:a").await, small);
}

#[tokio::test]
async fn expired_events_are_deleted_in_steps() {
    let disk = TestDisk::new(bounds());
    for n in 0..300 {
        disk.publish("brief:a", n).await;
    }
    disk.advance(Duration::from_mins(2));
    disk.publish("brief:a", 300).await;
    for _ in 0..3 {
        disk.disk.sweep();
        disk.settle().await;
    }
    let record = disk.store().channel(&ChannelName::new("brief:a").unwrap());
    let record = record.unwrap().unwrap();
    assert_eq!((record.removed, record.now.first), (301, 301));
    let left = disk
        .store()
        .events(record.id, 0..=1000, false, 1000, 1 << 20);
    assert_eq!(left.unwrap().records.len(), 1);
}

#[tokio::test]
async fn refused_batch_on_disk_is_reverted() {
    let disk = TestDisk::new(bounds());
    disk.publish("kept:a", 0).await;
    let kept = disk.page("kept:a").await.top;
    disk.disk
        .publish(draft("kept:a", 1, Some("k")))
        .await
        .unwrap();
    let batch = disk.store().manifest().unwrap().unwrap().batch;
    disk.disk.close();
    // As if the process had been killed just after it refused the second event.
    std::fs::write(disk.file("refused"), batch.to_be_bytes()).unwrap();
    let disk = disk.reopen();
    assert_eq!(disk.page("kept:a").await.top, kept);
    assert_eq!(disk.offsets("kept:a").await, [1]);
    let again = disk.disk.publish(draft("kept:a", 2, Some("k"))).await;
    let again = again.unwrap();
    assert!(!again.duplicate, "its key is free again");
    assert_eq!(again.position.unwrap().offset, 2);
    let disk = disk.reopen();
    assert_eq!(disk.offsets("kept:a").await, [1, 2], "taken back once only");
}

#[tokio::test]
async fn channel_of_refused_batch_is_reverted() {
    let disk = TestDisk::new(bounds());
    disk.publish("kept:a", 0).await;
    let made = disk.publish("kept:b", 0).await.position.unwrap();
    let batch = disk.store().manifest().unwrap().unwrap().batch;
    disk.disk.close();
    std::fs::write(disk.file("refused"), batch.to_be_bytes()).unwrap();
    let disk = disk.reopen();
    let top = disk.page("kept:b").await.top;
    assert_eq!(top.offset, 0);
    assert_ne!(top.epoch, made.epoch);
    assert_eq!(disk.store().manifest().unwrap().unwrap().channels, 2);
}

#[tokio::test]
async fn unclean_async_store_gets_new_epochs() {
    let mut disk = TestDisk::new(bounds());
    disk.settings.durability = Durability::Async;
    let disk = disk.reopen();
    let before = disk.publish("kept:a", 0).await.position.unwrap();
    let disk = disk.reopen();
    assert_eq!(disk.page("kept:a").await.top, before, "closed in order");
    disk.disk.close();
    std::fs::write(disk.file("state"), "running async\n").unwrap();
    let disk = disk.reopen();
    let page = disk.page("kept:a").await;
    assert_ne!(page.top.epoch, before.epoch);
    assert!(!page.covers(before));
    assert_eq!(page.events[0].position, Some(page.top));
    let disk = disk.reopen();
    assert_eq!(disk.page("kept:a").await.top, page.top, "once only");
}

#[tokio::test]
async fn damaged_event_is_a_gap_not_another_event() {
    let mut disk = TestDisk::new(bounds());
    disk.settings.cache_bytes = 0;
    let disk = disk.reopen();
    for n in 0..5 {
        disk.publish("kept:a", n).await;
    }
    let store = disk.store();
    let channel = ChannelName::new("kept:a").unwrap();
    let id = store.channel(&channel).unwrap().unwrap().id;
    store.put_raw_event(id, 3, b"\x01 something else");
    assert_eq!(disk.offsets("kept:a").await, [1, 2, 4, 5]);
    let text = disk.metrics.text(crate::telemetry::TextFormat::Prometheus);
    assert!(text.contains("tidings_store_damaged_total 1\n"), "{text}");
    assert_eq!(disk.publish("kept:a", 9).await.position.unwrap().offset, 6);
}

#[tokio::test]
async fn failed_store_refuses_and_recovers() {
    let disk = TestDisk::new(bounds());
    disk.publish("kept:a", 0).await;
    let (answer, failed) = queue::Answer::new();
    assert!(
        disk.disk
            .shared
            .queue
            .push(Share::OWN, Op::Fail(answer))
            .is_ok()
    );
    failed.await.unwrap().unwrap();
    assert!(!disk.disk.is_available());
    let refused = disk.disk.publish(draft("kept:a", 1, None)).await;
    assert_eq!(refused.unwrap_err().code(), crate::error::Code::Unavailable);
    while !disk.disk.is_available() {
        tokio::task::yield_now().await;
    }
    assert_eq!(disk.publish("kept:a", 1).await.position.unwrap().offset, 2);
    assert_eq!(disk.offsets("kept:a").await, [1, 2]);
    assert_eq!(disk.sink.events.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn failed_async_sync_gives_new_epochs() {
    let mut disk = TestDisk::new(bounds());
    disk.settings.durability = Durability::Async;
    let disk = disk.reopen();
    let publish = || disk.disk.publish(draft("kept:a", 0, Some("k")));
    let before = publish().await.unwrap();
    disk.fail().await;
    let page = disk.page("kept:a").await;
    let (old, new) = (before.position.unwrap(), page.top);
    assert_ne!(new.epoch, old.epoch);
    assert!(!page.covers(old));
    // A retry gets the position at which the event is found now.
    let again = publish().await.unwrap();
    assert_eq!((again.id, again.duplicate), (before.id, true));
    assert_eq!(again.position, Some(new));
    disk.disk.close();
    let disk = disk.reopen();
    assert_eq!(disk.page("kept:a").await.top, new, "once only");
}

#[tokio::test]
async fn synced_data_keeps_epoch_after_failure() {
    let disk = TestDisk::new(bounds());
    let before = disk.publish("kept:a", 0).await.position.unwrap();
    disk.fail().await;
    assert_eq!(disk.page("kept:a").await.top, before);
}

/// Opens the store after a change of its files. Returns the error.
async fn refusal(change: impl FnOnce(&TestDisk)) -> String {
    let disk = TestDisk::new(bounds());
    for n in 0..3 {
        disk.publish("kept:a", n).await;
    }
    disk.disk.close();
    change(&disk);
    let path = disk.settings.path.display().to_string();
    let message = match disk.try_reopen() {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    };
    assert!(
        message.starts_with(&format!("history.path = {path}: ")),
        "{message}"
    );
    message
}

#[tokio::test]
async fn store_in_use_is_refused() {
    let disk = TestDisk::new(bounds());
    let second = TestDisk::open(
        Arc::clone(&disk.dir),
        disk.settings.clone(),
        Clock::default(),
    );
    let message = second.err().unwrap().to_string();
    assert!(
        message.contains("another process is using this store"),
        "{message}"
    );
}

#[tokio::test]
async fn newer_store_version_is_refused() {
    let message = refusal(|disk| std::fs::write(disk.file("format"), "tidings 2\n").unwrap()).await;
    assert!(
        message.contains("format 2") && message.contains("newer"),
        "{message}"
    );
}

#[tokio::test]
async fn foreign_directory_is_refused() {
    let message = refusal(|disk| std::fs::remove_file(disk.file("format")).unwrap()).await;
    assert!(
        message.contains("the file `format` is missing"),
        "{message}"
    );
    let message = refusal(|disk| {
        std::fs::remove_file(disk.file("format")).unwrap();
        std::fs::write(disk.file("state"), "of something else").unwrap();
    })
    .await;
    assert!(message.contains("not a store of Tidings"), "{message}");
}

#[tokio::test]
async fn store_without_log_is_refused() {
    let message = refusal(|disk| std::fs::remove_dir_all(disk.file("log")).unwrap()).await;
    assert!(message.contains("damaged"), "{message}");
}

#[tokio::test]
async fn store_with_truncated_journal_is_refused() {
    let message = refusal(|disk| {
        let journal = std::fs::File::options()
            .write(true)
            .open(disk.file("log/0.jnl"));
        journal.unwrap().set_len(600).unwrap();
    })
    .await;
    assert!(message.contains("damaged"), "{message}");
}

/// Changes the first byte of the item of the second of three events.
async fn with_a_broken_item(journal: impl Fn(&mut Vec<u8>, usize)) -> TestDisk {
    let disk = TestDisk::new(bounds());
    for n in 0..3 {
        disk.publish("kept:a", n).await;
    }
    disk.disk.close();
    std::fs::write(disk.file("state"), "running fsync\n").unwrap();
    let path = disk.file("log/0.jnl");
    let mut bytes = std::fs::read(&path).unwrap();
    let trailers = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, w)| *w == b"FJL\x03");
    // The batches: the database's own, the first manifest, the channel's first event, …
    let ends: Vec<usize> = trailers.map(|(at, _)| at + 4).collect();
    journal(&mut bytes, ends[ends.len() - 3]);
    std::fs::write(&path, bytes).unwrap();
    disk
}

#[tokio::test]
async fn journal_broken_before_batches_is_refused() {
    let disk = with_a_broken_item(|bytes, batch| bytes[batch + 13] = 77).await;
    let message = disk.try_reopen().err().unwrap().to_string();
    assert!(message.contains("whole batches follow"), "{message}");
}

#[tokio::test]
async fn torn_batch_is_discarded() {
    let disk = with_a_broken_item(|bytes, batch| bytes.truncate(batch + 40)).await;
    // It and later ones were never acknowledged.
    std::fs::remove_file(disk.file(watermark::NAME)).unwrap();
    let mut mark = watermark::Watermark::open(&disk.settings.path).unwrap();
    mark.create().unwrap();
    let disk = disk.reopen();
    assert_eq!(disk.offsets("kept:a").await, [1]);
    assert_eq!(disk.publish("kept:a", 1).await.position.unwrap().offset, 2);
    assert_eq!(disk.reopen().offsets("kept:a").await, [1, 2]);
}

#[tokio::test]
async fn store_with_altered_journal_is_refused() {
    let message = refusal(|disk| {
        let path = disk.file("log/0.jnl");
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(6).position(|w| w == b"kept:a").unwrap();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    })
    .await;
    assert!(message.contains("damaged"), "{message}");
}
