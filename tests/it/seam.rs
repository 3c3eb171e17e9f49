//! Subscribing under full load: no gap and no duplicate between replay and live events.

use serde_json::json;
use tidings::proto::{PublishStreamRequest, SubscribeRequest, Subscription};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

use crate::harness::{Config, Server, event, within};

const EVENTS: u64 = 3000;
const CLIENTS: u64 = 20;

/// Reads up to the last event. Offsets must continue from `from`, one by one.
async fn follows_without_gap(mut ws: crate::harness::Ws, from: u64, who: String) {
    for offset in from + 1..=EVENTS {
        let event = ws.expect_event("count.up").await;
        assert_eq!(event["offset"], offset, "{who}: {event}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribing_under_load_delivers_each_event_once() {
    let config = Config::rooms().set("limits.outbox_bytes", "33554432");
    let server = std::sync::Arc::new(Server::start(config).await);
    let mut service = server.publisher("service").await;
    let first = service.publish("room:1", "count.up", json!({"n": 1})).await;
    let epoch = first.results[0].position.clone().unwrap().epoch;

    let mut tasks = JoinSet::new();
    let mut publisher = service.clone();
    tasks.spawn(async move {
        let requests = (2..=EVENTS).map(|n| PublishStreamRequest {
            request: Some(event("room:1", "count.up", json!({ "n": n }))),
        });
        let stream = publisher
            .events
            .publish_stream(tokio_stream::iter(requests));
        let mut answers = within("the stream", stream).await.unwrap().into_inner();
        while let Some(answer) = within("an answer", answers.next()).await {
            assert!(answer.unwrap().response.unwrap().error.is_none());
        }
    });
    for n in 0..CLIENTS {
        let (server, epoch) = (server.clone(), epoch.clone());
        tasks.spawn(async move {
            let mut ws = server.ws().token(&format!("user-{n}"), &[]).connect().await;
            if n % 4 == 3 {
                // Subscribes live, from the position in the reply.
                let from = ws.subscribe("room:1").await["offset"].as_u64().unwrap();
                follows_without_gap(ws, from, format!("live client {n}")).await;
            } else {
                let since = json!({"since": {"room:1": {"epoch": epoch, "offset": 0}}});
                let reply = ws.subscribe_with("room:1", since).await;
                assert_eq!(reply["recovered"], true, "{reply}");
                follows_without_gap(ws, 0, format!("resuming client {n}")).await;
            }
        });
    }
    for _ in 0..4 {
        let mut subscriber = service.clone();
        let since = Some(tidings::proto::Position {
            epoch: epoch.clone(),
            offset: 0,
        });
        tasks.spawn(async move {
            let subscription = Subscription {
                channel: "room:1".into(),
                since,
                rewind: 0,
            };
            let request = SubscribeRequest {
                subscriptions: vec![subscription],
                ..SubscribeRequest::default()
            };
            let mut stream = subscriber.subscribe(request).await;
            assert!(stream.subscribed.channels[0].recovered);
            for offset in 1..=EVENTS {
                assert_eq!(stream.event().await.position.unwrap().offset, offset);
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconnecting_under_load_delivers_each_event_once() {
    let server = Server::start(Config::rooms().set("limits.outbox_bytes", "33554432")).await;
    let mut service = server.publisher("service").await;
    let first = service.publish("room:1", "count.up", json!({"n": 1})).await;
    let epoch = first.results[0].position.clone().unwrap().epoch;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { service.count("room:1", "count.up", 2..=600).await });

    let mut seen = 0;
    while seen < 600 {
        let mut ws = server.ws().token("alice", &[]).connect().await;
        let since = json!({"since": {"room:1": {"epoch": epoch, "offset": seen}}});
        assert_eq!(ws.subscribe_with("room:1", since).await["recovered"], true);
        let until = 600.min(seen + 40);
        while seen < until {
            seen += 1;
            assert_eq!(ws.expect_event("count.up").await["offset"], seen);
        }
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
}
