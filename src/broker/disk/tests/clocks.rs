//! A store whose system clock was stepped between two processes.

use super::*;

/// A month in milliseconds.
const MONTH: u64 = 30 * 86_400_000;

impl TestDisk {
    /// A new store, opened while the system's clock has this value.
    fn at(wall: u64) -> Self {
        let mut new = Self::new(bounds());
        new.clock = Clock::starting_at(wall);
        new.reopen()
    }

    /// Closes the store, and reopens it while the system's clock has this value.
    fn reopen_at(mut self, wall: u64) -> Self {
        self.disk.close();
        self.clock = Clock::starting_at(wall);
        self.reopen()
    }

    async fn publish_with_key(&self, key: &str) -> Receipt {
        let event = draft("kept:1", 1, Some(key));
        self.disk.publish(event).await.unwrap()
    }
}

#[tokio::test]
async fn key_of_fast_clock_expires_after_five_minutes() {
    let today = Clock::default().now();
    let disk = TestDisk::at(today + MONTH);
    assert!(!disk.publish_with_key("k").await.duplicate);
    let disk = disk.reopen_at(today);
    assert!(
        disk.publish_with_key("k").await.duplicate,
        "it was just now"
    );
    disk.advance(KEY_TTL);
    assert!(!disk.publish_with_key("k").await.duplicate);
    // The next start does not find it either, after a sweep.
    disk.advance(KEY_TTL);
    disk.disk.sweep();
    disk.settle().await;
    let disk = disk.reopen_at(today);
    assert!(!disk.publish_with_key("k").await.duplicate);
}

#[tokio::test]
async fn keys_with_late_expiry_are_deleted() {
    let disk = TestDisk::new(bounds());
    let store = disk.disk.shared.store.load_full().unwrap();
    let now = disk.clock.now();
    let record = record::KeyRecord::default();
    let mut batch = store.batch();
    for (index, expires) in (0..).zip([now - 1, now + 60_000, now + MONTH, u64::MAX]) {
        batch.put_key(expires, 1, index, &record);
    }
    batch.commit(store::Commit::Buffered).unwrap();
    disk.disk.sweep();
    disk.settle().await;
    let shares = KeyShares::new(bounds(), Metrics::new("test"));
    let kept: Vec<u64> = store.keys().map(|entry| entry.unwrap().0).collect();
    assert_eq!(kept, [now + 60_000]);
    let keys = committer::load_keys(&store, 0, now, OnDamage::Refuse, &shares).unwrap();
    assert_eq!(keys.len(), 0, "a record that names no channel");
}

#[tokio::test]
async fn history_of_fast_clock_expires_by_its_age() {
    let today = Clock::default().now();
    let disk = TestDisk::at(today + MONTH);
    disk.publish("kept:1", 1).await;
    let disk = disk.reopen_at(today);
    disk.publish("kept:1", 2).await;
    assert_eq!(disk.offsets("kept:1").await, [1, 2]);
    let ttl = namespaces()
        .load()
        .of(&ChannelName::new("kept:1").unwrap())
        .history
        .ttl;
    disk.advance(ttl);
    assert!(disk.offsets("kept:1").await.is_empty());
}

#[tokio::test]
async fn downtime_counts_towards_age() {
    let today = Clock::default().now();
    let disk = TestDisk::at(today);
    disk.publish_with_key("k").await;
    let disk = disk.reopen_at(today + MONTH);
    assert!(disk.offsets("kept:1").await.is_empty());
    assert!(!disk.publish_with_key("k").await.duplicate);
}
