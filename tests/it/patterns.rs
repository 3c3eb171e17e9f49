//! Subscriptions by pattern, while single channels are subscribed.

use serde_json::json;
use tidings::proto::{PublishStreamRequest, SubscribeRequest, Subscription};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

use crate::harness::{Config, Server, event, within};

const EVENTS: u64 = 2000;

/// One shard, so that subscribers of the channel and of the namespace share it.
fn one_shard() -> Config {
    Config::rooms()
        .set("server.shards", "1")
        .set("limits.messages_per_second", "0")
        .set("limits.outbox_bytes", "33554432")
}

async fn publish_many(mut publisher: crate::harness::Publisher) {
    let requests = (1..=EVENTS).map(|n| PublishStreamRequest {
        request: Some(event("room:1", "count.up", json!({ "n": n }))),
    });
    let stream = publisher
        .events
        .publish_stream(tokio_stream::iter(requests));
    let mut answers = within("the stream", stream).await.unwrap().into_inner();
    while let Some(answer) = within("an answer", answers.next()).await {
        assert!(answer.unwrap().response.unwrap().error.is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pattern_misses_nothing_while_channel_is_joined() {
    let server = std::sync::Arc::new(Server::start(one_shard()).await);
    let mut service = server.publisher("service").await;
    let mut everything = service.follow(&["room:*"]).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(publish_many(service.clone()));
    for n in 0..4 {
        let server = server.clone();
        tasks.spawn(async move {
            let mut ws = server.ws().token(&format!("user-{n}"), &[]).connect().await;
            for _ in 0..25 {
                ws.subscribe("room:1").await;
                let leave = json!({"type": "unsubscribe", "channels": ["room:1"]});
                ws.send(leave).await;
                ws.expect("unsubscribed").await;
            }
        });
    }
    for offset in 1..=EVENTS {
        let event = everything.event().await;
        assert_eq!(event.position.unwrap().offset, offset);
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channel_and_pattern_deliver_once_in_order() {
    let server = Server::start(one_shard()).await;
    let mut service = server.publisher("service").await;
    let first = service.publish("room:1", "count.up", json!({"n": 0})).await;
    let position = first.results[0].position.clone().unwrap();
    let mut publishing = JoinSet::new();
    publishing.spawn(publish_many(service.clone()));
    let exact = |since| Subscription {
        channel: "room:1".into(),
        since,
        rewind: 0,
    };
    let pattern = Subscription {
        channel: "room:*".into(),
        ..Subscription::default()
    };
    let request = SubscribeRequest {
        subscriptions: vec![pattern, exact(Some(position))],
        ..SubscribeRequest::default()
    };
    let mut stream = service.subscribe(request).await;
    assert!(stream.subscribed.channels[1].recovered);
    for offset in 2..=EVENTS + 1 {
        assert_eq!(stream.event().await.position.unwrap().offset, offset);
    }
    publishing.join_next().await.unwrap().unwrap();
}
