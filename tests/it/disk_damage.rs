//! Stores on disk whose files were changed while no server used them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Config, Server, Tidings};

const EVENTS: u64 = 200;

fn config() -> Config {
    Config::rooms()
        .set("history.storage", r#""disk""#)
        .set("server.drain", r#""1s""#)
}

/// A store with acknowledged events whose server was killed, and the position that a subscriber
/// got.
async fn killed() -> (tempfile::TempDir, Value) {
    let server = Server::start(config()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let before = ws.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=EVENTS).await;
    (server.kill().await, before)
}

/// Flips a byte of the journal at this fraction of its written part.
fn flip(dir: &Path, part: usize, of: usize) -> PathBuf {
    let journal = dir.join("tidings-data/log/0.jnl");
    let mut bytes = fs::read(&journal).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end * part / of] ^= 8;
    fs::write(&journal, bytes).unwrap();
    journal
}

#[tokio::test]
async fn flipped_byte_is_always_detected() {
    let (dir, _) = killed().await;
    let whole = fs::read(dir.path().join("tidings-data/log/0.jnl")).unwrap();
    for part in [1, 5, 9, 12] {
        let journal = flip(dir.path(), part, 12);
        let (status, reported) = Server::refuses_in(dir.path(), config()).await;
        assert!(!status.success(), "{part}: {reported}");
        let names = reported.contains("the store is damaged: the journal 0.jnl");
        assert!(names && reported.contains("at byte"), "{part}: {reported}");
        fs::write(journal, &whole).unwrap();
    }
    // The refusals changed nothing.
    let server = Server::start_in(dir, config()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let reply = ws.subscribe_with("room:1", json!({"rewind": 1000})).await;
    assert_eq!(reply["replayed"], EVENTS, "{reply}");
}

#[tokio::test]
async fn recovered_damaged_store_tells_every_client() {
    let (dir, before) = killed().await;
    flip(dir.path(), 2, 3);
    let config = config().set("history.on_damage", r#""new_epoch""#);
    let server = Server::start_in(dir, config).await;
    let log = server.log();
    assert!(log.contains("the store is damaged"), "{log}");
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let since = json!({"since": {"room:1": {"epoch": before["epoch"], "offset": 10}}});
    let reply = ws.subscribe_with("room:1", since).await;
    assert_eq!(reply["recovered"], false, "{reply}");
    assert_ne!(reply["epoch"], before["epoch"]);
    let kept = reply["offset"].as_u64().unwrap();
    assert!(kept > 0 && kept < EVENTS, "{kept}");
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=1).await;
    assert_eq!(ws.numbers("count.up", 1).await, [1]);
    assert!(server.path("tidings-data/damaged").exists());
}

#[tokio::test]
async fn replaced_store_files_are_recognized() {
    let (dir, before) = killed().await;
    let store = dir.path().join("tidings-data");
    let backup = dir.path().join("backup");
    copy(&store, &backup);
    let server = Server::start_in(dir, config()).await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=5).await;
    let dir = server.kill().await;
    fs::remove_dir_all(&store).unwrap();
    copy(&backup, &store);

    let server = Server::start_in(dir, config()).await;
    let log = server.log();
    assert!(log.contains("copied or restored"), "{log}");
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=9).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let position = json!({"epoch": before["epoch"], "offset": EVENTS + 5});
    let since = json!({"since": {"room:1": position}});
    let reply = ws.subscribe_with("room:1", since).await;
    assert_eq!(
        reply["recovered"], false,
        "other events are in these places: {reply}"
    );
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status();
    assert!(copied.unwrap().success());
}

#[tokio::test]
async fn check_refuses_path_unusable_for_store() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    fs::write(&file, "").unwrap();
    let newer = dir.path().join("newer");
    fs::create_dir(&newer).unwrap();
    fs::write(newer.join("format"), "tidings 99\n").unwrap();
    let cases = [
        (file.join("store"), "is not a directory"),
        (file, "is not a directory"),
        (newer, "format 99"),
    ];
    for (path, why) in cases {
        let toml = format!("[history]\nstorage = \"disk\"\npath = {path:?}\n");
        fs::write(dir.path().join("a.toml"), toml).unwrap();
        let check = Tidings::new(&["check", "a.toml"]).within(dir.path());
        let reported = check.run().await.exits(1).stderr;
        assert!(reported.contains("a.toml:3: history.path"), "{reported}");
        assert!(reported.contains(why), "{reported}");
    }
    let toml = "[history]\nstorage = \"disk\"\npath = \"not/yet/there\"\n";
    fs::write(dir.path().join("a.toml"), toml).unwrap();
    let check = Tidings::new(&["check", "a.toml"]).within(dir.path());
    check.run().await.exits(0);
    assert!(!dir.path().join("not").exists());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn check_refuses_unwritable_path() {
    let dir = tempfile::tempdir().unwrap();
    let toml = "[history]\nstorage = \"disk\"\npath = \"/proc/x\"\n";
    fs::write(dir.path().join("a.toml"), toml).unwrap();
    let check = Tidings::new(&["check", "a.toml"]).within(dir.path());
    let reported = check.run().await.exits(1).stderr;
    assert!(reported.contains("a.toml:3: history.path"), "{reported}");
    assert!(reported.contains("/proc can't be written to"), "{reported}");
}

#[tokio::test]
async fn missing_watermark_hides_no_loss() {
    for note in ["state", "synced"] {
        let (dir, before) = killed().await;
        let store = dir.path().join("tidings-data");
        fs::remove_file(store.join(note)).unwrap();
        let journal = store.join("log/0.jnl");
        let mut bytes = fs::read(&journal).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        bytes[end - 3000..end].fill(0);
        fs::write(&journal, &bytes).unwrap();
        let (status, reported) = Server::refuses_in(dir.path(), config()).await;
        assert!(!status.success(), "{note}: {reported}");
        assert!(
            reported.contains("the store is damaged"),
            "{note}: {reported}"
        );
        assert!(
            reported.contains(&format!("`{note}` is missing")),
            "{reported}"
        );
        let config = config().set("history.on_damage", r#""new_epoch""#);
        let server = Server::start_in(dir, config).await;
        let mut ws = server.ws().token("alice", &[]).connect().await;
        let since = json!({"since": {"room:1": {"epoch": before["epoch"], "offset": 10}}});
        let reply = ws.subscribe_with("room:1", since).await;
        assert_eq!(reply["recovered"], false, "{note}: {reply}");
        assert_ne!(reply["epoch"], before["epoch"], "{note}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn ready_file_follows_no_symlink() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "mine").unwrap();
    for name in ["ready.json", "ready.json.tmp"] {
        std::os::unix::fs::symlink(&victim, dir.path().join(name)).unwrap();
    }
    // The harness removes the one, but not the other.
    let server = Server::start_in(dir, config()).await;
    assert_eq!(fs::read_to_string(server.path("victim")).unwrap(), "mine");
    assert!(
        server
            .path("ready.json")
            .symlink_metadata()
            .unwrap()
            .is_file()
    );
}
