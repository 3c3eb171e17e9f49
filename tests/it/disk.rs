//! History on disk: acknowledged events survive any end of the process.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tidings::proto::PublishRequest;
use tokio::task::JoinSet;

use crate::harness::{Config, Server, event, eventually};

fn config(durability: &str) -> Config {
    Config::rooms()
        .set("history.storage", r#""disk""#)
        .set("history.durability", &format!("{durability:?}"))
        .set("server.drain", r#""1s""#)
}

fn since(channel: &str, reply: &Value, offset: u64) -> Value {
    json!({"since": {channel: {"epoch": reply["epoch"], "offset": offset}}})
}

#[tokio::test]
async fn kill_9_loses_no_acknowledged_event_and_keeps_the_epoch() {
    let server = Server::start(config("fsync")).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let before = ws.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=10).await;
    assert_eq!(ws.numbers("count.up", 10).await.len(), 10);

    let server = Server::start_in(server.kill().await, config("fsync")).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let reply = ws
        .subscribe_with("room:1", since("room:1", &before, 4))
        .await;
    assert_eq!(reply["recovered"], true, "{reply}");
    assert_eq!(reply["replayed"], 6, "{reply}");
    assert_eq!(reply["epoch"], before["epoch"]);
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 11..=12).await;
    assert_eq!(
        ws.numbers("count.up", 8).await,
        [5, 6, 7, 8, 9, 10, 11, 12],
        "each once, and the old ones first"
    );
}

#[tokio::test]
async fn kill_9_under_load_loses_no_acknowledged_event() {
    let server = Server::start(config("fsync")).await;
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut publishers = JoinSet::new();
    for publisher in 0..8_u64 {
        let mut service = server.publisher("service").await;
        let acknowledged = Arc::clone(&acknowledged);
        publishers.spawn(async move {
            for n in 0.. {
                let number = publisher * 1_000_000 + n;
                let request = event("room:1", "count.up", json!({ "n": number }));
                let Ok(answer) = service.try_send(request).await else {
                    return;
                };
                let position = answer.results[0].position.clone().unwrap();
                acknowledged.lock().unwrap().push((position.offset, number));
            }
        });
    }
    eventually("some events", async || {
        (acknowledged.lock().unwrap().len() >= 500).then_some(())
    })
    .await;
    let dir = server.kill().await;
    publishers.join_all().await;

    let server = Server::start_in(dir, config("fsync")).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let reply = ws.subscribe_with("room:1", json!({"rewind": 5000})).await;
    let kept = usize::try_from(reply["replayed"].as_u64().unwrap()).unwrap();
    let mut found = Vec::new();
    for offset in 1..=kept {
        let event = ws.expect_event("count.up").await;
        assert_eq!(event["offset"], offset, "no hole");
        found.push(event["data"]["n"].as_u64().unwrap());
    }
    let acknowledged = acknowledged.lock().unwrap();
    assert!(acknowledged.len() <= found.len());
    for (offset, number) in acknowledged.iter() {
        let place = usize::try_from(*offset).unwrap() - 1;
        assert_eq!(found[place], *number, "offset {offset}");
    }
}

#[tokio::test]
async fn idempotency_key_survives_kill_9() {
    let once = || PublishRequest {
        idempotency_key: "order-7".into(),
        ..event("room:1", "a.b", json!(1))
    };
    let server = Server::start(config("fsync")).await;
    let first = server.publisher("service").await.send(once()).await;

    let server = Server::start_in(server.kill().await, config("fsync")).await;
    let mut service = server.publisher("service").await;
    let again = service.send(once()).await;
    assert_eq!(again.id, first.id);
    assert_eq!(again.results[0].position, first.results[0].position);
    assert!(again.results[0].duplicate);
    let next = service.publish("room:1", "a.b", json!(2)).await;
    assert_eq!(next.results[0].position.as_ref().unwrap().offset, 2);
}

#[tokio::test]
async fn async_store_starts_new_epoch_after_kill_9() {
    let server = Server::start(config("async")).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let before = ws.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=3).await;
    assert_eq!(ws.numbers("count.up", 3).await, [1, 2, 3]);

    let server = Server::start_in(server.kill().await, config("async")).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let reply = ws
        .subscribe_with("room:1", since("room:1", &before, 3))
        .await;
    assert_eq!(reply["recovered"], false, "{reply}");
    assert_ne!(reply["epoch"], before["epoch"]);
}

#[tokio::test]
async fn async_store_keeps_epoch_after_clean_stop() {
    let server = Server::start(config("async")).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let before = ws.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=3).await;

    let server = Server::start_in(server.stop().await, config("async")).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let reply = ws
        .subscribe_with("room:1", since("room:1", &before, 1))
        .await;
    assert_eq!(reply["recovered"], true, "{reply}");
    assert_eq!(ws.numbers("count.up", 2).await, [2, 3]);
}

#[tokio::test]
async fn second_process_cannot_open_store() {
    let first = Server::start(config("fsync")).await;
    let path = first.path("tidings-data");
    let config = config("fsync").set("history.path", &format!("{path:?}"));
    let (status, reported) = Server::refuses(config).await;
    assert!(!status.success());
    assert!(
        reported.contains("another process is using this store"),
        "{reported}"
    );
    assert!(reported.contains(path.to_str().unwrap()), "{reported}");
}

#[tokio::test]
async fn damaged_store_is_refused_with_explanation() {
    let server = Server::start(config("fsync")).await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=3).await;
    let dir = server.kill().await;
    let journal = dir.path().join("tidings-data/log/0.jnl");
    let mut bytes = std::fs::read(&journal).unwrap();
    let at = bytes.windows(8).position(|w| w == b"count.up").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&journal, bytes).unwrap();

    let (status, reported) = Server::refuses_in(dir.path(), config("fsync")).await;
    assert!(!status.success());
    assert!(reported.contains("the store is damaged"), "{reported}");
    assert!(reported.contains("tidings-data"), "{reported}");
}

#[tokio::test]
async fn event_published_by_browser_is_stored() {
    let server = Server::start(config("fsync")).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let reply = ws.publish("room:1", "a.b", json!({"n": 7})).await;
    assert_eq!(reply["offset"], 1, "{reply}");

    let server = Server::start_in(server.kill().await, config("fsync")).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe_with("room:1", json!({"rewind": 1})).await;
    assert_eq!(ws.numbers("a.b", 1).await, [7]);
}
