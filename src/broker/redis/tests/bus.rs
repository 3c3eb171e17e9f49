//! Messages, leases and entries between nodes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::super::bus::Receive;
use super::super::{RedisBus, RedisRevocations};
use super::server::TestServer;
use crate::auth::{Revocation, Revocations, RevokedSubject};
use crate::event::Timestamp;

const LEASE: Duration = Duration::from_secs(10);

async fn bus(server: &TestServer, name: &str) -> Arc<RedisBus> {
    RedisBus::open(&[&server.url()], name, 0).await.unwrap()
}

fn unique() -> String {
    format!("b{:x}", fastrand::u64(..))
}

/// Collects what is received.
fn inbox() -> (Receive, tokio::sync::mpsc::UnboundedReceiver<Bytes>) {
    let (sender, received) = tokio::sync::mpsc::unbounded_channel();
    let receive = move |message| sender.send(message).unwrap_or_default();
    (Box::new(receive), received)
}

#[tokio::test]
async fn messages_reach_one_process_or_all() {
    let (server, name) = (TestServer::shared(), unique());
    let (a, b) = (bus(server, &name).await, bus(server, &name).await);
    let ((to_a, mut on_a), (to_b, mut on_b)) = (inbox(), inbox());
    a.listen(1, to_a).await;
    b.listen(u64::MAX, to_b).await;
    assert!(a.send(Some(u64::MAX), b"to b").await.unwrap());
    assert!(b.send(None, b"to all").await.unwrap());
    assert!(!a.send(Some(3), b"nobody").await.unwrap());
    assert_eq!(on_b.recv().await.as_deref(), Some(&b"to b"[..]));
    assert_eq!(on_b.recv().await.as_deref(), Some(&b"to all"[..]));
    assert_eq!(on_a.recv().await.as_deref(), Some(&b"to all"[..]));
}

#[tokio::test]
async fn a_number_has_one_owner_at_a_time() {
    let (server, name) = (TestServer::shared(), unique());
    let (a, b) = (bus(server, &name).await, bus(server, &name).await);
    assert!(a.claim(7, LEASE).await.unwrap());
    assert!(a.claim(7, LEASE).await.unwrap(), "renewed");
    assert!(!b.claim(7, LEASE).await.unwrap());
    b.release(7).await.unwrap();
    assert!(!b.claim(7, LEASE).await.unwrap(), "it is not b's");
    a.release(7).await.unwrap();
    assert!(b.claim(7, Duration::from_millis(1)).await.unwrap());
    let expired = async {
        while !a.claim(7, LEASE).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let expired = tokio::time::timeout(Duration::from_secs(10), expired);
    expired.await.unwrap();
}

#[tokio::test]
async fn entries_are_watched_and_survive_the_nodes() {
    let mut server = TestServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let (a, b) = (bus(&server, "t").await, bus(&server, "t").await);
    b.changed().await;
    a.put("old", b"old", 1).await.unwrap();
    a.put("x", b"revoked", u64::from(u32::MAX) * 1000)
        .await
        .unwrap();
    b.changed().await;
    assert_eq!(
        b.entries().await.unwrap(),
        [b"revoked".to_vec()],
        "and not the expired one"
    );
    server.kill();
    server.run();
    // Something may have changed meanwhile.
    tokio::time::timeout(Duration::from_secs(20), b.changed())
        .await
        .unwrap();
    assert_eq!(b.entries().await.unwrap().len(), 1);
    a.put("x", b"shorter", 1).await.unwrap();
    assert_eq!(
        b.entries().await.unwrap(),
        [b"revoked".to_vec()],
        "the longer one stays"
    );
    assert!(a.remove("x").await.unwrap());
    assert!(!a.remove("x").await.unwrap());
    b.changed().await;
    assert!(b.entries().await.unwrap().is_empty());
}

#[tokio::test]
async fn revocations_reach_other_nodes_and_survive_them() {
    let (server, name) = (TestServer::shared(), unique());
    let register = async || RedisRevocations::new(bus(server, &name).await);
    let (a, b) = (register().await, register().await);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = Arc::clone(&seen);
    b.watch(Box::new(move |revocation| {
        sees.lock().unwrap().push(revocation)
    }));
    let revocation = |user: &str| Revocation {
        subject: RevokedSubject::User(user.into()),
        issued_before: Timestamp::from_micros(1_000_000),
        until: Timestamp::from_micros(i64::from(u32::MAX) * 1_000_000),
    };
    a.add(revocation("ann")).await.unwrap();
    let all_seen = async || {
        let began = std::time::Instant::now();
        while seen.lock().unwrap().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    all_seen().await;
    assert_eq!(*seen.lock().unwrap(), [revocation("ann")]);
    a.add(revocation("bob")).await.unwrap();
    drop((a, b));
    let mut listed = register().await.list().await.unwrap();
    listed.sort_by_key(|one| format!("{:?}", one.subject));
    assert_eq!(listed, [revocation("ann"), revocation("bob")]);
}
