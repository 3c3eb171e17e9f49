//! The upgrade from long polling to a WebSocket, step by step.

use http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::socketio::Polling;
use crate::harness::{Config, Server, Token, eventually, within};

async fn publish(server: &Server, n: u64) {
    let token = Token::new("backend").roles(&["service"]).sign();
    let token = format!("Bearer {token}");
    let headers = [("Authorization", token.as_str())];
    let body = json!({ "channels": ["room:1"], "type": "a.b", "data": n }).to_string();
    let answer = server
        .http(Method::POST, "/api/v1/events", &headers, &body)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn subscribed(server: &Server) -> Polling<'_> {
    let client = server.polling().await;
    client.connect(&Token::new("ada")).await;
    client
        .send(&[r#"420["subscribe",{"room":"room:1"}]"#])
        .await;
    client.until("430[").await;
    client
}

/// The data of an event packet.
fn number(packet: &str) -> u64 {
    let event: serde_json::Value = serde_json::from_str(&packet[2..]).unwrap();
    event[1]["data"].as_u64().unwrap()
}

#[tokio::test]
async fn unpolled_packets_come_first_on_websocket() {
    let server = Server::start(Config::socketio()).await;
    let client = subscribed(&server).await;
    let mut socket = client.try_websocket().await.unwrap();
    socket.send("2probe").await;
    assert_eq!(socket.text().await, "3probe");
    // The waiting poll ends meanwhile, so that the client can stop polling.
    assert_eq!(client.packets().await, ["6"]);
    // Still by polling: the client has not upgraded.
    publish(&server, 1).await;
    let by_poll = client.until("42[").await;
    assert_eq!(number(&by_poll), 1);
    for n in 2..=4 {
        publish(&server, n).await;
    }
    socket.send("5").await;
    for n in 2..=4 {
        assert_eq!(number(&socket.text().await), n);
    }
    publish(&server, 5).await;
    assert_eq!(number(&socket.text().await), 5);
    socket.send(r#"421["ping"]"#).await;
    assert!(socket.text().await.starts_with("431[{"));
    assert_eq!(server.metric("tidings_transport_upgrades_total").await, 1);
    assert_eq!(server.metric("tidings_polling_sessions").await, 0);
    for answer in [client.get().await, client.post("3").await] {
        assert_eq!(answer.status, 400, "nothing is left to poll");
        assert_eq!(answer.json()["code"], 1);
    }
    assert_eq!(client.try_websocket().await.err(), Some(400));
}

#[tokio::test]
async fn upgrade_probe_ends_waiting_poll() {
    let server = Server::start(Config::socketio()).await;
    let client = subscribed(&server).await;
    let mut socket = client.try_websocket().await.unwrap();
    let probe = async {
        socket.send("2probe").await;
        socket.text().await
    };
    let (poll, probe) = tokio::join!(client.packets(), probe);
    assert_eq!((poll, probe.as_str()), (vec!["6".to_owned()], "3probe"));
    // Packets after the upgrade packet are read by the shard.
    socket.send("5").await;
    socket.send(r#"421["ping"]"#).await;
    assert!(socket.text().await.starts_with("431[{"));
}

#[tokio::test]
async fn failed_upgrade_leaves_client_polling() {
    let server = Server::start(Config::socketio()).await;
    let client = subscribed(&server).await;
    for wrong in ["5", "2", "40", "3probe", "x"] {
        // The previous attempt has ended once the next one is allowed.
        let mut socket = eventually("another attempt", async || {
            client.try_websocket().await.ok()
        })
        .await;
        socket.send(wrong).await;
        let (code, reported) = socket.closed().await;
        assert_eq!((code, reported.as_str()), (None, ""), "{wrong}");
    }
    publish(&server, 1).await;
    assert_eq!(number(&client.until("42[").await), 1);
}

#[tokio::test]
async fn only_one_upgrade_at_a_time() {
    let server = Server::start(Config::socketio()).await;
    let client = subscribed(&server).await;
    let mut first = client.try_websocket().await.unwrap();
    assert_eq!(client.try_websocket().await.err(), Some(400));
    first.send("2probe").await;
    assert_eq!(first.text().await, "3probe");
    first.send("5").await;
    publish(&server, 1).await;
    assert_eq!(number(&first.until("42[").await), 1);
}

#[tokio::test]
async fn upgrade_before_namespace_works() {
    let server = Server::start(Config::socketio()).await;
    let client = server.polling().await;
    let mut socket = client.try_websocket().await.unwrap();
    socket.send("2probe").await;
    assert_eq!(socket.text().await, "3probe");
    socket.send("5").await;
    let token = Token::new("ada").sign();
    socket
        .send(&format!(r#"40/ws,{{"token":"{token}"}}"#))
        .await;
    assert!(socket.text().await.starts_with("40/ws,{"));
    socket.until("42/ws,[\"connection_established\"").await;
}

#[tokio::test]
async fn handshake_token_stays_valid_after_upgrade() {
    let server = Server::start(Config::socketio()).await;
    let token = format!("Bearer {}", Token::new("grace").sign());
    let headers = [("Authorization", token.as_str())];
    let query = "EIO=4&transport=polling";
    let answer = server.engine_with(Method::GET, query, &headers, "").await;
    let open: serde_json::Value = serde_json::from_str(&answer.text()[1..]).unwrap();
    let more = format!("&sid={}", open["sid"].as_str().unwrap());
    let mut socket = server.engine_ws(&more, &[]).await.unwrap();
    socket.send("2probe").await;
    assert_eq!(socket.text().await, "3probe");
    socket.send("5").await;
    socket.send("40").await;
    let greeting = socket.until("42[\"connection_established\"").await;
    assert!(greeting.contains("\"user\":\"grace\""), "{greeting}");
}

#[tokio::test]
async fn connection_end_cancels_upgrade() {
    let server = Server::start(Config::socketio()).await;
    let client = subscribed(&server).await;
    let mut socket = client.try_websocket().await.unwrap();
    socket.send("2probe").await;
    assert_eq!(socket.text().await, "3probe");
    client.send(&["1"]).await;
    socket.send("5").await;
    let (_, reported) = socket.closed().await;
    assert_eq!(reported, "");
    eventually("nothing is left", async || {
        let sessions = server.metric("tidings_polling_sessions").await;
        let connections = r#"tidings_connections{transport="socketio"}"#;
        (sessions + server.metric(connections).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn post_after_upgrade_is_refused() {
    let server = Server::start(Config::socketio()).await;
    let client = subscribed(&server).await;
    let packet = r#"421["ping"]"#;
    let head = format!(
        "POST /socket.io/?EIO=4&transport=polling&sid={} HTTP/1.1\r\nHost: {}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n4",
        client.sid,
        server.public,
        packet.len()
    );
    let mut post = TcpStream::connect(&server.public).await.unwrap();
    post.write_all(head.as_bytes()).await.unwrap();
    let mut socket = client.try_websocket().await.unwrap();
    socket.send("2probe").await;
    assert_eq!(socket.text().await, "3probe");
    socket.send("5").await;
    socket.send(r#"422["ping"]"#).await;
    assert!(socket.text().await.starts_with("432[{"));
    post.write_all(&packet.as_bytes()[1..]).await.unwrap();
    let mut answer = String::new();
    within("an answer", post.read_to_string(&mut answer))
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // None of it was interleaved with the frames.
    socket.send(r#"423["ping"]"#).await;
    assert!(socket.text().await.starts_with("433[{"));
}
