//! Filters during replay: what they reveal, what they delay, and what is lost when the subscription
//! is replaced meanwhile.

use serde_json::{Value, json};
use tidings::proto::{Audience, PublishRequest};

use crate::harness::{Config, Publisher, Server, event, eventually};

/// Iterates the whole list if no element is larger than 8.
const COSTLY: &str = "data.list.exists(x, x > 8)";

fn one_shard() -> Config {
    Config::rooms().set("server.shards", "1")
}

fn list(n: u64, length: usize) -> Value {
    json!({ "n": n, "list": vec![7; length] })
}

/// 300 events in `room:1`, too large to be cached between counting and sending.
async fn publish_padded(service: &mut Publisher) {
    for n in 0..300 {
        let data = json!({ "n": n, "pad": "x".repeat(1000) });
        service.publish("room:1", "count.up", data).await;
    }
}

#[tokio::test]
async fn replay_reveals_no_invisible_events() {
    let config = one_shard()
        .set("limits.filter_steps", "20000")
        .event_type("audit.entry", r#"roles = ["auditor"]"#);
    let server = Server::start(config).await;
    let mut service = server.publisher("service").await;
    // Together too large to be cached between counting and sending, so the filter is evaluated
    // twice.
    for n in 0..4 {
        let secret = PublishRequest {
            audience: Some(Audience {
                users: vec!["alice".to_owned()],
                ..Audience::default()
            }),
            ..event("room:1", "secret", list(n, 20_000))
        };
        service.send(secret).await;
        let hidden = list(n, 20_000);
        service.publish("room:1", "audit.entry", hidden).await;
    }
    service
        .publish("room:1", "open", json!({ "list": [9] }))
        .await;
    let mut eve = server.ws().token("eve", &[]).connect().await;
    let more = json!({ "rewind": 100, "filter": COSTLY });
    let joined = eve.subscribe_with("room:1", more).await;
    assert_eq!(joined["replayed"], 1, "{joined}");
    let before = eve.until("open").await;
    assert!(before.is_empty(), "{before:?}");
    let reached = "tidings_limit_reached_total{limit=\"filter_steps\"}";
    assert_eq!(server.metric(reached).await, 0, "the filter was asked");
    assert!(server.metric("tidings_filter_steps_total").await < 1000);

    // A client that may see them is told which ones exceed the budget.
    let mut alice = server.ws().token("alice", &["auditor"]).connect().await;
    let more = json!({ "rewind": 100, "filter": COSTLY });
    alice.subscribe_with("room:1", more).await;
    let before = alice.until("open").await;
    assert_eq!(before.len(), 8, "{before:?}");
    assert!(before.iter().all(|m| m["reason"] == "filter_steps"));
}

/// Waits until a filter is evaluated off the shard, and continues to be.
async fn asked_elsewhere(server: &Server) {
    eventually("a filter to be asked elsewhere", async || {
        let deferred = server.metric("tidings_filters_deferred_total").await;
        (deferred > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn costly_replay_does_not_block_other_subscriptions() {
    // About a second per page of the costly channel.
    let config = one_shard()
        .set("limits.filter_steps_per_second", "500000")
        .set("limits.outbox_bytes", "262144");
    let server = Server::start(config).await;
    let mut service = server.publisher("service").await;
    publish_padded(&mut service).await;
    let mut ann = server.ws().token("ann", &["service"]).connect().await;
    for channel in ["room:2", "plain:*"] {
        let more = json!({ "filter": COSTLY });
        ann.subscribe_with(channel, more).await;
    }
    for n in 0..150 {
        service.publish("room:2", "never", list(n, 5000)).await;
    }
    asked_elsewhere(&server).await;
    let last = json!({ "list": [9] });
    service.publish("room:2", "last", last).await;
    ann.subscribe_with("room:1", json!({ "rewind": 300 })).await;
    // All of it arrives long before the other channel is done.
    let before = ann.until("last").await;
    let numbers: Vec<u64> = before
        .iter()
        .filter(|reported| reported["type"] == "count.up")
        .map(|reported| reported["data"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..300).collect::<Vec<u64>>());
}

#[tokio::test]
async fn deferred_events_do_not_block_replay() {
    let config = one_shard().set("limits.filter_steps_per_second", "50000");
    let server = Server::start(config).await;
    let mut service = server.publisher("service").await;
    publish_padded(&mut service).await;
    let mut ann = server.ws().token("ann", &["service"]).connect().await;
    ann.subscribe_with("plain:*", json!({ "filter": COSTLY }))
        .await;
    for n in 0..20 {
        service.publish("plain:1", "never", list(n, 3000)).await;
    }
    asked_elsewhere(&server).await;
    service
        .publish("plain:1", "last", json!({ "list": [9] }))
        .await;
    ann.subscribe_with("room:1", json!({ "rewind": 300 })).await;
    let before = ann.until("last").await;
    let replayed = before
        .iter()
        .filter(|reported| reported["type"] == "count.up");
    assert_eq!(replayed.count(), 300);
}

/// The number of a live event that matched, or of the lost ones.
fn number(reported: &Value) -> Option<u64> {
    reported["data"]["n"].as_u64()
}

#[tokio::test]
async fn replacing_filtering_subscription_loses_nothing() {
    let config = one_shard().set("limits.filter_steps_per_second", "1000");
    let server = Server::start(config).await;
    let mut service = server.publisher("service").await;
    for channel in ["room:1", "plain:1", "plain:*"] {
        let mut ann = server.ws().token("ann", &["service"]).connect().await;
        let first = ann
            .subscribe_with(channel, json!({ "filter": COSTLY }))
            .await;
        let before = server.metric("tidings_filters_deferred_total").await;
        let to = channel.replace('*', "2");
        for n in 0..3 {
            service.publish(&to, "count.up", list(n, 9000)).await;
        }
        eventually("the filter to be asked elsewhere", async || {
            let deferred = server.metric("tidings_filters_deferred_total").await;
            (deferred > before).then_some(())
        })
        .await;
        // The same channel twice in one message: the second entry counts.
        let twice = json!({ "type": "subscribe", "channels": [channel, channel] });
        let joined = ann.ask(twice).await;
        if !first["offset"].is_null() {
            assert_eq!(joined["channels"][0]["offset"], 0, "{joined}");
        }
        for n in 3..8 {
            service.publish(&to, "count.up", list(n, 10)).await;
        }
        let mut numbers = Vec::new();
        while numbers.last() != Some(&7) {
            let reported = ann.next_or_close().await.expect("the connection lives");
            assert_ne!(reported["type"], "unsubscribed", "{reported}");
            numbers.extend(number(&reported));
        }
        assert_eq!(numbers, (0..8).collect::<Vec<u64>>(), "{channel}");
    }
}

#[tokio::test]
async fn replacing_subscription_reports_lost_events() {
    let config = one_shard()
        .set("limits.filter_steps_per_second", "1000")
        .namespace(
            "short",
            r#"
            history = { size = 2, ttl = "1h" }
            subscribe = 'true'
            publish = 'true'
            "#,
        );
    let server = Server::start(config).await;
    let mut service = server.publisher("service").await;
    let mut ann = server.ws().token("ann", &[]).connect().await;
    ann.subscribe_with("short:1", json!({ "filter": COSTLY }))
        .await;
    for n in 0..5 {
        service.publish("short:1", "count.up", list(n, 9000)).await;
    }
    asked_elsewhere(&server).await;
    service.publish("short:1", "count.up", list(5, 10)).await;
    let joined = ann.subscribe("short:1").await;
    assert_eq!(joined["offset"], 0, "{joined}");
    let gap = ann.expect("gap").await;
    assert_eq!((&gap["from"], &gap["to"]), (&json!(1), &json!(4)), "{gap}");
    assert_eq!(ann.numbers("count.up", 2).await, [4, 5]);
}

#[tokio::test]
async fn replacing_live_subscription_continues_in_place() {
    let server = Server::start(one_shard()).await;
    let mut service = server.publisher("service").await;
    let mut ann = server.ws().token("ann", &["service"]).connect().await;
    for channel in ["room:1", "plain:*"] {
        ann.subscribe(channel).await;
        let to = channel.replace('*', "2");
        for n in 0..40 {
            service.publish(&to, "count.up", json!({ "n": n })).await;
            if n % 4 == 0 {
                ann.send(json!({ "type": "subscribe", "channels": [channel] }))
                    .await;
            }
        }
        let numbers = ann.numbers("count.up", 40).await;
        assert_eq!(numbers, (0..40).collect::<Vec<u64>>(), "{channel}");
    }
}
