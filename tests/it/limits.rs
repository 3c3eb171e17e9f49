//! Configured limits and their errors.

use serde_json::json;
use tonic_types::StatusExt as _;

use crate::harness::{Config, Server, Token, event, eventually};

fn bearer(user: &str) -> String {
    format!("Bearer {}", Token::new(user).sign())
}

/// Checks that one more upgrade is refused, and that a freed slot can be used.
async fn is_full(server: &Server, user: &str, held: crate::harness::Ws) {
    let token = bearer(user);
    let refused = server
        .refused_upgrade("/ws", &[("Authorization", &token)])
        .await;
    assert!(matches!(refused.status, 429 | 503), "{refused:?}");
    let status = refused.status;
    assert_eq!(
        refused.assert_problem(status)["code"],
        "resource_exhausted",
        "{refused:?}"
    );
    held.close().await;
    eventually("a free place", async || {
        server.ws().token(user, &[]).upgrade().await.ok()
    })
    .await;
}

#[tokio::test]
async fn connections_of_node_are_limited() {
    let server = Server::start(Config::rooms().set("limits.connections", "2")).await;
    let _one = server.ws().token("alice", &[]).connect().await;
    let two = server.ws().token("bob", &[]).connect().await;
    is_full(&server, "carol", two).await;
}

#[tokio::test]
async fn connections_of_user_are_limited() {
    let server = Server::start(Config::rooms().set("limits.connections_per_user", "2")).await;
    let _one = server.ws().token("alice", &[]).connect().await;
    let two = server.ws().token("alice", &[]).connect().await;
    server.ws().token("bob", &[]).connect().await.lives().await;
    is_full(&server, "alice", two).await;
}

#[tokio::test]
async fn connections_of_address_are_limited() {
    let server = Server::start(Config::rooms().set("limits.connections_per_ip", "2")).await;
    let _one = server.ws().token("alice", &[]).connect().await;
    let two = server.ws().token("bob", &[]).connect().await;
    is_full(&server, "carol", two).await;
}

async fn slow_lane() -> Server {
    let config = Config::rooms()
        .set("limits.messages_per_second", "5")
        .set("limits.messages_burst", "10");
    Server::start(config).await
}

#[tokio::test]
async fn messages_over_rate_are_refused_then_accepted() {
    let server = slow_lane().await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    for n in 0..15 {
        ws.send(json!({"type": "ping", "id": n})).await;
    }
    let error = ws.expect("error").await;
    assert_eq!(error["code"], "resource_exhausted", "{error}");
    let wait = error["retry_after_ms"].as_u64().expect("retry_after_ms");
    assert!((1..=10_000).contains(&wait), "{error}");
    eventually("a message to be taken again", async || {
        tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
        (ws.ask(json!({"type": "ping"})).await["type"] == "pong").then_some(())
    })
    .await;
}

#[tokio::test]
async fn persistent_flood_closes_4429() {
    let server = slow_lane().await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    for _ in 0..20_000 {
        ws.send(json!({"type": "ping"})).await;
        match ws.next_or_close().await {
            Ok(reply) => assert!(
                reply["type"] == "pong" || reply["type"] == "error",
                "{reply}"
            ),
            Err(code) => {
                assert_eq!(code, 4429);
                return;
            }
        }
    }
    panic!("20,000 messages where 5 a second are allowed, and still open");
}

#[tokio::test]
async fn publisher_over_rate_gets_retry_after() {
    let config = Config::rooms()
        .set("limits.publishes_per_second", "1")
        .set("limits.publishes_burst", "2");
    let server = Server::start(config).await;
    let mut user = server.publisher_as(&Token::new("eve")).await;
    let mut refused = None;
    for _ in 0..5 {
        if let Err(status) = user.try_send(event("room:1", "a.b", json!({}))).await {
            refused = Some(status);
        }
    }
    let refused = refused.expect("five at once are more than a burst of two");
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
    let retry = refused
        .get_details_retry_info()
        .expect("RetryInfo")
        .retry_delay;
    assert!(retry.is_some_and(|delay| !delay.is_zero()), "{retry:?}");
    // Another user has its own rate limit, and a service has none.
    server
        .publisher_as(&Token::new("ann"))
        .await
        .publish("room:1", "a.b", json!({}))
        .await;
    let mut service = server.publisher("service").await;
    for _ in 0..20 {
        service.publish("room:1", "a.b", json!({})).await;
    }
}

#[tokio::test]
async fn oversized_event_is_refused() {
    let server = Server::start(Config::rooms().set("limits.event_bytes", "4096")).await;
    let mut service = server.publisher("service").await;
    service
        .publish("room:1", "a.b", json!("x".repeat(3000)))
        .await;
    let big = event("room:1", "a.b", json!("x".repeat(5000)));
    let refused = service.try_send(big).await.unwrap_err();
    let code = refused.code();
    let fitting = [
        tonic::Code::InvalidArgument,
        tonic::Code::ResourceExhausted,
        tonic::Code::OutOfRange,
    ];
    assert!(fitting.contains(&code), "{refused}");
    service.publish("room:1", "a.b", json!("still here")).await;
}

#[tokio::test]
async fn channel_creation_per_user_is_limited() {
    let config = Config::rooms().set("limits.channels_per_minute", "5");
    let server = Server::start(config).await;
    let mut eve = server.ws().token("eve", &[]).connect().await;
    let mut service = server.publisher("service").await;
    service.publish("room:known", "a.b", json!({})).await;
    let mut refused = None;
    for n in 0..10 {
        // Subscribing, reading and publishing count alike, even if the channel is left at once.
        let message = match n % 3 {
            0 => json!({"type": "subscribe", "channels": [format!("room:{n}")]}),
            1 => json!({"type": "history", "channel": format!("room:{n}")}),
            _ => {
                let channel = format!("room:{n}");
                json!({"type": "publish", "channel": channel, "event_type": "a.b", "data": 1})
            }
        };
        let reply = eve.ask(message).await;
        if reply.to_string().contains("resource_exhausted") {
            refused = Some(reply);
        }
    }
    let refused = refused.expect("ten are more than five").to_string();
    assert!(refused.contains("limits.channels_per_minute"), "{refused}");
    // Existing channels do not count, and others have their own limit.
    eve.subscribe("room:known").await;
    eve.subscribe("room:0").await;
    eve.subscribe("plain:no-history").await;
    let mut bob = server.ws().token("bob", &[]).connect().await;
    bob.subscribe("room:of-bob").await;
    service
        .publish("room:of-the-service", "a.b", json!({}))
        .await;
    let series = "tidings_limit_reached_total{limit=\"channels_per_minute\"}";
    assert!(server.metric(series).await > 0);
}
