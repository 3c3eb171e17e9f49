//! Statistics are correct.

use std::time::{Duration, Instant};

use serde_json::json;
use tidings::proto::{GetStatsRequest, Stats, WatchStatsRequest};

use crate::harness::{Config, Server, eventually, within};

async fn stats(server: &Server) -> Stats {
    let answer = server
        .admin()
        .await
        .get_stats(GetStatsRequest::default())
        .await
        .unwrap();
    answer.into_inner().stats.unwrap()
}

#[tokio::test]
async fn connections_are_counted() {
    let server = Server::start(Config::rooms()).await;
    let before = stats(&server).await;
    assert!(!before.node.is_empty());
    assert!(before.uptime.is_some());
    let mut one = server.ws().token("alice", &[]).connect().await;
    one.ask(json!({"type": "register", "client_type": "web", "client_name": "n"}))
        .await;
    let two = server.ws().token("bob", &[]).connect().await;
    let now = stats(&server).await.connections.unwrap();
    assert_eq!((now.now, now.peak, now.total), (2, 2, 2));
    assert_eq!(now.by_transport.get("websocket"), Some(&2));
    assert_eq!(now.by_client_type.get("web"), Some(&1));
    assert_eq!(now.by_client_type.get("unknown"), Some(&1));

    two.close().await;
    let after = eventually("one to be left", async || {
        stats(&server).await.connections.filter(|c| c.now == 1)
    })
    .await;
    assert_eq!((after.peak, after.total), (2, 2));
}

#[tokio::test]
async fn events_are_counted() {
    let server = Server::start(Config::rooms()).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    let mut bob = server.ws().token("bob", &[]).connect().await;
    alice.subscribe("room:1").await;
    bob.subscribe_with("room:1", json!({"filter": "event.data.n > 7"}))
        .await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=10).await;
    alice.numbers("count.up", 10).await;
    bob.numbers("count.up", 3).await;

    let now = eventually("all to be counted", async || {
        let now = stats(&server).await;
        (now.events.as_ref().unwrap().delivered >= 13).then_some(now)
    })
    .await;
    let events = now.events.unwrap();
    assert_eq!(events.published, 10);
    assert_eq!(events.delivered, 13);
    assert_eq!(events.filtered, 7);
    assert_eq!(
        (events.dropped, events.conflated, events.replayed),
        (0, 0, 0)
    );
    assert_eq!(events.by_type.get("count.up"), Some(&10));
    assert!(now.subscriptions >= 2);
    assert!(now.channels >= 1);
    assert!(now.bytes_in > 0 && now.bytes_out > 0);
    assert!(now.latency.unwrap().max.is_some());

    let mut late = server.ws().token("late", &[]).connect().await;
    late.subscribe_with("room:1", json!({"rewind": 4})).await;
    late.numbers("count.up", 4).await;
    let replayed = eventually("the replay to be counted", async || {
        let replayed = stats(&server).await.events.unwrap().replayed;
        (replayed > 0).then_some(replayed)
    })
    .await;
    assert_eq!(replayed, 4);
}

#[tokio::test]
async fn refused_requests_are_counted() {
    let server = Server::start(Config::rooms()).await;
    let before = stats(&server).await;
    assert_eq!(before.auth_failures, 0);
    server
        .refused_upgrade("/ws", &[("Authorization", "Bearer garbage")])
        .await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    let nowhere =
        json!({"type": "publish", "channel": "nowhere:1", "event_type": "a.b", "data": 1});
    alice.refused(nowhere, "permission_denied").await;
    let now = stats(&server).await;
    assert_eq!(now.auth_failures, 1);
    assert_eq!(
        now.errors.get("permission_denied"),
        Some(&1),
        "{:?}",
        now.errors
    );
}

#[tokio::test]
async fn stats_can_be_watched() {
    let server = Server::start(Config::rooms()).await;
    let mut admin = server.admin().await;
    let interval = Some(prost_types::Duration {
        seconds: 0,
        nanos: 100_000_000,
    });
    let started = Instant::now();
    let request = WatchStatsRequest { interval };
    let mut stream = admin.watch_stats(request).await.unwrap().into_inner();
    for _ in 0..5 {
        let next = within("stats", stream.message()).await.unwrap().unwrap();
        assert_eq!(next.stats.unwrap().connections.unwrap().now, 0);
    }
    assert!(
        started.elapsed() >= Duration::from_millis(250),
        "not faster than asked"
    );
    let _alice = server.ws().token("alice", &[]).connect().await;
    eventually("the new connection to be seen", async || {
        let next = stream.message().await.unwrap().unwrap();
        (next.stats.unwrap().connections.unwrap().now == 1).then_some(())
    })
    .await;

    for nanos in [1_000, 0] {
        let interval = Some(prost_types::Duration { seconds: 0, nanos });
        let refused = match admin.watch_stats(WatchStatsRequest { interval }).await {
            Err(status) => status,
            Ok(stream) => stream.into_inner().message().await.unwrap_err(),
        };
        assert_eq!(
            refused.code(),
            tonic::Code::InvalidArgument,
            "{nanos} ns: {refused}"
        );
    }
}
