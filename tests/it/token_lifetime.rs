//! Token expiry and renewal on open connections.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Config, Server, Token};

async fn strict_server() -> Server {
    let config = Config::rooms()
        .set("auth.leeway", r#""0s""#)
        .set("heartbeat.interval", r#""1s""#)
        .set("heartbeat.timeout", r#""5s""#);
    Server::start(config).await
}

#[tokio::test]
async fn expired_token_closes_connection_4401() {
    let server = strict_server().await;
    let token = Token::new("alice").expires_in(3).sign();
    let mut ws = server.ws().bearer(&token).connect().await;
    let warning = ws.expect("token_expiring").await;
    assert!(!warning["expires_at"].is_null(), "{warning}");
    ws.expect_close(4401).await;
}

#[tokio::test]
async fn renewed_token_keeps_connection_open() {
    let server = strict_server().await;
    let started = Instant::now();
    let token = Token::new("alice").expires_in(3).sign();
    let mut ws = server.ws().bearer(&token).connect().await;
    ws.subscribe("room:1").await;
    let renewed = Token::new("alice").sign();
    let reply = ws
        .ask(json!({"type": "authenticate", "token": renewed}))
        .await;
    assert_eq!(reply["type"], "authenticated", "{reply}");
    assert_eq!(reply["user"], "alice");
    while started.elapsed() < Duration::from_secs(5) {
        ws.expect("heartbeat").await;
    }
    server
        .publisher("service")
        .await
        .publish("room:1", "a.b", json!({}))
        .await;
    ws.expect_event("a.b").await;
}

#[tokio::test]
async fn renewal_refuses_invalid_or_foreign_token() {
    let server = strict_server().await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.refused(
        json!({"type": "authenticate", "token": "garbage"}),
        "unauthenticated",
    )
    .await;
    let expired = Token::new("alice").expires_in(-60).sign();
    ws.refused(
        json!({"type": "authenticate", "token": expired}),
        "unauthenticated",
    )
    .await;
    let other = Token::new("mallory").sign();
    let reply = ws
        .ask(json!({"type": "authenticate", "token": other}))
        .await;
    assert_eq!(reply["type"], "error", "{reply}");

    let id = ws.id();
    let request = tidings::proto::GetConnectionRequest { connection_id: id };
    let answer = server
        .admin()
        .await
        .get_connection(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.connection.unwrap().user, "alice");
    ws.lives().await;
}

#[tokio::test]
async fn renewal_updates_permissions() {
    let server = strict_server().await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let message =
        json!({"type": "publish", "channel": "project:1", "event_type": "a.b", "data": 1});
    ws.refused(message.clone(), "permission_denied").await;
    let promoted = Token::new("alice").roles(&["editor"]).sign();
    let reply: Value = ws
        .ask(json!({"type": "authenticate", "token": promoted}))
        .await;
    assert_eq!(reply["roles"], json!(["editor"]));
    assert_eq!(ws.ask(message).await["type"], "published");
}
