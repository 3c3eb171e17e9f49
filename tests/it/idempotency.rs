//! Publishing again what may have been published already.

use serde_json::json;
use tidings::proto::PublishRequest;

use crate::harness::{Config, Server, event};

fn once(channel: &str, n: u64) -> PublishRequest {
    PublishRequest {
        idempotency_key: "order-7".into(),
        ..event(channel, "a.b", json!({ "n": n }))
    }
}

#[tokio::test]
async fn a_repeat_answers_the_first_ones_id_and_position() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let mut service = server.publisher("service").await;

    let first = service.send(once("room:1", 1)).await;
    let repeat = service.send(once("room:1", 2)).await;
    assert_eq!(repeat.id, first.id);
    assert_eq!(repeat.results[0].position, first.results[0].position);
    assert!(!first.results[0].duplicate);
    assert!(repeat.results[0].duplicate);

    service.publish("room:1", "fence", json!({})).await;
    let got = ws.until("fence").await;
    assert_eq!(got.len(), 1, "delivered once: {got:?}");
    assert_eq!(got[0]["data"], json!({"n": 1}));
}

#[tokio::test]
async fn a_key_counts_for_its_channel_only() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    let first = service.send(once("room:1", 1)).await;
    let other = service.send(once("room:2", 1)).await;
    assert_ne!(first.id, other.id);
    assert!(!other.results[0].duplicate);
}

#[tokio::test]
async fn a_repeat_in_a_channel_without_history_is_found_too() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    let first = service.send(once("plain:1", 1)).await;
    let repeat = service.send(once("plain:1", 1)).await;
    assert_eq!(repeat.id, first.id);
    assert!(repeat.results[0].duplicate);
}

#[tokio::test]
async fn a_browsers_repeat_is_found() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let message = json!({
        "type": "publish", "channel": "room:1", "event_type": "a.b", "data": 1,
        "idempotency_key": "once",
    });
    ws.send(message.clone()).await;
    let first = ws.expect("published").await;
    ws.send(message).await;
    let repeat = ws.expect("published").await;
    assert_eq!(first["id"], repeat["id"]);
    assert_eq!(first["offset"], repeat["offset"]);
    assert_eq!(repeat["duplicate"], true, "{repeat}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_only_one_is_published() {
    let server = Server::start(Config::rooms()).await;
    let service = server.publisher("service").await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let mut service = service.clone();
        tasks.spawn(async move { service.send(once("room:1", n)).await });
    }
    let answers = tasks.join_all().await;
    let fresh = answers.iter().filter(|a| !a.results[0].duplicate).count();
    assert_eq!(fresh, 1, "{answers:?}");
    assert!(answers.iter().all(|a| a.id == answers[0].id));
}
