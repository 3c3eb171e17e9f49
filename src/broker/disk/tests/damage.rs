//! Stores whose files were changed, truncated, copied or removed.

use std::fs;

use super::super::journal;
use super::*;

/// A store with some events that was killed, and its channel's position.
pub(super) struct Killed {
    pub(super) disk: TestDisk,
    pub(super) top: crate::event::Position,
}

const EVENTS: usize = 6;

pub(super) async fn killed(on_damage: OnDamage) -> Killed {
    let mut disk = TestDisk::new(bounds());
    disk.settings.on_damage = on_damage;
    let disk = disk.reopen();
    for n in 0..EVENTS {
        disk.publish("brief:a", n).await;
    }
    let top = disk.page("brief:a").await.top;
    disk.disk.close();
    let killed = Killed { disk, top };
    killed.leave_as_running();
    killed
}

impl Killed {
    fn leave_as_running(&self) {
        fs::write(self.disk.file("state"), "running fsync\n").unwrap();
    }

    /// The written part of the journal.
    pub(super) fn journal(&self) -> Vec<u8> {
        let mut bytes = fs::read(self.disk.file("log/0.jnl")).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        bytes.truncate(end);
        bytes
    }

    pub(super) fn put_journal(&self, bytes: &[u8]) {
        fs::write(self.disk.file("log/0.jnl"), bytes).unwrap();
    }

    fn synced(&self) -> u64 {
        watermark::Watermark::open(&self.disk.settings.path)
            .unwrap()
            .batch()
    }

    pub(super) fn refusal(self) -> String {
        self.disk.try_reopen().err().unwrap().to_string()
    }
}

#[tokio::test]
async fn flipped_journal_bit_is_detected_or_harmless() {
    let killed = killed(OnDamage::Refuse).await;
    let (bytes, log) = (killed.journal(), killed.disk.file("log"));
    let synced = killed.synced();
    killed.put_journal(&bytes);
    let sound = journal::examine(&log, synced).unwrap();
    assert!(sound.fault.is_none(), "{sound:?}");
    let mut harmless = 0;
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        killed.put_journal(&bytes);
        let report = journal::examine(&log, synced).unwrap();
        if let Some(fault) = report.fault {
            assert!(fault.is_damage, "byte {at}: {fault:?}");
        } else {
            harmless += 1;
            assert_eq!(report.newest, sound.newest, "byte {at}");
        }
    }
    assert!(harmless < 16, "{harmless} of {}", bytes.len());
}

/// This many positions, spread over the whole journal.
fn positions(bytes: &[u8], count: usize) -> impl Iterator<Item = usize> {
    let length = bytes.len();
    (0..count).map(move |n| n * (length - 1) / (count - 1))
}

#[tokio::test]
async fn flipped_byte_is_refused_with_file_and_offset() {
    let killed = killed(OnDamage::Refuse).await;
    let bytes = killed.journal();
    let Killed { mut disk, top } = killed;
    for at in positions(&bytes, 12) {
        let killed = Killed { disk, top };
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        killed.put_journal(&bytes);
        let Killed { disk: kept, .. } = killed;
        let again = TestDisk::open(
            Arc::clone(&kept.dir),
            kept.settings.clone(),
            Clock::default(),
        );
        let message = again.err().map(|error| error.to_string());
        let message = message.unwrap_or_else(|| panic!("byte {at} was not noticed"));
        assert!(
            message.contains("the store is damaged: the journal 0.jnl"),
            "byte {at}: {message}"
        );
        assert!(message.contains("at byte"), "byte {at}: {message}");
        disk = kept;
    }
}

#[tokio::test]
async fn tolerated_damage_gives_new_epochs() {
    for share in [3, 2] {
        let killed = killed(OnDamage::NewEpoch).await;
        let mut bytes = killed.journal();
        let at = bytes.len() * (share - 1) / share;
        bytes[at] ^= 0x10;
        killed.put_journal(&bytes);
        let Killed { disk, top } = killed;
        let disk = disk.reopen();
        let page = disk.page("brief:a").await;
        assert_ne!(page.top.epoch, top.epoch);
        assert!(!page.covers(top));
        assert!(page.top.offset < top.offset, "some are lost");
        let aside = fs::read_dir(disk.file("damaged")).unwrap().next();
        let aside = aside.unwrap().unwrap().path().join("0.jnl");
        assert_eq!(fs::read(aside).unwrap(), bytes, "nothing is thrown away");
        let next = disk.publish("brief:a", 9).await.position.unwrap();
        assert_eq!(next.offset, page.top.offset + 1);
        // The repaired store is sound.
        let disk = disk.reopen();
        assert_eq!(disk.page("brief:a").await.top, next);
    }
}

#[tokio::test]
async fn torn_last_batch_is_damage_only_if_synced() {
    for (acknowledged, is_damage) in [(true, true), (false, false)] {
        let killed = killed(OnDamage::Refuse).await;
        let bytes = killed.journal();
        killed.put_journal(&bytes[..bytes.len() - 20]);
        if !acknowledged {
            let batch = killed.synced() - 1;
            fs::remove_file(killed.disk.file(watermark::NAME)).unwrap();
            let mut mark = watermark::Watermark::open(&killed.disk.settings.path).unwrap();
            mark.create().unwrap();
            mark.note(batch);
            let (present, _) = mark::Mark::open(&killed.disk.settings.path).unwrap();
            mark.expect_mark(present.number(), 0).unwrap();
        }
        let Killed { disk, top } = killed;
        match disk.try_reopen() {
            Err(error) => {
                let message = error.to_string();
                assert!(is_damage, "{message}");
                assert!(message.contains("was acknowledged"), "{message}");
            }
            Ok(disk) => {
                assert!(!is_damage, "it was not noticed");
                let page = disk.page("brief:a").await;
                assert_eq!(
                    (page.top.epoch, page.top.offset),
                    (top.epoch, top.offset - 1)
                );
            }
        }
    }
}

#[tokio::test]
async fn journal_cut_between_batches_is_damage() {
    let killed = killed(OnDamage::Refuse).await;
    let bytes = killed.journal();
    let last = bytes.windows(4).rposition(|w| w == b"FJL\x03").unwrap();
    let before = bytes[..last].windows(4).rposition(|w| w == b"FJL\x03");
    killed.put_journal(&bytes[..before.unwrap() + 4]);
    let message = killed.refusal();
    assert!(message.contains("0.jnl ends with batch"), "{message}");
}

/// A store whose events are in tables. The journals contain none of them, or some.
pub(super) async fn with_tables(rotate: impl Fn(&TestDisk, &Store)) -> Killed {
    let disk = TestDisk::new(bounds());
    for n in 0..EVENTS {
        disk.publish("brief:a", n).await;
    }
    let store = disk.store();
    rotate(&disk, &store);
    drop(store);
    for n in 0..EVENTS {
        disk.publish("brief:b", n).await;
    }
    let top = disk.page("brief:a").await.top;
    disk.disk.close();
    let killed = Killed { disk, top };
    killed.leave_as_running();
    killed
}

fn first_file(directory: &std::path::Path) -> PathBuf {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.into_iter().next().unwrap()
}

#[tokio::test]
async fn flushed_tables_are_read_after_reopen() {
    let killed = with_tables(|_, store| store.flush_all()).await;
    let top = killed.top;
    let disk = killed.disk.reopen();
    assert_eq!(disk.page("brief:a").await.top, top);
    assert_eq!(disk.offsets("brief:b").await.len(), EVENTS);
}

#[tokio::test]
async fn missing_database_files_are_damage() {
    for keyspace in 0..=4 {
        let killed = with_tables(|_, store| store.flush_all()).await;
        let path = killed.disk.file("log/keyspaces").join(keyspace.to_string());
        fs::remove_dir_all(path).unwrap();
        let message = killed.refusal();
        assert!(message.contains("log/keyspaces"), "{keyspace}: {message}");

        let killed = with_tables(|_, store| store.flush_all()).await;
        let path = killed.disk.file("log/keyspaces").join(keyspace.to_string());
        fs::remove_file(path.join("current")).unwrap();
        let message = killed.refusal();
        assert!(message.contains("log/keyspaces"), "{keyspace}: {message}");

        // `keys` has no tables here.
        if keyspace < 4 {
            let killed = with_tables(|_, store| store.flush_all()).await;
            let path = killed.disk.file("log/keyspaces").join(keyspace.to_string());
            fs::remove_file(first_file(&path.join("tables"))).unwrap();
            let message = killed.refusal();
            assert!(
                message.contains("the store is damaged"),
                "{keyspace}: {message}"
            );
        }
    }
}

#[tokio::test]
async fn missing_journal_is_damage() {
    // Sealed, but not in tables yet.
    let fill = |disk: &TestDisk, store: &Store| {
        let next = disk.file("log/1.jnl");
        store.fill_journal(|| next.exists());
    };
    let killed = with_tables(fill).await;
    let journals = journal::list(&killed.disk.file("log")).unwrap();
    assert!(journals.len() >= 2, "{journals:?}");
    for (_, path) in &journals[..journals.len() - 1] {
        fs::remove_file(path).unwrap();
    }
    let message = killed.refusal();
    assert!(message.contains("are missing"), "{message}");
}

#[tokio::test]
async fn restored_files_get_new_epochs() {
    let disk = TestDisk::new(bounds());
    for n in 0..EVENTS {
        disk.publish("brief:a", n).await;
    }
    disk.disk.close();
    let backup = disk.dir.path().join("backup");
    copy(&disk.settings.path, &backup);
    let disk = disk.reopen();
    let lost = disk.publish("brief:a", 9).await.position.unwrap();
    disk.disk.close();
    // Restored over the existing files.
    copy(&backup, &disk.settings.path);
    let disk = disk.reopen();
    let other = disk.publish("brief:a", 10).await.position.unwrap();
    assert_eq!(other.offset, lost.offset, "another event in its place");
    assert_ne!(other.epoch, lost.epoch);
    assert!(!disk.page("brief:a").await.covers(lost));
    // From then on it is a store of its own.
    let disk = disk.reopen();
    assert_eq!(disk.page("brief:a").await.top, other);
}

#[tokio::test]
async fn copied_store_gets_new_epochs_but_moved_does_not() {
    let disk = TestDisk::new(bounds());
    let before = disk.publish("brief:a", 0).await.position.unwrap();
    disk.disk.close();
    let (moved, copied) = (
        disk.dir.path().join("moved"),
        disk.dir.path().join("copied"),
    );
    fs::rename(&disk.settings.path, &moved).unwrap();
    copy(&moved, &copied);
    for (path, same) in [(moved, true), (copied, false)] {
        let settings = DiskSettings {
            path,
            ..disk.settings.clone()
        };
        let again = TestDisk::open(Arc::clone(&disk.dir), settings, Clock::default()).unwrap();
        let page = again.page("brief:a").await;
        assert_eq!(page.covers(before), same);
        assert_eq!(page.events.len(), 1);
    }
}

pub(super) fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn store_files_are_private() {
    use std::os::unix::fs::PermissionsExt;

    let disk = TestDisk::new(bounds());
    disk.publish("brief:a", 0).await;
    let mode = |name: &str| {
        let metadata = fs::metadata(disk.file(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    for name in ["lock", "format", "state", "refused", watermark::NAME] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    assert_eq!((mode(""), mode("log")), (0o700, 0o700));
}

#[tokio::test]
async fn damaged_refused_file_reverts_nothing() {
    let disk = TestDisk::new(bounds());
    disk.publish("brief:a", 0).await;
    disk.disk.close();
    let path = disk.file("refused");
    let mut note = fs::read(&path).unwrap();
    note[7] ^= 2;
    fs::write(&path, note).unwrap();
    let message = disk.try_reopen().err().unwrap().to_string();
    assert!(
        message.contains("`refused` can't be understood"),
        "{message}"
    );
}

#[tokio::test]
async fn unopenable_store_is_set_aside_if_tolerated() {
    let killed = killed(OnDamage::NewEpoch).await;
    let Killed { disk, top } = killed;
    fs::remove_file(disk.file("log/keyspaces/3/current")).unwrap();
    let disk = disk.reopen();
    let page = disk.page("brief:a").await;
    assert_eq!(page.top.offset, 0, "nothing could be read");
    assert_ne!(page.top.epoch, top.epoch);
    let aside = first_file(&disk.file("damaged")).join("log/0.jnl");
    assert!(aside.exists(), "nothing is thrown away");
    let next = disk.publish("brief:a", 0).await.position.unwrap();
    let disk = disk.reopen();
    assert_eq!(disk.page("brief:a").await.top, next);
}

#[tokio::test]
async fn idempotency_key_of_lost_event_is_released() {
    let mut disk = TestDisk::new(bounds());
    disk.settings.on_damage = OnDamage::NewEpoch;
    let disk = disk.reopen();
    let publish = |disk: &TestDisk, key| disk.disk.publish(draft("brief:a", 1, Some(key)));
    publish(&disk, "kept").await.unwrap();
    publish(&disk, "lost").await.unwrap();
    // The keys are in a table already, the events are not.
    disk.store().flush_keys();
    disk.disk.close();
    let killed = Killed {
        top: crate::event::Position {
            epoch: crate::event::Epoch::from_bits(1),
            offset: 0,
        },
        disk,
    };
    killed.leave_as_running();
    let mut bytes = killed.journal();
    let at = bytes.windows(4).rposition(|w| w == b"lost").unwrap();
    bytes[at] ^= 1;
    killed.put_journal(&bytes);
    let disk = killed.disk.reopen();
    assert_eq!(disk.offsets("brief:a").await, [1]);
    assert!(publish(&disk, "kept").await.unwrap().duplicate);
    let again = publish(&disk, "lost").await.unwrap();
    assert!(!again.duplicate, "or it would be lost in silence");
    assert_eq!(again.position.unwrap().offset, 2);
    let disk = disk.reopen();
    assert!(publish(&disk, "lost").await.unwrap().duplicate);
}
