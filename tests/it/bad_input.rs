//! Invalid input: each gets a helpful error, and the connection stays open.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Config, Server, Token};

/// Expects an `error` as the next message, and checks that the connection stays open.
async fn refused(server: &Server, text: &str) -> Value {
    let mut ws = server.ws().token("alice", &["editor"]).connect().await;
    ws.send_text(text).await;
    let error = ws.expect("error").await;
    assert_eq!(error["code"], "invalid_argument", "{text}: {error}");
    assert!(
        error["message"].as_str().is_some_and(|m| !m.is_empty()),
        "{error}"
    );
    ws.lives().await;
    error
}

#[tokio::test]
async fn invalid_messages_are_refused() {
    let server = Server::start(Config::rooms()).await;
    for text in [
        "",
        " ",
        "hello",
        "{",
        "{\"type\":\"ping\"",
        "{\"type\":\"ping\"} trailing",
        "{'type':'ping'}",
        "[]",
        "[{\"type\":\"ping\"}]",
        "5",
        "null",
        "true",
        "\"ping\"",
        "\u{feff}{\"type\":",
        "{\"type\":\"ping\",}",
    ] {
        refused(&server, text).await;
    }
}

#[tokio::test]
async fn invalid_type_is_named() {
    let server = Server::start(Config::rooms()).await;
    for text in [
        "{}",
        r#"{"id":1}"#,
        r#"{"type":5}"#,
        r#"{"type":null}"#,
        r#"{"type":["ping"]}"#,
    ] {
        let error = refused(&server, text).await;
        assert!(error.to_string().contains("`type`") || error.to_string().contains("type"));
    }
    let error = refused(&server, r#"{"type":"no_such_thing"}"#).await;
    assert!(error.to_string().contains("no_such_thing"), "{error}");
    refused(&server, r#"{"type":""}"#).await;
    refused(&server, r#"{"type":"PING"}"#).await;
    refused(&server, r#"{"type":"connection_established"}"#).await;
}

#[tokio::test]
async fn invalid_argument_is_named() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &["editor"]).connect().await;
    let long = "x".repeat(256);
    let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
    let deep: Value = serde_json::from_str(&deep).unwrap();
    let publish = |channel: &str, event_type: &str| json!({"type": "publish", "channel": channel, "event_type": event_type, "data": {}});
    let table = [
        ("token", json!({"type": "authenticate"})),
        ("token", json!({"type": "authenticate", "token": 5})),
        ("channels", json!({"type": "subscribe"})),
        ("channels", json!({"type": "subscribe", "channels": 5})),
        ("channels", json!({"type": "subscribe", "channels": [5]})),
        (
            "channels",
            json!({"type": "subscribe", "channels": {"room:1": true}}),
        ),
        (
            "event_types",
            json!({"type": "subscribe", "channels": ["room:1"], "event_types": 5}),
        ),
        (
            "filter",
            json!({"type": "subscribe", "channels": ["room:1"], "filter": 5}),
        ),
        (
            "filter",
            json!({"type": "subscribe", "channels": ["room:1"], "filter": "event.("}),
        ),
        (
            "since",
            json!({"type": "subscribe", "channels": ["room:1"], "since": "yesterday"}),
        ),
        (
            "rewind",
            json!({"type": "subscribe", "channels": ["room:1"], "rewind": "all"}),
        ),
        (
            "rewind",
            json!({"type": "subscribe", "channels": ["room:1"], "rewind": -1}),
        ),
        (
            "channels",
            json!({"type": "unsubscribe", "channels": "room:1 and more"}),
        ),
        (
            "channel",
            json!({"type": "publish", "event_type": "a.b", "data": 1}),
        ),
        ("channel", publish("", "a.b")),
        ("channel", publish("room:with space", "a.b")),
        ("channel", publish("room:ümlaut", "a.b")),
        ("channel", publish("room:*", "a.b")),
        ("channel", publish("room:\n", "a.b")),
        ("channel", publish(&format!("room:{long}"), "a.b")),
        (
            "event_type",
            json!({"type": "publish", "channel": "room:1", "data": 1}),
        ),
        ("event_type", publish("room:1", "")),
        ("event_type", publish("room:1", "1.starts.with.a.digit")),
        ("event_type", publish("room:1", "with space")),
        ("event_type", publish("room:1", "with:colon")),
        ("event_type", publish("room:1", &long)),
        (
            "data",
            json!({"type": "publish", "channel": "room:1", "event_type": "a.b", "data": deep}),
        ),
        (
            "headers",
            json!({"type": "publish", "channel": "room:1", "event_type": "a.b",
                           "data": 1, "headers": "none"}),
        ),
        (
            "headers",
            json!({"type": "publish", "channel": "room:1", "event_type": "a.b",
                           "data": 1, "headers": {"a": 5}}),
        ),
        (
            "key",
            json!({"type": "publish", "channel": "room:1", "event_type": "a.b",
                       "data": 1, "key": long}),
        ),
        (
            "idempotency_key",
            json!({"type": "publish", "channel": "room:1", "event_type": "a.b",
                                   "data": 1, "idempotency_key": long}),
        ),
        ("channel", json!({"type": "history", "limit": 5})),
        (
            "limit",
            json!({"type": "history", "channel": "room:1", "limit": "five"}),
        ),
        ("channel", json!({"type": "presence"})),
        (
            "channel",
            json!({"type": "presence", "channel": ["room:1"]}),
        ),
    ];
    for (field, message) in table {
        let error = ws.refused(message.clone(), "invalid_argument").await;
        let reported = format!("{}{}", error["message"], error["details"]);
        assert!(
            reported.contains(field),
            "{message} does not name {field}: {error}"
        );
    }
    ws.lives().await;
}

#[tokio::test]
async fn control_message_names_are_not_event_types() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    for name in [
        "authenticate",
        "authenticated",
        "register",
        "registered",
        "subscribe",
        "subscribed",
        "unsubscribe",
        "unsubscribed",
        "publish",
        "published",
        "history",
        "presence",
        "ping",
        "pong",
        "heartbeat",
        "heartbeat_response",
        "connection_established",
        "presence_joined",
        "presence_left",
        "token_expiring",
        "gap",
        "reconnect",
        "error",
    ] {
        let message =
            json!({"type": "publish", "channel": "room:1", "event_type": name, "data": 1});
        let error = ws.refused(message, "invalid_argument").await;
        assert!(error.to_string().contains("event_type"), "{name}: {error}");
    }
}

#[tokio::test]
async fn limits_equal_documented_values() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let channel = format!("room:{}", "x".repeat(250));
    let event_type = format!("t{}", "x".repeat(127));
    ws.subscribe(&channel).await;
    ws.publish(&channel, &event_type, json!(1)).await;
    ws.expect_event(&event_type).await;
    ws.publish("room:AZaz09_-.:@/~", "AZaz09_-.", json!(1))
        .await;

    let deep: Value =
        serde_json::from_str(&format!("{}{}", "[".repeat(64), "]".repeat(64))).unwrap();
    ws.publish(&channel, "deep", deep.clone()).await;
    assert_eq!(ws.expect_event("deep").await["data"], deep);
}

#[tokio::test]
async fn harmless_unknown_fields_are_ignored() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let ping = json!({"type": "ping", "later": {"a": [1, 2]}, "client_time": 5});
    assert_eq!(ws.ask(ping).await["type"], "pong");
    let subscribe = json!({"type": "subscribe", "channels": ["room:1"], "since_when": 5});
    let refused = ws.refused(subscribe, "invalid_argument").await;
    let reported = refused["message"].as_str().unwrap();
    assert!(reported.starts_with("since_when: "), "{reported}");
}

#[tokio::test]
async fn invalid_request_id_is_harmless() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    for id in [json!({"a": 1}), json!([1]), json!(true)] {
        ws.send(json!({"type": "ping", "id": id})).await;
        let reply = ws.next_or_close().await.expect("an answer");
        assert!(
            reply["type"] == "pong" || reply["code"] == "invalid_argument",
            "{reply}"
        );
        ws.lives().await;
    }
}

#[tokio::test]
async fn binary_message_closes_1003() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.send_message(Message::binary(&br#"{"type":"ping"}"#[..]))
        .await;
    ws.expect_close(1003).await;
}

#[tokio::test]
async fn invalid_utf8_closes_1007() {
    let server = Server::start(Config::rooms()).await;
    for bytes in [
        &b"{\"type\":\"\xff\"}"[..],
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xf5\x80\x80\x80",
    ] {
        let mut ws = server.raw_ws(&Token::new("alice")).await;
        ws.send(0x81, bytes).await;
        assert_eq!(ws.close_code().await, 1007, "{bytes:?}");
    }
}

#[tokio::test]
async fn oversized_message_closes_1009() {
    let server = Server::start(Config::rooms().set("limits.message_bytes", "2048")).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let fits = json!({"type": "ping", "pad": "x".repeat(1800)});
    assert_eq!(ws.ask(fits).await["type"], "pong");
    ws.send_text(&json!({"type": "ping", "pad": "x".repeat(2100)}).to_string())
        .await;
    ws.expect_close(1009).await;

    // Nor in many small pieces.
    let mut ws = server.raw_ws(&Token::new("alice")).await;
    ws.send(0x01, &[b' '; 1000]).await;
    ws.send(0x00, &[b' '; 1000]).await;
    ws.send(0x00, &[b' '; 1000]).await;
    assert_eq!(ws.close_code().await, 1009);
}

#[tokio::test]
async fn protocol_violation_closes_1002() {
    let server = Server::start(Config::rooms()).await;
    let table: [(&str, &[u8]); 5] = [
        ("no mask", b"\x81\x02{}"),
        ("reserved opcode", b"\x83\x80\0\0\0\0"),
        ("reserved bit", b"\xa1\x80\0\0\0\0"),
        ("continuation of nothing", b"\x80\x80\0\0\0\0"),
        ("fragmented ping", b"\x09\x80\0\0\0\0"),
    ];
    for (what, bytes) in table {
        let mut ws = server.raw_ws(&Token::new("alice")).await;
        ws.send_bytes(bytes).await;
        assert_eq!(ws.close_code().await, 1002, "{what}");
    }
}

#[tokio::test]
async fn fragments_with_ping_between_form_one_message() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.raw_ws(&Token::new("alice")).await;
    ws.send(0x01, br#"{"type":"#).await;
    ws.send(0x89, b"!").await;
    ws.send(0x00, br#""ping","#).await;
    ws.send(0x80, br#""id":"pieces"}"#).await;
    loop {
        let frame = ws.next().await.expect("a frame");
        if frame.opcode == 1 && frame.text().contains("\"pong\"") {
            assert!(frame.text().contains("\"pieces\""), "{}", frame.text());
            break;
        }
    }
}
