//! Revocations of tokens in the store.

use super::backup::backup;
use super::*;
use crate::auth::{Fingerprint, Revocation, Revocations, RevokedSubject};
use crate::event::Timestamp;

fn user(name: &str, until: i64) -> Revocation {
    Revocation {
        subject: RevokedSubject::User(name.into()),
        issued_before: Timestamp::from_micros(until / 2),
        until: Timestamp::from_micros(until),
    }
}

fn token(text: &str, until: i64) -> Revocation {
    Revocation {
        subject: RevokedSubject::Token(Fingerprint::of(text)),
        issued_before: Timestamp::from_micros(i64::MAX),
        until: Timestamp::from_micros(until),
    }
}

impl TestDisk {
    async fn listed(&self) -> Vec<Revocation> {
        let mut listed = Revocations::list(&*self.disk).await.unwrap();
        listed.sort_by_key(|one| one.until);
        listed
    }

    async fn revoke(&self, revocation: Revocation) {
        Revocations::add(&*self.disk, revocation).await.unwrap();
    }
}

/// A store with one revocation in a table of the database, which was closed.
async fn closed_with_one(on_damage: OnDamage) -> TestDisk {
    let mut disk = TestDisk::new(bounds());
    disk.settings.on_damage = on_damage;
    let disk = disk.reopen();
    disk.revoke(user("ann", 100)).await;
    disk
}

#[tokio::test]
async fn revocations_survive_restart_once_each() {
    let disk = TestDisk::new(bounds());
    disk.revoke(user("ann", 100)).await;
    disk.revoke(token("a token", 200)).await;
    disk.revoke(user("ann", 300)).await;
    let disk = disk.reopen();
    let expected = [token("a token", 200), user("ann", 300)];
    assert_eq!(disk.listed().await, expected);
}

#[tokio::test]
async fn ended_revocations_are_removed_unless_replaced() {
    let disk = TestDisk::new(bounds());
    disk.revoke(user("ann", 100)).await;
    disk.revoke(user("bob", 200)).await;
    // The later one is added while the earlier one's removal waits in the queue, or before.
    disk.disk.remove(vec![user("ann", 100), user("bob", 150)]);
    disk.revoke(user("ann", 300)).await;
    disk.settle().await;
    assert_eq!(disk.listed().await, [user("bob", 200), user("ann", 300)]);
    disk.disk.remove(vec![user("bob", 200)]);
    disk.settle().await;
    assert_eq!(disk.reopen().listed().await, [user("ann", 300)]);
}

#[tokio::test]
async fn async_store_syncs_revocation_before_reply() {
    let mut disk = TestDisk::new(bounds());
    disk.settings.durability = Durability::Async;
    let disk = disk.reopen();
    disk.publish("kept:a", 1).await;
    disk.revoke(user("ann", 100)).await;
    let mark = watermark::Watermark::open(&disk.settings.path).unwrap();
    let manifest = disk.store().manifest().unwrap().unwrap();
    assert_eq!(mark.batch(), manifest.batch, "the watermark follows a sync");
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_store_has_the_revocations_of_the_backup() {
    let disk = TestDisk::new(bounds());
    disk.publish("kept:a", 1).await;
    disk.revoke(user("ann", 100)).await;
    disk.revoke(token("a token", 200)).await;
    let backup = backup(&disk).await;
    let mut settings = disk.settings.clone();
    settings.path = disk.dir.path().join("restored");
    restore(backup.as_slice(), &settings.path).unwrap();
    let dir = Arc::clone(&disk.dir);
    let restored = TestDisk::open(dir, settings, Clock::default()).unwrap();
    let expected = [user("ann", 100), token("a token", 200)];
    assert_eq!(restored.listed().await, expected);
    assert_eq!(restored.offsets("kept:a").await, [1]);
}

#[tokio::test]
async fn failed_store_refuses_a_revocation_and_keeps_the_earlier_ones() {
    let disk = TestDisk::new(bounds());
    disk.revoke(user("ann", 100)).await;
    disk.fail().await;
    assert_eq!(disk.listed().await, [user("ann", 100)]);
    disk.revoke(user("bob", 200)).await;
    assert_eq!(disk.listed().await.len(), 2);
}

#[tokio::test]
async fn recreated_store_gets_revocations_back() {
    let disk = closed_with_one(OnDamage::NewEpoch).await;
    std::fs::remove_file(disk.file("synced")).unwrap();
    std::fs::remove_dir_all(disk.file("log/keyspaces")).unwrap();
    disk.fail().await;
    assert_eq!(disk.listed().await, [user("ann", 100)]);
    assert_eq!(disk.reopen().listed().await, [user("ann", 100)]);
}

#[tokio::test]
async fn damaged_revocation_is_refused_or_reported() {
    for on_damage in [OnDamage::Refuse, OnDamage::NewEpoch] {
        let disk = closed_with_one(on_damage).await;
        disk.revoke(user("bob", 200)).await;
        disk.store()
            .put_raw_meta(b"revocation/uann", b"not a record");
        let listed = Revocations::list(&*disk.disk).await;
        match on_damage {
            OnDamage::Refuse => {
                let message = listed.unwrap_err().to_string();
                assert!(message.contains("the store is damaged"), "{message}");
            }
            OnDamage::NewEpoch => assert_eq!(listed.unwrap(), [user("bob", 200)]),
        }
    }
}
