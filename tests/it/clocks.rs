//! Steps of the system clock while the server runs. libfaketime (the Debian package `faketime`)
//! steps it for the server alone. Without it, these tests print a note and check nothing.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;
use tidings::proto::PublishRequest;

use crate::harness::{Config, Server, Token, event, eventually, within};

/// The clock of one server.
struct Clock {
    library: PathBuf,
    directory: TempDir,
}

impl Clock {
    /// A correct clock. `None` if libfaketime is missing.
    fn new() -> Option<Self> {
        let Some(library) = find_library() else {
            eprintln!("skipped: there is no libfaketime");
            return None;
        };
        let clock = Clock {
            library,
            directory: tempfile::tempdir().unwrap(),
        };
        clock.set("+0");
        Some(clock)
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("offset")
    }

    /// Sets it to an offset such as `+30d`. The file is replaced atomically.
    fn set(&self, offset: &str) {
        let beside = self.directory.path().join("next");
        fs::write(&beside, offset).unwrap();
        fs::rename(beside, self.file()).unwrap();
    }

    /// A server with this clock. Monotonic clocks are not affected.
    fn of(&self, config: Config) -> Config {
        config
            .env("LD_PRELOAD", self.library.to_str().unwrap())
            .env("FAKETIME_TIMESTAMP_FILE", self.file().to_str().unwrap())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
    }
}

/// Debian's path contains the architecture.
fn find_library() -> Option<PathBuf> {
    let mut places: Vec<PathBuf> =
        vec!["/usr/lib/faketime".into(), "/usr/local/lib/faketime".into()];
    let machines = fs::read_dir("/usr/lib").ok()?;
    places.extend(
        machines
            .flatten()
            .map(|entry| entry.path().join("faketime")),
    );
    let found = places.iter().map(|place| place.join("libfaketime.so.1"));
    found.into_iter().find(|path: &PathBuf| Path::exists(path))
}

fn on_disk() -> Config {
    Config::rooms().set("history.storage", r#""disk""#)
}

fn once() -> PublishRequest {
    PublishRequest {
        idempotency_key: "order-7".into(),
        ..event("room:1", "a.b", json!(1))
    }
}

/// The server's own time, in whole seconds.
async fn time_of(server: &Server) -> jiff::Timestamp {
    let ws = server.ws().token("clock", &[]).connect().await;
    ws.established["timestamp"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn short_clock_step_has_no_effect() {
    let Some(clock) = Clock::new() else { return };
    let server = Server::start(clock.of(on_disk())).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let before = ws.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=3).await;
    let right = time_of(&server).await;

    clock.set("+30d");
    assert!(!service.send(once()).await.results[0].duplicate);
    // Neither the open connection nor a new one has an expired token.
    ws.lives().await;
    let mut other = server.ws().token("bob", &[]).connect().await;
    let since = json!({"since": {"room:1": {"epoch": before["epoch"], "offset": 0}}});
    let reply = other.subscribe_with("room:1", since).await;
    assert_eq!(
        (&reply["recovered"], &reply["replayed"]),
        (&json!(true), &json!(4))
    );
    clock.set("+0");

    assert!(service.send(once()).await.results[0].duplicate);
    ws.lives().await;
    assert!(time_of(&server).await.duration_since(right).as_secs() < 3600);

    // An hour later, the key is forgotten, and history that is kept for an hour has expired.
    let directory = server.stop().await;
    clock.set("+1h");
    let server = Server::start_in(directory, clock.of(on_disk())).await;
    let mut service = server.publisher("service").await;
    let again = service.send(once()).await;
    assert!(!again.results[0].duplicate, "{again:?}");
    let position = again.results[0].position.as_ref().unwrap();
    assert_eq!(position.offset, 5, "and the numbering goes on");
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let reply = ws.subscribe_with("room:1", json!({"rewind": 100})).await;
    assert_eq!(reply["replayed"], 1, "{reply}");
}

#[tokio::test]
async fn clock_step_back_stops_no_deadline() {
    let Some(clock) = Clock::new() else { return };
    let config = Config::rooms()
        .set("auth.deadline", r#""2s""#)
        .set("heartbeat.interval", r#""1s""#)
        .set("heartbeat.timeout", r#""2s""#);
    let server = Server::start(clock.of(config)).await;
    let mut nobody = server.ws().connect().await;
    let mut silent = server.raw_ws(&Token::new("silent")).await;
    clock.set("-1d");
    // Heartbeats arrive even if the deadline does not.
    within("auth.deadline", nobody.expect_close(4401)).await;
    assert_eq!(within("the timeout", silent.close_code()).await, 4408);
}

#[tokio::test]
async fn lasting_clock_step_takes_effect() {
    let Some(clock) = Clock::new() else { return };
    let server = Server::start(clock.of(Config::rooms())).await;
    let right = time_of(&server).await;
    // Within the lifetime of a token that is valid for an hour.
    clock.set("+30m");
    eventually("the new time", async || {
        let moved = time_of(&server).await.duration_since(right).as_secs();
        (moved >= 30 * 60).then_some(())
    })
    .await;
    assert!(server.log().contains("clock was set"), "{}", server.log());
}
