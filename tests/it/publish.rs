//! Events published over gRPC arrive in order on all transports.

use serde_json::json;
use tidings::proto::{PublishBatchRequest, PublishRequest, PublishStreamRequest};
use tokio_stream::StreamExt as _;

use crate::harness::{Config, Server, event, within};

/// A server whose outboxes hold everything that these tests send.
async fn roomy_server() -> Server {
    Server::start(Config::rooms().set("limits.outbox_bytes", "16777216")).await
}

#[tokio::test]
async fn two_thousand_events_arrive_in_order() {
    let server = roomy_server().await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    alice.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    let mut stream = service.follow(&["room:1"]).await;

    service.count("room:1", "count.up", 1..=2000).await;

    let all: Vec<u64> = (1..=2000).collect();
    assert_eq!(alice.numbers("count.up", 2000).await, all);
    assert_eq!(stream.numbers(2000).await, all);
}

#[tokio::test]
async fn publish_returns_id_position_and_subscribers() {
    let server = roomy_server().await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    alice.subscribe("room:1").await;
    let mut service = server.publisher("service").await;

    let first = service.publish("room:1", "count.up", json!({})).await;
    let second = service.publish("room:1", "count.up", json!({})).await;
    assert_ne!(first.id, second.id);
    assert!(first.error.is_none());
    assert_eq!(first.results.len(), 1);
    assert_eq!(first.results[0].channel, "room:1");
    assert_eq!(first.results[0].subscribers, 1);
    assert!(!first.results[0].duplicate);
    let (first, second) = (&first.results[0].position, &second.results[0].position);
    assert_eq!(first.as_ref().unwrap().offset, 1);
    assert_eq!(second.as_ref().unwrap().offset, 2);
    assert_eq!(
        first.as_ref().unwrap().epoch,
        second.as_ref().unwrap().epoch
    );
}

#[tokio::test]
async fn channel_without_history_returns_no_position() {
    let server = roomy_server().await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    let subscribed = alice.subscribe("plain:1").await;
    assert!(subscribed["offset"].is_null(), "{subscribed}");
    let answer = server
        .publisher("service")
        .await
        .publish("plain:1", "a.b", json!({}))
        .await;
    assert_eq!(answer.results[0].position, None);
    assert!(alice.expect_event("a.b").await["offset"].is_null());
}

#[tokio::test]
async fn one_event_in_several_channels_has_one_id() {
    let server = roomy_server().await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    alice.subscribe("room:1").await;
    alice.subscribe("plain:2").await;
    let mut request = event("", "a.b", json!({}));
    request.channels = vec!["room:1".into(), "plain:2".into()];
    let answer = server.publisher("service").await.send(request).await;
    let channels: Vec<&str> = answer.results.iter().map(|r| r.channel.as_str()).collect();
    assert_eq!(channels, ["room:1", "plain:2"]);

    let got = [
        alice.expect_event("a.b").await,
        alice.expect_event("a.b").await,
    ];
    assert!(got.iter().all(|e| e["id"] == answer.id.as_str()), "{got:?}");
    let mut channels: Vec<_> = got.iter().map(|e| e["channel"].as_str().unwrap()).collect();
    channels.sort_unstable();
    assert_eq!(channels, ["plain:2", "room:1"]);
}

#[tokio::test]
async fn event_without_channel_and_audience_is_global() {
    let server = roomy_server().await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    let answer = server
        .publisher("service")
        .await
        .publish("", "news.out", json!({}))
        .await;
    assert_eq!(answer.results[0].channel, "global");
    assert_eq!(alice.expect_event("news.out").await["channel"], "global");
}

#[tokio::test]
async fn batch_keeps_order_with_individual_results() {
    let server = roomy_server().await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    alice.subscribe("room:1").await;
    let mut service = server.publisher("service").await;

    let mut requests: Vec<PublishRequest> = (1..=20)
        .map(|n| event("room:1", "count.up", json!({ "n": n })))
        .collect();
    requests.insert(10, event("room:1", "not a type!", json!({ "n": 0 })));
    let batch = PublishBatchRequest { requests };
    let answer = within("a batch", service.events.publish_batch(batch))
        .await
        .unwrap();
    let responses = answer.into_inner().responses;

    assert_eq!(responses.len(), 21);
    for (at, response) in responses.iter().enumerate() {
        if at == 10 {
            let error = response.error.as_ref().expect("the bad one is refused");
            assert_eq!(error.code, 3, "INVALID_ARGUMENT: {error:?}");
            assert!(response.results.is_empty());
        } else {
            assert!(response.error.is_none(), "{at}: {response:?}");
        }
    }
    let all: Vec<u64> = (1..=20).collect();
    assert_eq!(alice.numbers("count.up", 20).await, all);
}

#[tokio::test]
async fn publish_stream_answers_in_order_with_errors() {
    let server = roomy_server().await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    alice.subscribe("room:1").await;
    let mut service = server.publisher("service").await;

    let requests = (1..=500).map(|n| {
        let kind = if n == 250 { "9.bad" } else { "count.up" };
        PublishStreamRequest {
            request: Some(event("room:1", kind, json!({ "n": n }))),
        }
    });
    let stream = service.events.publish_stream(tokio_stream::iter(requests));
    let mut answers = within("the stream", stream).await.unwrap().into_inner();

    let mut offset = 0;
    for n in 1..=500 {
        let answer = within("an answer", answers.next())
            .await
            .expect("an answer")
            .unwrap();
        let response = answer.response.expect("a response");
        if n == 250 {
            assert_eq!(response.error.expect("refused").code, 3);
        } else {
            offset += 1;
            assert!(response.error.is_none(), "{response:?}");
            assert_eq!(
                response.results[0].position.as_ref().unwrap().offset,
                offset
            );
        }
    }
    assert!(
        within("the end", answers.next()).await.is_none(),
        "ends when the requests end"
    );
    let all: Vec<u64> = (1..=500).filter(|n| *n != 250).collect();
    assert_eq!(alice.numbers("count.up", 499).await, all);
}

#[tokio::test]
async fn browser_publishes_where_rules_allow() {
    let server = roomy_server().await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    let mut bob = server.ws().token("bob", &[]).connect().await;
    bob.subscribe("room:1").await;
    let published = alice
        .publish("room:1", "said.hello", json!({"to": "bob"}))
        .await;
    assert_eq!(published["offset"], 1, "{published}");
    assert!(published["epoch"].is_string(), "{published}");
    let event = bob.expect_event("said.hello").await;
    assert_eq!(event["id"], published["id"]);
    assert_eq!(event["data"], json!({"to": "bob"}));
}
