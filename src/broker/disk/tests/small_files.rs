//! Stores whose small files, or those of the database, are missing or changed.

use std::fs;
use std::path::Path;

use super::super::*;
use super::damage::{Killed, copy, killed, with_tables};
use super::{TestDisk, bounds};

/// Opens a store after a change, with each setting: it is refused with the file's name, or gets a
/// new epoch.
async fn is_damage(file: &str, expected: &str, tables: bool, change: impl Fn(&Path)) {
    for on_damage in [OnDamage::Refuse, OnDamage::NewEpoch] {
        let killed = if tables {
            with_tables(|_, store| store.flush_all()).await
        } else {
            killed(OnDamage::Refuse).await
        };
        let Killed { mut disk, top } = killed;
        disk.settings.on_damage = on_damage;
        // Or it goes with a store that is refused.
        let _dir = Arc::clone(&disk.dir);
        change(&disk.file(file));
        let before = listing(&disk.settings.path);
        let (path, name) = (disk.settings.path.clone(), format!("{file} ({expected})"));
        match (on_damage, disk.try_reopen()) {
            (OnDamage::Refuse, Err(error)) => {
                let error = error.to_string();
                assert!(error.contains("the store is damaged: "), "{name}: {error}");
                assert!(error.contains(expected), "{name}: {error}");
                assert!(
                    listing(&path) == before,
                    "{name}: a refusal changes nothing"
                );
            }
            (OnDamage::NewEpoch, Ok(disk)) => {
                disk.publish("brief:a", 1).await;
                let page = disk.page("brief:a").await;
                assert_ne!(page.top.epoch, top.epoch, "{name}");
                // The repaired store is sound.
                let top = page.top;
                let disk = disk.reopen();
                assert_eq!(disk.page("brief:a").await.top, top, "{name}");
            }
            (_, Err(error)) => panic!("{name}: not borne: {error}"),
            (_, Ok(_)) => panic!("{name}: not noticed"),
        }
    }
}

/// The small files with their contents.
fn listing(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = ["state", "format", "refused", "synced"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), fs::read(path.join(name)).ok()?)))
        .collect();
    files.sort();
    files
}

fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

fn empty(path: &Path) {
    fs::write(path, "").unwrap();
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[0] ^= 0x20;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn missing_or_changed_small_file_is_damage() {
    is_damage("state", "`state` is missing", false, remove).await;
    is_damage("state", "`state` can't be understood", false, empty).await;
    is_damage("state", "`state` can't be understood", false, flip).await;
    is_damage("synced", "`synced` is missing", false, remove).await;
    is_damage("synced", "`synced` is missing or empty", false, empty).await;
    is_damage("refused", "`refused` can't be understood", false, flip).await;
    is_damage("format", "`format` can't be understood", false, flip).await;
    is_damage("format", "`format` is missing", false, remove).await;
}

#[tokio::test]
async fn missing_state_file_hides_no_loss() {
    for lost in [3000, 0] {
        let killed = killed(OnDamage::Refuse).await;
        let mut bytes = killed.journal();
        let keep = bytes.len().saturating_sub(lost);
        bytes.truncate(keep);
        killed.put_journal(&bytes);
        fs::remove_file(killed.disk.file("state")).unwrap();
        let expected = killed.refusal();
        assert!(expected.contains("`state` is missing"), "{expected}");
    }
    // Nor where nothing else is left but the notes.
    let killed = killed(OnDamage::Refuse).await;
    fs::remove_file(killed.disk.file("state")).unwrap();
    fs::remove_dir_all(killed.disk.file("log")).unwrap();
    let expected = killed.refusal();
    assert!(expected.contains("`state` is missing"), "{expected}");
}

#[tokio::test]
async fn changed_database_files_are_tolerated() {
    is_damage("log", "log is missing", false, remove).await;
    is_damage("log/version", "log/version is missing", false, remove).await;
    is_damage("log/lock", "log/lock is missing", false, remove).await;
    is_damage("log/keyspaces", "log/keyspaces", false, remove).await;
    for version in ["log/keyspaces/4/v0", "log/keyspaces/1/v0"] {
        is_damage(version, "log/keyspaces/", false, remove).await;
        is_damage(version, version, false, empty).await;
    }
    let current = "log/keyspaces/1/current";
    is_damage(current, current, false, empty).await;
    is_damage(current, current, false, flip).await;
    let tables = |path: &Path| {
        for table in fs::read_dir(path).unwrap() {
            empty(&table.unwrap().path());
        }
    };
    is_damage(
        "log/keyspaces/2/tables",
        "log/keyspaces/2/tables/",
        true,
        tables,
    )
    .await;
}

#[tokio::test]
async fn interrupted_first_start_is_not_damage() {
    let disk = TestDisk::new(bounds());
    disk.disk.close();
    // The database exists, and served no client.
    fs::write(disk.file("state"), "new\n").unwrap();
    for entry in fs::read_dir(&disk.settings.path).unwrap() {
        let path = entry.unwrap().path();
        if path.display().to_string().contains("mark-") {
            fs::remove_file(path).unwrap();
        }
    }
    let mut disk = disk.reopen();
    for unfinished in ["log/version", "log"] {
        disk.disk.close();
        fs::write(disk.file("state"), "new\n").unwrap();
        remove(&disk.file(unfinished));
        disk = disk.reopen();
        disk.publish("brief:a", 1).await;
    }
}

#[tokio::test]
async fn files_restored_without_mark_get_new_epochs() {
    let disk = TestDisk::new(bounds());
    for n in 0..6 {
        disk.publish("brief:a", n).await;
    }
    disk.disk.close();
    let backup = disk.dir.path().join("backup");
    copy(&disk.settings.path, &backup);
    let disk = disk.reopen();
    let lost = disk.publish("brief:a", 9).await.position.unwrap();
    disk.disk.close();
    // Everything but the current mark.
    let is_mark = |path: &Path| path.display().to_string().contains("/mark-");
    for path in [&disk.settings.path, &backup] {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap().path();
            if is_mark(&entry) == (path == &backup) {
                remove(&entry);
            }
        }
    }
    copy(&backup, &disk.settings.path);
    let disk = disk.reopen();
    let other = disk.publish("brief:a", 10).await.position.unwrap();
    assert_eq!(other.offset, lost.offset, "another event in its place");
    assert_ne!(other.epoch, lost.epoch);
    let disk = disk.reopen();
    assert_eq!(disk.page("brief:a").await.top, other);
}
