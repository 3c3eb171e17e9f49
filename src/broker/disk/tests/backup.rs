//! Backups and restored stores.

use super::*;

/// A backup of a store that is in use.
pub(super) async fn backup(disk: &TestDisk) -> Vec<u8> {
    let mut parts = disk.disk.backup().unwrap();
    let mut backup = Vec::new();
    while let Some(part) = parts.recv().await {
        backup.extend_from_slice(&part.unwrap());
    }
    backup
}

async fn with_events() -> TestDisk {
    let disk = TestDisk::new(bounds());
    for n in 0..30 {
        disk.publish("brief:a", n).await;
        disk.publish("brief:b", n).await;
    }
    let keyed = disk.disk.publish(draft("brief:a", 30, Some("k")));
    keyed.await.unwrap();
    disk
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_store_has_data_with_new_epochs() {
    let disk = with_events().await;
    let backup = backup(&disk).await;
    let before = disk.page("brief:a").await;
    let contents = verify(backup.as_slice()).unwrap();
    let counted = (contents.channels, contents.events, contents.keys);
    assert_eq!(counted, (2, 61, 1));
    // The original store continues.
    let lost = disk.publish("brief:a", 31).await.position.unwrap();

    let mut settings = disk.settings.clone();
    settings.path = disk.dir.path().join("restored");
    assert_eq!(
        restore(backup.as_slice(), &settings.path).unwrap(),
        contents
    );
    let dir = Arc::clone(&disk.dir);
    let restored = TestDisk::open(dir, settings, Clock::default()).unwrap();
    let page = restored.page("brief:a").await;
    let data = |page: &Page| -> Vec<Bytes> {
        let events = page.events.iter();
        events.map(|event| event.payload.data().clone()).collect()
    };
    assert_eq!(data(&page), data(&before));
    assert_eq!(page.top.offset, before.top.offset);
    assert!(!page.covers(before.top), "no position of before is good");
    let repeat = restored.disk.publish(draft("brief:a", 30, Some("k")));
    let repeat = repeat.await.unwrap();
    assert_eq!((repeat.duplicate, repeat.position), (true, Some(page.top)));
    let other = restored.publish("brief:a", 99).await.position.unwrap();
    assert_eq!(other.offset, lost.offset);
    assert_ne!(other.epoch, lost.epoch);
    // It is an ordinary store from then on.
    let restored = restored.reopen();
    assert_eq!(restored.page("brief:a").await.top, other);
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_under_load_is_consistent() {
    let disk = with_events().await;
    let publish = async {
        for n in 0..500 {
            disk.publish("brief:a", n).await;
        }
    };
    let (backup, ()) = tokio::join!(backup(&disk), publish);
    let mut settings = disk.settings.clone();
    settings.path = disk.dir.path().join("restored");
    restore(backup.as_slice(), &settings.path).unwrap();
    let dir = Arc::clone(&disk.dir);
    let restored = TestDisk::open(dir, settings, Clock::default()).unwrap();
    let offsets = restored.offsets("brief:a").await;
    let expected: Vec<u64> = (1..=u64::try_from(offsets.len()).unwrap()).collect();
    assert_eq!(offsets, expected, "no hole");
    assert!(offsets.len() >= 31);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_backup_is_refused_and_leaves_nothing() {
    let disk = with_events().await;
    let whole = backup(&disk).await;
    let to = disk.dir.path().join("restored");
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut changed = whole.clone();
        changed[at] ^= 0x20;
        let message = restore(changed.as_slice(), &to).unwrap_err().to_string();
        assert!(message.contains("the backup is damaged"), "{at}: {message}");
        assert!(restore(&whole[..at], &to).is_err(), "cut at {at}");
        assert!(!to.exists());
    }
    let mut longer = whole;
    longer.push(0);
    assert!(verify(longer.as_slice()).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_refuses_nonempty_directory() {
    let disk = with_events().await;
    let backup = backup(&disk).await;
    let message = restore(backup.as_slice(), &disk.settings.path).unwrap_err();
    assert!(message.to_string().contains("not empty"), "{message}");
    let empty = disk.dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    restore(backup.as_slice(), &empty).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_backup_is_refused() {
    let disk = with_events().await;
    let first = disk.disk.backup().unwrap();
    let second = disk.disk.backup().unwrap_err();
    assert_eq!(second.code(), crate::error::Code::ResourceExhausted);
    drop(first);
    while disk.disk.backup().is_err() {
        tokio::task::yield_now().await;
    }
}
