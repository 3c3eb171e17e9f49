//! Recovery: resuming without loss, or with notice of it.

use serde_json::{Value, json};

use crate::harness::{Config, Publisher, Server, Ws};

async fn start(history: &str) -> (Server, Ws, Publisher) {
    let keys = format!("history = {history}\nsubscribe = 'true'\npublish = 'true'");
    let server = Server::start(Config::new().namespace("room", &keys)).await;
    let ws = server.ws().token("alice", &[]).connect().await;
    let service = server.publisher("service").await;
    (server, ws, service)
}

fn since(channel: &str, epoch: &Value, offset: u64) -> Value {
    json!({"since": {channel: {"epoch": epoch, "offset": offset}}})
}

/// The offsets of the next `count` events.
async fn offsets(ws: &mut Ws, count: usize) -> Vec<u64> {
    let mut offsets = Vec::new();
    while offsets.len() < count {
        offsets.push(
            ws.expect_event("count.up").await["offset"]
                .as_u64()
                .unwrap(),
        );
    }
    offsets
}

#[tokio::test]
async fn offsets_start_at_one_in_each_channel() {
    let (_server, mut ws, mut service) = start(r#"{ size = 100, ttl = "1h" }"#).await;
    let one = ws.subscribe("room:1").await;
    let two = ws.subscribe("room:2").await;
    assert_eq!((&one["offset"], &two["offset"]), (&json!(0), &json!(0)));
    service.count("room:1", "count.up", 1..=3).await;
    service.count("room:2", "other", 1..=2).await;
    assert_eq!(offsets(&mut ws, 3).await, [1, 2, 3]);
    assert_eq!(ws.expect_event("other").await["offset"], 1);
    assert_eq!(ws.expect_event("other").await["offset"], 2);
}

#[tokio::test]
async fn since_replays_missed_events_then_goes_live() {
    let (server, mut ws, mut service) = start(r#"{ size = 100, ttl = "1h" }"#).await;
    let epoch = ws.subscribe("room:1").await["epoch"].clone();
    service.count("room:1", "count.up", 1..=3).await;
    assert_eq!(offsets(&mut ws, 3).await, [1, 2, 3]);
    ws.close().await;
    service.count("room:1", "count.up", 4..=9).await;

    let mut back = server.ws().token("alice", &[]).connect().await;
    let reply = back
        .subscribe_with("room:1", since("room:1", &epoch, 3))
        .await;
    assert_eq!(reply["recovered"], true, "{reply}");
    assert_eq!(reply["replayed"], 6, "{reply}");
    assert_eq!(reply["epoch"], epoch);
    assert_eq!(reply["offset"], 9);
    service.count("room:1", "count.up", 10..=12).await;
    assert_eq!(
        back.numbers("count.up", 9).await,
        [4, 5, 6, 7, 8, 9, 10, 11, 12]
    );
}

#[tokio::test]
async fn replay_follows_subscribe_reply() {
    let (_server, mut ws, mut service) = start(r#"{ size = 100, ttl = "1h" }"#).await;
    service.count("room:1", "count.up", 1..=5).await;
    ws.send(json!({"type": "subscribe", "channels": ["room:1"], "rewind": 5}))
        .await;
    let before = ws.until("subscribed").await;
    assert!(before.iter().all(|m| m["type"] != "count.up"), "{before:?}");
    assert_eq!(ws.numbers("count.up", 5).await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn current_position_is_recovered_without_replay() {
    let (_server, mut ws, mut service) = start(r#"{ size = 100, ttl = "1h" }"#).await;
    service.count("room:1", "count.up", 1..=3).await;
    let epoch = ws.subscribe("room:1").await["epoch"].clone();
    ws.ask(json!({"type": "unsubscribe", "channels": ["room:1"]}))
        .await;
    let reply = ws
        .subscribe_with("room:1", since("room:1", &epoch, 3))
        .await;
    assert_eq!(reply["recovered"], true, "{reply}");
    assert_eq!(reply["replayed"], 0, "{reply}");
    service.count("room:1", "count.up", 4..=4).await;
    assert_eq!(offsets(&mut ws, 1).await, [4]);
}

#[tokio::test]
async fn expired_position_is_not_recovered() {
    let (_server, mut ws, mut service) = start(r#"{ size = 5, ttl = "1h" }"#).await;
    service.count("room:1", "count.up", 1..=20).await;
    let epoch = ws.subscribe("room:1").await["epoch"].clone();
    ws.ask(json!({"type": "unsubscribe", "channels": ["room:1"]}))
        .await;

    let reply = ws
        .subscribe_with("room:1", since("room:1", &epoch, 3))
        .await;
    assert_eq!(reply["recovered"], false, "{reply}");
    assert_eq!(reply["replayed"], 0, "{reply}");
    assert_eq!(reply["offset"], 20, "{reply}");
    service.count("room:1", "count.up", 21..=21).await;
    assert_eq!(
        offsets(&mut ws, 1).await,
        [21],
        "live goes on, without a partial replay"
    );

    // The oldest position after which everything is still kept.
    ws.ask(json!({"type": "unsubscribe", "channels": ["room:1"]}))
        .await;
    let reply = ws
        .subscribe_with("room:1", since("room:1", &epoch, 16))
        .await;
    assert_eq!(reply["recovered"], true, "{reply}");
    assert_eq!(offsets(&mut ws, 5).await, [17, 18, 19, 20, 21]);
}

#[tokio::test]
async fn foreign_epoch_is_not_recovered() {
    let (_server, mut ws, mut service) = start(r#"{ size = 100, ttl = "1h" }"#).await;
    service.count("room:1", "count.up", 1..=3).await;
    for offset in [0, 2, 3] {
        let reply = ws
            .subscribe_with("room:1", since("room:1", &json!("foreign"), offset))
            .await;
        assert_eq!(reply["recovered"], false, "{reply}");
        assert_eq!(reply["replayed"], 0, "{reply}");
        ws.ask(json!({"type": "unsubscribe", "channels": ["room:1"]}))
            .await;
    }
    assert!(ws.unread().all(|m| m["type"] != "count.up"));
}

#[tokio::test]
async fn future_position_is_not_recovered() {
    let (_server, mut ws, mut service) = start(r#"{ size = 100, ttl = "1h" }"#).await;
    service.count("room:1", "count.up", 1..=3).await;
    let epoch = ws.subscribe("room:1").await["epoch"].clone();
    ws.ask(json!({"type": "unsubscribe", "channels": ["room:1"]}))
        .await;
    let reply = ws
        .subscribe_with("room:1", since("room:1", &epoch, 99))
        .await;
    assert_eq!(reply["recovered"], false, "{reply}");
}

#[tokio::test]
async fn memory_store_has_new_epoch_after_restart() {
    let (server, mut ws, mut service) = start(r#"{ size = 100, ttl = "1h" }"#).await;
    service.count("room:1", "count.up", 1..=3).await;
    let old = ws.subscribe("room:1").await["epoch"].clone();
    drop(server);
    let (_server, mut ws, mut service) = start(r#"{ size = 100, ttl = "1h" }"#).await;
    service.count("room:1", "count.up", 1..=3).await;
    let reply = ws.subscribe_with("room:1", since("room:1", &old, 3)).await;
    assert_ne!(reply["epoch"], old);
    assert_eq!(
        reply["recovered"], false,
        "the same offset, but of another epoch: {reply}"
    );
}

#[tokio::test]
async fn rewind_replays_newest_events() {
    let (server, mut ws, mut service) = start(r#"{ size = 100, ttl = "1h" }"#).await;
    service.count("room:1", "count.up", 1..=10).await;
    let reply = ws.subscribe_with("room:1", json!({"rewind": 4})).await;
    assert_eq!(reply["replayed"], 4, "{reply}");
    assert_eq!(offsets(&mut ws, 4).await, [7, 8, 9, 10]);

    let mut all = server.ws().token("bob", &[]).connect().await;
    let reply = all.subscribe_with("room:1", json!({"rewind": 50})).await;
    assert_eq!(reply["replayed"], 10, "{reply}");
    assert_eq!(offsets(&mut all, 10).await, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
}

#[tokio::test]
async fn channels_recover_independently() {
    let (_server, mut ws, mut service) = start(r#"{ size = 100, ttl = "1h" }"#).await;
    service.count("room:1", "one", 1..=3).await;
    service.count("room:2", "two", 1..=3).await;
    let reply = ws
        .ask(json!({"type": "subscribe", "channels": ["room:1", "room:2"]}))
        .await;
    let epoch_of = |at: usize| reply["channels"][at]["epoch"].clone();
    let since = json!({
        "room:1": {"epoch": epoch_of(0), "offset": 1},
        "room:2": {"epoch": "foreign", "offset": 1},
    });
    ws.ask(json!({"type": "unsubscribe", "channels": ["room:1", "room:2"]}))
        .await;
    let again = json!({"type": "subscribe", "channels": ["room:1", "room:2"], "since": since});
    let reply = ws.ask(again).await;
    assert_eq!(reply["channels"][0]["recovered"], true, "{reply}");
    assert_eq!(reply["channels"][1]["recovered"], false, "{reply}");
    assert_eq!(ws.numbers("one", 2).await, [2, 3]);
    service.count("room:2", "two", 4..=4).await;
    assert_eq!(ws.numbers("two", 1).await, [4]);
}

#[tokio::test]
async fn filters_apply_to_replay_without_gap() {
    let (_server, mut ws, mut service) = start(r#"{ size = 100, ttl = "1h" }"#).await;
    service.count("room:1", "count.up", 1..=10).await;
    let epoch = ws.subscribe("room:1").await["epoch"].clone();
    ws.ask(json!({"type": "unsubscribe", "channels": ["room:1"]}))
        .await;
    let mut more = since("room:1", &epoch, 0);
    more["filter"] = json!("event.data.n % 2 == 0");
    let reply = ws.subscribe_with("room:1", more).await;
    assert_eq!(reply["recovered"], true, "{reply}");
    service.count("room:1", "count.up", 11..=12).await;
    assert_eq!(offsets(&mut ws, 6).await, [2, 4, 6, 8, 10, 12]);
    assert!(ws.unread().all(|m| m["type"] != "gap"));
}
