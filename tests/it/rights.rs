//! Permissions that change during a connection.

use serde_json::json;

use crate::harness::{Config, Server, Token, eventually};

fn editors_only() -> Config {
    Config::new().namespace(
        "desk",
        "history = { size = 10, ttl = \"1h\" }\nsubscribe = '\"editor\" in roles'",
    )
}

#[tokio::test]
async fn reload_that_closes_namespace_ends_subscriptions() {
    let open = Config::new().namespace("desk", "subscribe = 'true'");
    let server = Server::start(open).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    let mut eve = server.ws().token("eve", &["editor"]).connect().await;
    alice.subscribe("desk:1").await;
    eve.subscribe("desk:1").await;

    server.reload(&editors_only());
    let notified = alice.expect("unsubscribed").await;
    assert_eq!(notified["channels"], json!(["desk:1"]));
    assert_eq!(
        notified["reason"]["code"], "permission_denied",
        "{notified}"
    );
    let mut service = server.publisher("service").await;
    service.publish("desk:1", "a.b", json!({"n": 1})).await;
    service.publish("global", "fence", json!({})).await;
    eve.expect_event("a.b").await;
    alice.expect_event("fence").await;
    assert!(alice.unread().all(|message| message["type"] != "a.b"));
}

#[tokio::test]
async fn renewal_with_fewer_roles_ends_subscriptions() {
    let server = Server::start(editors_only()).await;
    let mut alice = server.ws().token("alice", &["editor"]).connect().await;
    alice.subscribe("desk:1").await;
    let token = Token::new("alice").sign();
    let reply = alice
        .ask(json!({"type": "authenticate", "token": token}))
        .await;
    assert_eq!(reply["type"], "authenticated");
    let notified = alice.expect("unsubscribed").await;
    assert_eq!(notified["channels"], json!(["desk:1"]));
    alice.lives().await;
}

#[tokio::test]
async fn settings_before_authentication_are_kept() {
    let config = Config::rooms().set("auth.required", "false");
    let server = Server::start(config).await;
    let mut ws = server.ws().connect().await;
    let narrow = json!({"type": "subscribe", "event_types": ["wanted"]});
    ws.ask(narrow).await;
    let token = Token::new("alice").sign();
    ws.ask(json!({"type": "authenticate", "token": token}))
        .await;
    let mut service = server.publisher("service").await;
    eventually("alice's own channel", async || {
        let sent = service.publish("user:alice", "hello", json!({})).await;
        (sent.results[0].subscribers == 1).then_some(())
    })
    .await;
    service.publish("global", "unwanted", json!({})).await;
    service.publish("global", "wanted", json!({})).await;
    ws.expect_event("wanted").await;
    assert!(ws.unread().all(|message| message["type"] != "unwanted"));
}
