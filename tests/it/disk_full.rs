//! A store on a full file system: publishes are refused until there is space again.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::{Config, Publisher, Server, event, eventually};

/// A small tmpfs, unmounted on drop.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` with a printed reason if this user may not mount.
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tidings-test"])
            .arg(dir.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        eprintln!("skipped: mounting a small file system takes root");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// The store's directory.
    fn store(&self) -> String {
        format!("{}/store", self.path().display())
    }

    /// Fills the remaining space.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = fs::File::options()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A lazy unmount: the server of a failed test may still have files open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn config(disk: &SmallDisk) -> Config {
    Config::rooms()
        .set("history.storage", r#""disk""#)
        .set("history.path", &format!("{:?}", disk.store()))
}

/// Publishes numbers until one is refused. Returns that number.
async fn fill_up(service: &mut Publisher, disk: &SmallDisk, from: u64) -> u64 {
    for n in from.. {
        disk.fill();
        let request = event("room:1", "count.up", json!({"n": n}));
        if let Err(status) = service.try_send(request).await {
            assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
            return n;
        }
        assert!(n < from + 1000, "the disk is not full");
    }
    unreachable!("there are always more numbers")
}

/// Waits until gRPC's health service reports this status for publishing.
async fn health(server: &Server, status: ServingStatus) {
    let mut health = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest {
        service: "tidings.v1.EventService".into(),
    };
    eventually("gRPC's health service to say so", async || {
        let answer = health.check(request.clone()).await.unwrap();
        (answer.into_inner().status() == status).then_some(())
    })
    .await;
}

#[tokio::test]
async fn full_disk_refuses_publishes_until_space_returns() {
    let Some(disk) = SmallDisk::new() else { return };
    let server = Server::start(config(&disk)).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let before = ws.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=5).await;

    let refused = fill_up(&mut service, &disk, 6).await;
    assert_eq!(server.get("/readyz").await.status, 503);
    let metrics = server
        .internal_http(Method::GET, "/metrics", &[], Bytes::new())
        .await;
    assert!(
        metrics.text().contains("tidings_store_available 0"),
        "{}",
        metrics.text()
    );
    health(&server, ServingStatus::NotServing).await;
    // Connections stay open, and history can be read.
    ws.lives().await;
    let history = json!({"type": "history", "channel": "room:1", "limit": 3});
    assert_eq!(ws.ask(history).await["type"], "history");

    fs::remove_file(disk.path().join("filler")).unwrap();
    eventually("the store to work again", async || {
        (server.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    health(&server, ServingStatus::Serving).await;
    service
        .count("room:1", "count.up", refused..=refused + 2)
        .await;
    let last = refused + 2;
    let expected: Vec<u64> = (1..=last).collect();
    let count = usize::try_from(last).unwrap();
    assert_eq!(ws.numbers("count.up", count).await, expected);

    // The refused event left no trace, now and after a restart.
    let server = Server::start_in(server.kill().await, config(&disk)).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let since = json!({"since": {"room:1": {"epoch": before["epoch"], "offset": 0}}});
    let reply: Value = ws.subscribe_with("room:1", since).await;
    assert_eq!(reply["recovered"], true, "{reply}");
    assert_eq!(reply["offset"], last, "{reply}");
    assert_eq!(ws.numbers("count.up", count).await, expected);
}

#[tokio::test]
async fn refused_event_stays_refused_after_kill_9() {
    let Some(disk) = SmallDisk::new() else { return };
    let server = Server::start(config(&disk)).await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=5).await;
    let refused = fill_up(&mut service, &disk, 6).await;
    let dir = server.kill().await;
    fs::remove_file(disk.path().join("filler")).unwrap();

    let server = Server::start_in(dir, config(&disk)).await;
    let mut service = server.publisher("service").await;
    let next = service
        .publish("room:1", "count.up", json!({"n": refused}))
        .await;
    let offset = next.results[0].position.as_ref().unwrap().offset;
    assert_eq!(offset, refused, "the retried publish gets the next place");
}
