//! Heartbeats: silent connections are closed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Config, Server, Token};

async fn quick_server() -> Server {
    let config = Config::rooms()
        .set("heartbeat.interval", r#""1s""#)
        .set("heartbeat.timeout", r#""2s""#);
    Server::start(config).await
}

#[tokio::test]
async fn answered_pings_keep_connection_open() {
    let server = quick_server().await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    assert_eq!(ws.established["heartbeat_interval_ms"], 1000);
    assert_eq!(ws.established["heartbeat_timeout_ms"], 2000);
    // Longer than the timeout. tungstenite answers Pings, and nothing else is sent.
    for _ in 0..4 {
        let heartbeat = ws.expect("heartbeat").await;
        assert!(heartbeat["timestamp"].is_string(), "{heartbeat}");
    }
    assert!(
        ws.pings >= 2,
        "a Ping goes with the heartbeats: {}",
        ws.pings
    );
    ws.lives().await;
}

#[tokio::test]
async fn silent_connection_closes_4408() {
    let server = quick_server().await;
    let mut silent = server.raw_ws(&Token::new("alice")).await;
    let (mut pings, mut heartbeats) = (0, 0);
    let code = loop {
        let frame = silent.next().await.expect("a close frame before the end");
        match frame.opcode {
            1 => {
                let message: Value = serde_json::from_str(frame.text()).unwrap();
                heartbeats += usize::from(message["type"] == "heartbeat");
            }
            9 => pings += 1,
            _ => break frame.close_code(),
        }
    };
    assert_eq!(code, Some(4408));
    assert!(
        pings >= 1 && heartbeats >= 1,
        "{pings} Pings, {heartbeats} heartbeats"
    );
}

#[tokio::test]
async fn heartbeat_response_keeps_connection_open() {
    let server = quick_server().await;
    let mut client = server.raw_ws(&Token::new("alice")).await;
    let mut heartbeats = 0;
    // Never answers a Ping, always answers a heartbeat, for longer than the timeout.
    while heartbeats < 4 {
        let frame = client.next().await.expect("a frame");
        assert_ne!(frame.opcode, 8, "closed with {:?}", frame.close_code());
        if frame.opcode == 1 && frame.text().contains("\"heartbeat\"") {
            heartbeats += 1;
            client.send(0x81, br#"{"type":"heartbeat_response"}"#).await;
        }
    }
}

#[tokio::test]
async fn idle_grpc_stream_carries_heartbeats_and_stays_open() {
    let server = quick_server().await;
    let mut service = server.publisher("service").await;
    let mut stream = service.follow(&["room:1"]).await;
    // Longer than the timeout, which does not apply to a client that can't answer.
    for _ in 0..4 {
        stream.heartbeat().await;
    }
    service.count("room:1", "count.up", 1..=1).await;
    assert_eq!(stream.numbers(1).await, [1]);
}

#[tokio::test]
async fn client_ping_is_answered_with_its_payload() {
    let server = quick_server().await;
    let mut client = server.raw_ws(&Token::new("alice")).await;
    client.send(0x89, b"are you there").await;
    loop {
        let frame = client.next().await.expect("a frame");
        if frame.opcode == 10 {
            assert_eq!(frame.payload, b"are you there");
            break;
        }
    }
}

/// Stops the process (SIGSTOP) for this long, as suspending a machine does. The duration itself is
/// what is tested.
pub(crate) async fn stall(server: &Server, lasts: Duration) {
    server.signal("STOP");
    tokio::time::sleep(lasts).await;
    server.signal("CONT");
}

#[tokio::test]
async fn server_stall_closes_no_connection() {
    let config = Config::rooms()
        .set("heartbeat.interval", r#""2s""#)
        .set("heartbeat.timeout", r#""4s""#)
        .set("auth.deadline", r#""4s""#);
    let server = Server::start(config).await;
    let mut clients = Vec::new();
    for n in 0..3 {
        clients.push(server.ws().token(&format!("user-{n}"), &[]).connect().await);
    }
    let mut nobody = server.ws().connect().await;
    // A client that was silent before the stall is given its time as well.
    let mut silent = server.raw_ws(&Token::new("silent")).await;
    stall(&server, Duration::from_secs(7)).await;
    let token = Token::new("late").sign();
    let authenticate = json!({"type": "authenticate", "token": token});
    // Concurrently, because they answer Pings only while being read.
    let lives = clients.iter_mut().map(|ws| async {
        ws.lives().await;
        // The connection stays open.
        ws.expect("heartbeat").await;
        ws.lives().await;
    });
    let (reply, code, _) = tokio::join!(
        nobody.ask(authenticate),
        silent.close_code(),
        futures_util::future::join_all(lives),
    );
    assert_eq!(reply["type"], "authenticated", "{reply}");
    // A client that stays silent is closed.
    assert_eq!(code, 4408);
    for part in ["shard", "runtime"] {
        let stalls = format!("tidings_stalls_total{{part={part:?}}}");
        assert!(server.metric(&stalls).await >= 1, "{part}");
    }
}

#[tokio::test]
async fn messages_sent_during_stall_pass_rate_limit() {
    let config = Config::rooms()
        .set("limits.messages_per_second", "20")
        .set("limits.messages_burst", "5");
    let server = Server::start(config).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    server.signal("STOP");
    // At 10 per second, for five seconds.
    for id in 0..50 {
        ws.send(json!({"type": "ping", "id": id})).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.signal("CONT");
    for _ in 0..50 {
        let answer = ws.expect("pong").await;
        assert!(answer["id"].is_number());
    }
    assert!(ws.unread().all(|message| message["type"] != "error"));
}
