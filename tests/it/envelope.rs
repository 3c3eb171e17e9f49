//! The event envelope equals its documentation.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::json;
use tidings::proto::PublishRequest;
use uuid::Uuid;

use crate::harness::{Config, Server, event};

#[tokio::test]
async fn envelope_has_documented_fields() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:42").await;
    ws.subscribe("plain:42").await;
    let mut service = server.publisher("service").await;

    let answer = service
        .publish("room:42", "room.updated", json!({"a": [1, null]}))
        .await;
    let text = ws.expect_text("room.updated").await;
    assert!(
        text.starts_with(r#"{"type":"room.updated""#),
        "`type` first: {text}"
    );
    let got: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(got["channel"], "room:42");
    assert_eq!(got["id"], answer.id.as_str());
    assert_eq!(Uuid::parse_str(&answer.id).unwrap().get_version_num(), 7);
    assert_eq!(got["offset"], 1);
    assert_eq!(got["data"], json!({"a": [1, null]}));
    assert!(
        got["headers"].is_null(),
        "no headers where none were given: {got}"
    );
    assert!(
        got["data_base64"].is_null() && got["content_type"].is_null(),
        "{got}"
    );

    // RFC 3339 in UTC with milliseconds: 2026-11-21T10:00:00.123Z
    let timestamp = got["timestamp"].as_str().unwrap();
    let shape: String = timestamp
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{timestamp}");

    service.publish("plain:42", "plain.updated", json!(1)).await;
    let got = ws.expect_event("plain.updated").await;
    assert!(
        got.get("offset").is_none(),
        "no offset without history: {got}"
    );
}

#[tokio::test]
async fn publisher_timestamp_is_kept() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let mut request = event("room:1", "a.b", json!({}));
    request.time = Some(prost_types::Timestamp {
        seconds: 1_700_000_000,
        nanos: 123_000_000,
    });
    server.publisher("service").await.send(request).await;
    assert_eq!(
        ws.expect_event("a.b").await["timestamp"],
        "2023-11-14T22:13:20.123Z"
    );
}

#[tokio::test]
async fn json_data_is_unchanged() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    let mut stream = service.follow(&["room:1"]).await;
    let payloads = [
        r#"{ "a" :1 ,"b":[ 1.0,1e5, 1E+05,-0.0 ]   }"#,
        r#"{"n":12345678901234567890123456789012345678901234567890.10}"#,
        r#"{"same":1,"same":2}"#,
        r#"{"text":"\u00e9\/ é 😀 \ud83d\ude00 \u2028"}"#,
        "{\"tab\"\t:\t1}",
        r#""just a string""#,
        "0.1e-7",
        "null",
        "true",
        "[]",
        "{}",
    ];
    for payload in payloads {
        let request = PublishRequest {
            data: Bytes::from_static(payload.as_bytes()),
            ..event("room:1", "exact.bytes", json!(0))
        };
        service.send(request).await;
        let text = ws.expect_text("exact.bytes").await;
        assert!(
            text.contains(&format!("\"data\":{payload}")),
            "{payload} became {text}"
        );
        assert_eq!(stream.event().await.data, payload.as_bytes());
    }
}

#[tokio::test]
async fn headers_source_and_key_arrive_with_event() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    let mut stream = service.follow(&["room:1"]).await;

    let headers: HashMap<String, String> = [
        ("tenant".into(), "acme".into()),
        ("x".into(), "\"quoted\"".into()),
    ]
    .into();
    let request = PublishRequest {
        headers: headers.clone(),
        source: "billing".into(),
        ..event("room:1", "a.b", json!({}))
    };
    let answer = service.send(request).await;
    let got = ws.expect_event("a.b").await;
    assert_eq!(got["headers"], json!({"tenant": "acme", "x": "\"quoted\""}));

    let got = stream.event().await;
    assert_eq!(got.id, answer.id);
    assert_eq!(got.headers, headers);
    assert_eq!(got.source, "billing");
    assert_eq!(got.position, answer.results[0].position);
    assert!(got.content_type.is_empty() || got.content_type == "application/json");

    service.publish("room:1", "a.c", json!({})).await;
    assert_eq!(
        stream.event().await.source,
        "backend",
        "the token's user if none is given"
    );
}

#[tokio::test]
async fn non_json_payload_is_base64_with_media_type() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    let mut stream = service.follow(&["room:1"]).await;
    let bytes: Vec<u8> = (0..=255).collect();
    let request = PublishRequest {
        data: bytes.clone().into(),
        content_type: "application/octet-stream".into(),
        ..event("room:1", "a.b", json!(0))
    };
    service.send(request).await;

    let got = ws.expect_event("a.b").await;
    assert_eq!(got["content_type"], "application/octet-stream");
    let data = got["data_base64"].as_str().expect("data_base64");
    assert_eq!(BASE64_STANDARD.decode(data).unwrap(), bytes);
    assert!(got.get("data").is_none(), "{got}");
    let got = stream.event().await;
    assert_eq!(got.data, bytes);
    assert_eq!(got.content_type, "application/octet-stream");
}

#[tokio::test]
async fn publisher_trace_continues_in_event() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut request = tonic::Request::new(event("room:1", "a.b", json!({})));
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    request
        .metadata_mut()
        .insert("traceparent", parent.parse().unwrap());
    server
        .publisher("service")
        .await
        .events
        .publish(request)
        .await
        .unwrap();
    let got = ws.expect_event("a.b").await;
    let parent = got["traceparent"].as_str().expect("traceparent");
    assert!(parent.starts_with(&format!("00-{trace}-")), "{parent}");
}
