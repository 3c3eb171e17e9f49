//! Filters with overlapping subscriptions: effects on invisible events, on the same channel's other
//! subscriptions, and on the rest of the shard.

use serde_json::{Value, json};
use tidings::proto::{Audience, PublishRequest};

use crate::harness::{Config, Publisher, Server, Ws, event};

/// Exceeds the steps of one evaluation.
const COSTLY: &str = "data.list.exists(x, x > 8)";

fn one_shard() -> Config {
    Config::rooms().set("server.shards", "1")
}

async fn publish_to(service: &mut Publisher, user: &str, channel: &str, data: Value) {
    let audience = Audience {
        users: vec![user.to_owned()],
        ..Audience::default()
    };
    let request = PublishRequest {
        audience: Some(audience),
        ..event(channel, "secret.told", data)
    };
    service.send(request).await;
}

#[tokio::test]
async fn filter_is_not_evaluated_for_invisible_events() {
    let config = one_shard()
        .event_type("ops.only", "roles = ['ops']")
        .set("limits.filter_steps", "2000")
        .set("limits.outbox_bytes", "50000");
    let server = Server::start(config).await;
    let mut service = server.publisher("service").await;
    let mut eve = server.ws().token("eve", &[]).connect().await;
    let channels = ["room:1", "plain:1"];
    for channel in channels {
        eve.subscribe_with(channel, json!({ "filter": COSTLY }))
            .await;
        // Large enough to be deferred, costly enough to be reported, and too many to be buffered.
        for kib in [1, 40, 80, 80] {
            let data = json!({ "list": vec![7; kib * 512] });
            publish_to(&mut service, "bob", channel, data.clone()).await;
            service.publish(channel, "ops.only", data).await;
        }
    }
    eve.lives().await;
    let (steps, deferred) = (
        "tidings_filter_steps_total",
        "tidings_filters_deferred_total",
    );
    assert_eq!(server.metric(steps).await, 0);
    assert_eq!(server.metric(deferred).await, 0);
    for channel in channels {
        let data = json!({ "list": [9] });
        publish_to(&mut service, "eve", channel, data).await;
        eve.expect_event("secret.told").await;
    }
    assert!(server.metric(steps).await > 0);
    assert_eq!(eve.unread().count(), 0, "the others are not reported");
}

/// So large that no filter is evaluated for it on a shard's thread.
fn large(n: u64) -> Value {
    json!({ "n": n, "list": vec![[1]; 45_000] })
}

/// What a connection received, and why its subscription to this channel ended, if it did.
async fn given(ws: &mut Ws, last: u64, channel: &str) -> (Vec<u64>, Option<String>) {
    let (mut numbers, mut reason) = (Vec::new(), None);
    while numbers.last() != Some(&last) {
        let reported = ws.next_or_close().await.expect("the connection lives");
        match reported["type"].as_str() {
            Some("count.up") => numbers.push(reported["data"]["n"].as_u64().unwrap()),
            Some("unsubscribed") => {
                assert_eq!(reported["channels"], json!([channel]), "{reported}");
                assert_eq!(
                    reported["reason"]["code"], "resource_exhausted",
                    "{reported}"
                );
                reason = Some(reported["reason"]["message"].as_str().unwrap().to_owned());
            }
            _ => {}
        }
    }
    (numbers, reason)
}

/// Creates a subscription with deferred events, and then `second` as an overlapping one, before
/// more events arrive.
async fn overlapping(server: &Server, first: &str, second: Value) -> Ws {
    let mut service = server.publisher("service").await;
    let mut ws = server.ws().token("ann", &["service"]).connect().await;
    ws.subscribe_with(first, json!({ "filter": "data.n >= 1" }))
        .await;
    for n in 1..4 {
        service.publish("plain:1", "count.up", large(n)).await;
    }
    ws.send(second).await;
    for n in 4..9 {
        service
            .publish("plain:1", "count.up", json!({ "n": n }))
            .await;
    }
    ws
}

#[tokio::test]
async fn deferred_events_stay_complete_beside_overlap() {
    let server = Server::start(one_shard()).await;
    for (first, second) in [("plain:*", "plain:1"), ("plain:1", "plain:*")] {
        let types = json!({ "type": "subscribe", "channels": [second], "event_types": ["zz"] });
        let mut ws = overlapping(&server, first, types).await;
        let (numbers, reason) = given(&mut ws, 8, first).await;
        assert_eq!(numbers, (1..9).collect::<Vec<u64>>(), "{first}, {second}");
        assert_eq!(reason, None);
    }
}

#[tokio::test]
async fn overtaken_deferred_events_are_reported() {
    let server = Server::start(one_shard()).await;
    for (first, second) in [("plain:*", "plain:1"), ("plain:1", "plain:*")] {
        let all = json!({ "type": "subscribe", "channels": [second] });
        let mut ws = overlapping(&server, first, all).await;
        let (numbers, reason) = given(&mut ws, 8, first).await;
        let in_order = numbers.is_sorted_by(|a, b| a < b);
        assert!(in_order, "{first}, {second}: {numbers:?}");
        let whole = numbers == (1..9).collect::<Vec<u64>>();
        assert!(whole || reason.is_some(), "{first}, {second}: {numbers:?}");
    }
}

#[tokio::test]
async fn shard_load_ends_no_overlapping_subscription() {
    let server = Server::start(one_shard()).await;
    let mut service = server.publisher("service").await;
    let mut ann = server.ws().token("ann", &["service"]).connect().await;
    ann.subscribe("room:1").await;
    ann.subscribe_with("room:*", json!({ "filter": "data.n >= 0" }))
        .await;
    // More than 64 KiB to parse.
    let large = json!({ "n": 0, "text": "a".repeat(100_000) });
    service.publish("room:1", "count.up", large).await;
    for n in 1..4 {
        service
            .publish("room:1", "count.up", json!({ "n": n }))
            .await;
    }
    assert_eq!(ann.numbers("count.up", 4).await, [0, 1, 2, 3]);
    ann.lives().await;
    assert_eq!(ann.unread().count(), 0, "no subscription has ended");
}

#[tokio::test]
async fn short_history_loses_no_deferred_event() {
    let config = one_shard()
        .namespace(
            "short",
            "history = { size = 1, ttl = '1h' }\nsubscribe = 'true'\npublish = 'true'",
        )
        .set("limits.outbox_bytes", "16777216");
    let server = Server::start(config).await;
    let mut service = server.publisher("service").await;
    let mut ann = server.ws().token("ann", &[]).connect().await;
    ann.subscribe_with("short:1", json!({ "filter": "data.n >= 0" }))
        .await;
    for n in 0..12 {
        // Invisible events cause no gap either.
        publish_to(&mut service, "bob", "short:1", json!({ "n": 99 })).await;
        service.publish("short:1", "count.up", large(n)).await;
    }
    let all: Vec<u64> = (0..12).collect();
    assert_eq!(ann.numbers("count.up", 12).await, all);
    assert_eq!(ann.unread().count(), 0, "no gap");
    assert!(server.metric("tidings_filters_deferred_total").await > 0);
}
