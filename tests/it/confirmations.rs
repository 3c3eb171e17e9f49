//! Delivery confirmations: only sampled receivers are asked, and each counts once.

use serde_json::{Value, json};

use crate::harness::{Collector, Config, Server, Ws, attribute, eventually};

const TAKEN: &str = "tidings_confirmations_total{outcome=\"taken\"}";
const UNKNOWN: &str = "tidings_confirmations_total{outcome=\"unknown\"}";
const IMPLAUSIBLE: &str = "tidings_confirmations_total{outcome=\"implausible\"}";
const LATENCY: &str = "tidings_end_to_end_latency_seconds_count";

async fn all_asked() -> Server {
    let config = Config::rooms().set("telemetry.confirmations", "1.0");
    Server::start(config).await
}

async fn subscriber(server: &Server, user: &str, channel: &str) -> Ws {
    let mut ws = server.ws().token(user, &[]).connect().await;
    ws.subscribe(channel).await;
    ws
}

/// What the client library sends, in the year 2001.
fn receive(event: &Value) -> Value {
    json!({
        "type": "receive", "id": event["id"], "channel": event["channel"],
        "received_at": "2001-01-01T00:00:00.000Z", "handled_at": "2001-01-01T00:00:00.001Z",
    })
}

async fn counts(server: &Server, series: &str, count: u64) {
    eventually(&format!("{series} = {count}"), async || {
        (server.metric(series).await == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn confirmation_latency_ignores_client_clock_skew() {
    let server = all_asked().await;
    let mut alice = subscriber(&server, "alice", "room:1").await;
    let mut service = server.publisher("service").await;
    service.publish("room:1", "a.b", json!({"n": 1})).await;
    let event = alice.expect_event("a.b").await;
    assert_eq!(event["confirm"], true);
    assert_eq!(event["data"], json!({"n": 1}));
    alice.send(receive(&event)).await;
    alice.lives().await;
    assert_eq!(server.metric("tidings_confirmations_asked_total").await, 1);
    assert_eq!(server.metric(TAKEN).await, 1);
    assert_eq!(server.metric(LATENCY).await, 1);
    // A latency above ten seconds would be the client clock's error of decades.
    let ten = "tidings_end_to_end_latency_seconds_bucket{le=\"10.0\"}";
    assert_eq!(server.metric(ten).await, 1);
}

#[tokio::test]
async fn only_receiver_confirms_event_and_once() {
    let server = all_asked().await;
    let mut alice = subscriber(&server, "alice", "room:1").await;
    let mut mallory = subscriber(&server, "mallory", "room:2").await;
    let mut service = server.publisher("service").await;
    service.publish("room:1", "a.b", json!({})).await;
    let event = alice.expect_event("a.b").await;
    let mut elsewhere = event.clone();
    elsewhere["channel"] = "room:2".into();
    let mut invented = event.clone();
    invented["id"] = "01980000-0000-7000-8000-000000000000".into();
    for other in [&elsewhere, &invented] {
        alice.send(receive(other)).await;
    }
    mallory.send(receive(&event)).await;
    mallory.lives().await;
    counts(&server, UNKNOWN, 3).await;
    for _ in 0..2 {
        alice.send(receive(&event)).await;
    }
    alice.lives().await;
    assert_eq!(server.metric(UNKNOWN).await, 4);
    assert_eq!(
        (server.metric(TAKEN).await, server.metric(LATENCY).await),
        (1, 1)
    );
}

#[tokio::test]
async fn impossible_confirmation_times_are_ignored() {
    let server = all_asked().await;
    let mut alice = subscriber(&server, "alice", "room:1").await;
    let mut service = server.publisher("service").await;
    for (n, handled) in (1..).zip(["2000-01-01T00:00:00Z", "2099-01-01T00:00:00Z"]) {
        service.publish("room:1", "a.b", json!({})).await;
        let mut reported = receive(&alice.expect_event("a.b").await);
        reported["handled_at"] = handled.into();
        alice.send(reported).await;
        alice.lives().await;
        assert_eq!(server.metric(IMPLAUSIBLE).await, n);
    }
    assert_eq!(server.metric(LATENCY).await, 0);
}

#[tokio::test]
async fn malformed_confirmation_is_refused() {
    let server = all_asked().await;
    let mut alice = subscriber(&server, "alice", "room:1").await;
    let good = json!({"id": "01980000-0000-7000-8000-000000000000", "channel": "room:1"});
    for (name, value) in [
        ("id", json!("none")),
        ("id", Value::Null),
        ("channel", json!("not a channel")),
        ("received_at", json!(5)),
        ("handled_at", json!("yesterday")),
        ("sent_at", json!("")),
    ] {
        let mut reported = receive(&good);
        reported[name] = value;
        alice.send(reported).await;
        let error = alice.expect("error").await;
        assert_eq!(error["code"], "invalid_argument", "{name}");
    }
    alice.lives().await;
}

#[tokio::test]
async fn confirmations_are_off_by_default() {
    let server = Server::start(Config::rooms()).await;
    let mut alice = subscriber(&server, "alice", "room:1").await;
    let mut service = server.publisher("service").await;
    service.publish("room:1", "a.b", json!({})).await;
    assert_eq!(alice.expect_event("a.b").await.get("confirm"), None);

    let server = all_asked().await;
    let events = server.ws().protocol("cloudevents.json");
    let mut other = events.token("alice", &[]).connect().await;
    other.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    service.publish("room:1", "a.b", json!({})).await;
    assert!(!other.expect_text("a.b").await.contains("confirm"));
    assert_eq!(server.metric("tidings_confirmations_asked_total").await, 0);
}

#[tokio::test]
async fn confirmations_are_sampled() {
    let config = Config::rooms()
        .set("telemetry.confirmations", "1.0")
        .set("telemetry.connections_per_event", "2")
        .set("server.shards", "1");
    let server = Server::start(config).await;
    let mut many = Vec::new();
    for n in 0..10 {
        many.push(subscriber(&server, &format!("user{n}"), "room:1").await);
    }
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=20).await;
    let mut asked = 0;
    for ws in &mut many {
        for n in 1..=20 {
            let event = ws.expect_event("count.up").await;
            assert_eq!(event["data"]["n"], n);
            asked += u64::from(event.get("confirm").is_some());
        }
    }
    assert_eq!(asked, 40);
    assert_eq!(server.metric("tidings_confirmations_asked_total").await, 40);
}

#[tokio::test]
async fn confirmation_appears_in_trace() {
    let collector = Collector::start().await;
    let config = collector.of(Config::rooms().set("telemetry.delivery_spans", "0.0"));
    let server = Server::start(config).await;
    let mut alice = subscriber(&server, "alice", "room:1").await;
    let mut service = server.publisher("service").await;
    service.publish("room:1", "a.b", json!({})).await;
    let event = alice.expect_event("a.b").await;
    assert_eq!(event["confirm"], true);
    alice.send(receive(&event)).await;
    let fanout = collector.one("fanout").await;
    let received = collector.one("receive").await;
    assert_eq!(received.trace_id, fanout.trace_id);
    assert_eq!(received.parent_span_id, fanout.span_id);
    assert!(received.start_time_unix_nano >= fanout.start_time_unix_nano);
    assert!(received.end_time_unix_nano >= received.start_time_unix_nano);
    assert_eq!(attribute(&received, "messaging.client.id"), alice.id());
    // The page's clock is in 2001.
    let offset: i64 = attribute(&received, "tidings.clock_offset_ms")
        .parse()
        .unwrap();
    assert!(offset < -500_000_000_000, "{offset}");
    assert_eq!(collector.named("deliver").len(), 0);
}
