//! Who is silent too long is gone.

use serde_json::Value;

use crate::harness::{Config, Server, Token};

async fn quick_server() -> Server {
    let config = Config::rooms()
        .set("heartbeat.interval", r#""1s""#)
        .set("heartbeat.timeout", r#""2s""#);
    Server::start(config).await
}

#[tokio::test]
async fn answered_pings_keep_a_connection_alive() {
    let server = quick_server().await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    assert_eq!(ws.established["heartbeat_interval_ms"], 1000);
    assert_eq!(ws.established["heartbeat_timeout_ms"], 2000);
    // Longer than the timeout; tungstenite answers the Pings, nothing else is sent.
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
async fn silence_past_the_timeout_closes_with_4408() {
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
async fn a_heartbeat_response_counts_as_life() {
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
async fn a_clients_ping_is_answered_with_its_payload() {
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
