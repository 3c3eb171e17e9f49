//! The lifetime of Socket.IO connections.

use http::Method;
use serde_json::json;

use crate::harness::{Config, Server, Token, eventually};

async fn publish(server: &Server, channel: &str, data: &str) {
    let token = Token::new("backend").roles(&["service"]).sign();
    let token = format!("Bearer {token}");
    let headers = [("Authorization", token.as_str())];
    let body = json!({ "channels": [channel], "type": "a.b", "data": data }).to_string();
    let answer = server
        .http(Method::POST, "/api/v1/events", &headers, &body)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn pings_are_sent_each_interval_to_active_clients() {
    let config = Config::socketio()
        .set("heartbeat.interval", r#""300ms""#)
        .set("heartbeat.timeout", r#""900ms""#)
        .set("limits.messages_per_second", "0");
    let server = Server::start(config).await;
    let mut client = server.socketio(&Token::new("ada")).await;
    let mut pings = 0;
    while pings < 4 {
        client.send(r#"420["ping"]"#).await;
        if client.text().await == "2" {
            client.send("3").await;
            pings += 1;
        }
    }
    let admin = Token::new("root").roles(&["admin"]);
    let listed = server.get_as(&admin, "/api/v1/connections").await.json();
    let trip = &listed["connections"][0]["round_trip_ms"];
    assert!(trip.as_f64().is_some_and(|ms| ms > 0.0), "{listed}");
}

#[tokio::test]
async fn silent_connection_closes() {
    let config = Config::socketio()
        .set("heartbeat.interval", r#""300ms""#)
        .set("heartbeat.timeout", r#""900ms""#);
    let server = Server::start(config).await;
    let mut client = server.socketio(&Token::new("ada")).await;
    assert_eq!(client.closed().await, (Some(4408), "2".to_owned()));
}

#[tokio::test]
async fn client_that_joins_no_namespace_is_closed() {
    let config = Config::socketio().set("auth.deadline", r#""1s""#);
    let server = Server::start(config).await;
    let mut client = server.engine_ws("", &[]).await.unwrap();
    assert_eq!(client.closed().await.0, Some(4401));
}

#[tokio::test]
async fn expired_token_disconnects_so_that_client_reconnects() {
    let server = Server::start(Config::socketio().set("auth.leeway", r#""0s""#)).await;
    let brief = Token::new("ada").expires_in(2);
    let mut client = server.socketio(&brief).await;
    let (code, last) = client.closed().await;
    assert_eq!(code, Some(4401));
    assert!(last.starts_with("42[\"error\",{"), "{last}");
    assert!(last.contains("unauthenticated"), "{last}");
}

#[tokio::test]
async fn token_is_renewed_on_open_connection() {
    let server = Server::start(Config::socketio()).await;
    let mut client = server.socketio(&Token::new("ada").expires_in(30)).await;
    let renewed = json!({ "token": Token::new("ada").sign() });
    client
        .send(&format!(r#"421["authenticate",{renewed}]"#))
        .await;
    let ack = client.until("431[").await;
    assert!(ack.contains("\"user\":\"ada\""), "{ack}");
}

#[tokio::test]
async fn user_connection_limit_applies_to_socketio() {
    let config = Config::socketio().set("limits.connections_per_user", "1");
    let server = Server::start(config).await;
    let _first = server.socketio(&Token::new("ada")).await;
    let mut second = server.engine_ws("", &[]).await.unwrap();
    second.until("0{").await;
    let token = Token::new("ada").sign();
    second.send(&format!(r#"40{{"token":"{token}"}}"#)).await;
    let refusal = second.text().await;
    assert!(refusal.starts_with("44{"), "{refusal}");
    assert!(refusal.contains("resource_exhausted"), "{refusal}");
}

#[tokio::test]
async fn server_connection_limit_applies_to_socketio() {
    let config = Config::socketio().set("limits.connections", "1");
    let server = Server::start(config).await;
    let first = server.polling().await;
    let query = "EIO=4&transport=polling";
    let refused = server.engine(Method::GET, query, "").await;
    refused.assert_problem(503);
    assert_eq!(server.engine_ws("", &[]).await.err(), Some(503));
    first.send(&["1"]).await;
    eventually("a place", async || {
        let answer = server.engine(Method::GET, query, "").await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn slow_poller_is_closed_within_outbox_limit() {
    let config = Config::socketio().set("limits.outbox_bytes", "65536");
    let server = Server::start(config).await;
    let client = server.polling().await;
    client.connect(&Token::new("ada")).await;
    client
        .send(&[r#"420["subscribe",{"room":"room:1"}]"#])
        .await;
    client.until("430[").await;
    let big = "x".repeat(20_000);
    eventually("it is found too slow", async || {
        publish(&server, "room:1", &big).await;
        let closes = server.metric(r#"tidings_closes_total{code="4411"}"#).await;
        (closes == 1).then_some(())
    })
    .await;
    let mut bytes = 0;
    let end = loop {
        let answer = client.get().await;
        assert_eq!(answer.status, 200);
        if answer.text() == "1" {
            break answer;
        }
        bytes += answer.body.len();
    };
    assert_eq!(end.text(), "1", "it hears of its end");
    assert!(bytes < 64 * 1024 + 65_536 + 30_000, "{bytes} bytes waited");
}

#[tokio::test]
async fn draining_server_advises_reconnect_and_admits_none() {
    let mut server = Server::start(Config::socketio()).await;
    let polling = server.polling().await;
    polling.connect(&Token::new("ada")).await;
    let mut direct = server.socketio(&Token::new("eve")).await;
    server.signal("TERM");
    let advice = polling.until("42[\"reconnect\"").await;
    assert!(advice.contains("\"reason\":\"restart\""), "{advice}");
    let (code, last) = direct.closed().await;
    assert_eq!(code, Some(1012));
    assert!(last.starts_with("42[\"reconnect\",{\"after_ms\":") || last.contains("after_ms"));
    // Polling clients are told as well, before the listener closes.
    assert_eq!(polling.until("1").await, "1");
    assert!(server.ended().await.success());
}

#[tokio::test]
async fn operator_disconnect_is_final() {
    let server = Server::start(Config::socketio()).await;
    let admin = format!("Bearer {}", Token::new("root").roles(&["admin"]).sign());
    let headers = [("Authorization", admin.as_str())];
    let mut direct = server.socketio(&Token::new("ada")).await;
    let polling = server.polling().await;
    polling.connect(&Token::new("eve")).await;
    for user in ["ada", "eve"] {
        let path = format!("/api/v1/connections?user={user}");
        let answer = server.http(Method::DELETE, &path, &headers, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(direct.closed().await, (Some(4410), "41".to_owned()));
    assert_eq!(polling.packets().await, ["41"]);
    assert_eq!(polling.packets().await, ["1"]);
    assert_eq!(polling.get().await.status, 400);
}

#[tokio::test]
async fn reload_keeps_connections_open() {
    let config = Config::socketio();
    let server = Server::start(config.clone()).await;
    let client = server.polling().await;
    client.connect(&Token::new("ada")).await;
    client
        .send(&[r#"420["subscribe",{"room":"room:1"}]"#])
        .await;
    client.until("430[").await;
    server.reload(&config.set("limits.message_bytes", "2000"));
    eventually("the new limit", async || {
        let payload = &server.polling().await.handshake["maxPayload"];
        (payload == 2000).then_some(())
    })
    .await;
    publish(&server, "room:1", "still").await;
    client.until("42[\"a.b\"").await;
    let mut socket = client.try_websocket().await.unwrap();
    socket.send("2probe").await;
    socket.text().await;
    socket.send("5").await;
    publish(&server, "room:1", "and still").await;
    socket.until("42[\"a.b\"").await;
}

#[tokio::test]
async fn client_gone_during_poll_is_removed_at_once() {
    let server = Server::start(Config::socketio()).await;
    let client = server.polling().await;
    client.connect(&Token::new("ada")).await;
    // Drains the queue, so that the next poll waits.
    let connections = "tidings_connections{transport=\"socketio\"}";
    assert_eq!(server.metric(connections).await, 1);
    let poll = tokio::time::timeout(std::time::Duration::from_millis(300), client.get());
    assert!(poll.await.is_err(), "nothing to say, so the poll waits");
    eventually("the connection to end", async || {
        (server.metric(connections).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn polling_continues_after_dialect_is_removed() {
    let server = Server::start(Config::socketio()).await;
    let client = server.polling().await;
    client.connect(&Token::new("ada")).await;
    client
        .send(&[r#"420["subscribe",{"room":"room:1"}]"#])
        .await;
    client.until("430[").await;
    server.reload(&Config::rooms());
    eventually("nobody new to be taken", async || {
        let open = "EIO=4&transport=polling";
        let answer = server.engine(Method::GET, open, "").await;
        (answer.status == 404).then_some(())
    })
    .await;
    publish(&server, "room:1", "still").await;
    client.until("42[\"a.b\"").await;
    client.send(&[r#"421["ping"]"#]).await;
    client.until("431[").await;
    let mut socket = client.try_websocket().await.unwrap();
    socket.send("2probe").await;
    socket.text().await;
    socket.send("5").await;
    publish(&server, "room:1", "and still").await;
    socket.until("42[\"a.b\"").await;
}
