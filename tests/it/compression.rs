//! permessage-deflate (RFC 7692).

use std::io::Read as _;

use flate2::read::DeflateDecoder;
use serde_json::{Value, json};

use crate::harness::{Config, RawWs, Server, Token};

const OFFER: &str = "permessage-deflate; client_max_window_bits";

async fn connect(server: &Server, offer: Option<&str>) -> RawWs {
    let token = format!("Bearer {}", Token::new("alice").sign());
    let mut headers = vec![("Authorization", token.as_str())];
    headers.extend(offer.map(|offer| ("Sec-WebSocket-Extensions", offer)));
    RawWs::connect(&server.public, &headers).await
}

/// Decompresses a message (RFC 7692 §7.2.2).
fn inflated(payload: &[u8]) -> Value {
    let whole = [payload, &[0x00, 0x00, 0xff, 0xff]].concat();
    let mut text = Vec::new();
    // There is no final block, so the decoder expects more input after the text.
    let _ = DeflateDecoder::new(whole.as_slice()).read_to_end(&mut text);
    serde_json::from_slice(&text).expect("JSON when inflated")
}

#[tokio::test]
async fn compression_is_negotiated_without_context_takeover() {
    let server = Server::start(Config::rooms()).await;
    let head = connect(&server, Some(OFFER))
        .await
        .head
        .to_ascii_lowercase();
    assert!(head.contains("permessage-deflate"), "{head}");
    assert!(head.contains("server_no_context_takeover"), "{head}");
    for offer in [None, Some("x-unknown-extension")] {
        let head = connect(&server, offer).await.head.to_ascii_lowercase();
        assert!(!head.contains("sec-websocket-extensions"), "{head}");
    }
}

#[tokio::test]
async fn compression_can_be_disabled() {
    let server = Server::start(Config::rooms().set("websocket.compression", "false")).await;
    let head = connect(&server, Some(OFFER))
        .await
        .head
        .to_ascii_lowercase();
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
}

#[tokio::test]
async fn large_event_arrives_compressed_and_intact() {
    let server = Server::start(Config::rooms()).await;
    let mut packed = connect(&server, Some(OFFER)).await;
    let mut plain = connect(&server, None).await;
    // The first message belongs to the auto-subscriptions.
    for ws in [&mut packed, &mut plain] {
        ws.next().await.expect("connection_established");
    }
    let data = json!({"text": "again and ".repeat(2000)});
    let mut service = server.publisher("service").await;
    for _ in 0..3 {
        service.publish("global", "large", data.clone()).await;
    }
    let mut seen = 0;
    while seen < 3 {
        let frame = packed.next().await.expect("a frame");
        let message = match (frame.opcode, frame.compressed) {
            (1, true) => inflated(&frame.payload),
            (1, false) => serde_json::from_slice(&frame.payload).unwrap(),
            _ => continue,
        };
        if message["type"] == "large" {
            assert!(frame.compressed && frame.payload.len() < 2000);
            assert_eq!(message["data"], data, "each message by itself");
            seen += 1;
        }
    }
    loop {
        let frame = plain.next().await.expect("a frame");
        assert!(!frame.compressed, "nobody gets what it did not agree to");
        if frame.opcode == 1 && frame.text().contains("\"large\"") {
            break;
        }
    }
}
