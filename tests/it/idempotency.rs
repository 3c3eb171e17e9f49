//! Idempotent publishing.

use http::Method;
use serde_json::json;
use tidings::proto::{Audience, PublishRequest};

use crate::harness::{Config, Server, Token, event, refused_fields};

fn once(channel: &str, n: u64) -> PublishRequest {
    PublishRequest {
        idempotency_key: "order-7".into(),
        ..event(channel, "a.b", json!({ "n": n }))
    }
}

#[tokio::test]
async fn repeated_key_returns_first_id_and_position() {
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
async fn idempotency_key_is_scoped_to_channel() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    let first = service.send(once("room:1", 1)).await;
    let other = service.send(once("room:2", 1)).await;
    assert_ne!(first.id, other.id);
    assert!(!other.results[0].duplicate);
}

#[tokio::test]
async fn repeated_key_is_found_without_history() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    let first = service.send(once("plain:1", 1)).await;
    let repeat = service.send(once("plain:1", 1)).await;
    assert_eq!(repeat.id, first.id);
    assert!(repeat.results[0].duplicate);
}

#[tokio::test]
async fn repeated_key_of_browser_is_found() {
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
async fn concurrent_repeats_publish_once() {
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

#[tokio::test]
async fn idempotency_key_requires_channel() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    let audience = Audience {
        users: vec!["alice".into()],
        ..Audience::default()
    };
    let direct = PublishRequest {
        channels: Vec::new(),
        audience: Some(audience),
        ..once("room:1", 1)
    };
    let refused = service.try_send(direct.clone()).await.unwrap_err();
    assert_eq!(refused_fields(&refused), ["idempotency_key"]);
    let token = Token::new("service").roles(&["service"]).sign();
    let body = json!({ "type": "a.b", "data": 1, "audience": { "users": ["alice"] },
        "idempotency_key": "order-7" });
    let answer = server
        .http(
            Method::POST,
            "/api/v1/events",
            &[
                ("authorization", &format!("Bearer {token}")),
                ("content-type", "application/json"),
            ],
            &body.to_string(),
        )
        .await;
    let problem = answer.assert_problem(400);
    assert!(problem.to_string().contains("idempotency_key"), "{problem}");
    // Without a key it goes directly to the audience, and with one it needs a channel.
    let keyless = PublishRequest {
        idempotency_key: String::new(),
        ..direct.clone()
    };
    service.send(keyless).await;
    let in_a_channel = PublishRequest {
        channels: vec!["room:1".into()],
        ..direct
    };
    service.send(in_a_channel.clone()).await;
    let repeat = service.send(in_a_channel).await;
    assert!(repeat.results[0].duplicate);
}
