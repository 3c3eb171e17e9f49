//! Batching: consecutive events are sent together, and each receiver gets exactly its own.

use serde_json::{Value, json};
use tidings::proto::{Audience, PublishBatchRequest, PublishRequest};

use crate::harness::{Config, Publisher, Server, Ws, event, within};

const EVENTS: u64 = 600;

/// Event `n`. Its type, its key and its audience cycle with different periods.
fn numbered(channel: &str, n: u64) -> PublishRequest {
    let kind = if n.is_multiple_of(3) {
        "three.times"
    } else {
        "other"
    };
    let mut request = event(
        channel,
        kind,
        json!({"n": n, "even": n.is_multiple_of(2), "pad": "x".repeat(usize::try_from(n).unwrap() % 40)}),
    );
    if n.is_multiple_of(5) {
        request.audience = Some(Audience {
            users: vec!["ann".into()],
            ..Audience::default()
        });
    }
    request
}

async fn publish_in_batches(service: &mut Publisher, channels: &[&str], each: usize) {
    let all: Vec<PublishRequest> = (1..=EVENTS)
        .flat_map(|n| channels.iter().map(move |channel| numbered(channel, n)))
        .collect();
    for requests in all.chunks(each) {
        let batch = PublishBatchRequest {
            requests: requests.to_vec(),
        };
        let answer = within("the batch", service.events.publish_batch(batch)).await;
        let responses = answer.unwrap().into_inner().responses;
        assert!(responses.iter().all(|response| response.error.is_none()));
    }
}

/// The numbers of the next `count` events of any type, from one channel.
async fn numbers(ws: &mut Ws, channel: &str, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let text = ws.next_text().await;
        let event: Value = serde_json::from_str(&text).unwrap();
        if event["channel"] == channel && event["data"]["n"].is_u64() {
            numbers.push(event["data"]["n"].as_u64().unwrap());
        }
    }
    numbers
}

fn all_that(wanted: impl Fn(u64) -> bool) -> Vec<u64> {
    (1..=EVENTS).filter(|n| wanted(*n)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batched_events_respect_audience_and_filters() {
    for channel in ["room:1", "plain:1"] {
        let server = Server::start(Config::rooms()).await;
        let mut service = server.publisher("service").await;
        let mut ann = server.ws().token("ann", &[]).connect().await;
        ann.subscribe(channel).await;
        let mut bob = server.ws().token("bob", &[]).connect().await;
        bob.subscribe(channel).await;
        let mut threes = server.ws().token("ann", &[]).connect().await;
        let only_threes = json!({"event_types": ["three.*"]});
        threes.subscribe_with(channel, only_threes).await;
        let mut even = server.ws().token("cid", &[]).connect().await;
        even.subscribe_with(channel, json!({"filter": "data.even"}))
            .await;
        let mut stream = service.follow(&[channel]).await;
        publish_in_batches(&mut service, &[channel], 200).await;

        let everything = all_that(|_| true);
        assert_eq!(
            numbers(&mut ann, channel, everything.len()).await,
            everything
        );
        let not_for_ann = all_that(|n| !n.is_multiple_of(5));
        assert_eq!(
            numbers(&mut bob, channel, not_for_ann.len()).await,
            not_for_ann
        );
        let by_type = all_that(|n| n.is_multiple_of(3));
        assert_eq!(numbers(&mut threes, channel, by_type.len()).await, by_type);
        let by_filter = all_that(|n| n.is_multiple_of(2) && !n.is_multiple_of(5));
        assert_eq!(
            numbers(&mut even, channel, by_filter.len()).await,
            by_filter
        );
        assert_eq!(
            stream.numbers(not_for_ann.len()).await,
            not_for_ann,
            "a stream that is not ann's"
        );
        for ws in [&mut ann, &mut bob, &mut threes, &mut even] {
            ws.lives().await;
            assert_eq!(ws.unread().count(), 0, "no event arrives twice");
        }
    }
}

#[tokio::test]
async fn order_of_one_publisher_holds_across_channels() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    let mut ws = server.ws().token("ann", &[]).connect().await;
    ws.subscribe("room:1").await;
    ws.subscribe("plain:2").await;
    publish_in_batches(&mut service, &["room:1", "plain:2"], 300).await;
    for n in 1..=EVENTS {
        for channel in ["room:1", "plain:2"] {
            let event: Value = serde_json::from_str(&ws.next_text().await).unwrap();
            assert_eq!(
                (&event["channel"], &event["data"]["n"]),
                (&json!(channel), &json!(n))
            );
        }
    }
}

#[tokio::test]
async fn overlapping_subscriptions_keep_channel_order() {
    for channel in ["room:1", "plain:1"] {
        let server = Server::start(Config::rooms()).await;
        let mut service = server.publisher("service").await;
        let mut ws = server.ws().token("watcher", &["service"]).connect().await;
        let (namespace, _) = channel.split_once(':').unwrap();
        let threes = json!({"event_types": ["three.*"], "filter": "!data.even"});
        ws.subscribe_with("*", threes).await;
        let other = json!({"event_types": ["other"]});
        ws.subscribe_with(&format!("{namespace}:*"), other).await;
        let even = json!({"filter": "data.even"});
        ws.subscribe_with(channel, even).await;
        publish_in_batches(&mut service, &[channel], 200).await;
        let not_for_ann = all_that(|n| !n.is_multiple_of(5));
        assert_eq!(
            numbers(&mut ws, channel, not_for_ann.len()).await,
            not_for_ann
        );
        ws.lives().await;
        assert_eq!(ws.unread().count(), 0, "no event arrives twice");
    }
}

/// The value of a metric without labels.
async fn metric(server: &Server, name: &str) -> u64 {
    let answer = server
        .internal_http(http::Method::GET, "/metrics", &[], bytes::Bytes::new())
        .await;
    let line = answer
        .text()
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    line.unwrap_or_else(|| panic!("no {name}"))
}

#[tokio::test]
async fn equal_filters_are_evaluated_once_per_event() {
    let server = Server::start(Config::rooms().set("server.shards", "3")).await;
    let mut service = server.publisher("service").await;
    let mut subscribers = Vec::new();
    for n in 0..60 {
        let mut ws = server.ws().token(&format!("user-{n}"), &[]).connect().await;
        let filter = format!("data.n % 10 == {}", n % 10);
        ws.subscribe_with("plain:1", json!({ "filter": filter }))
            .await;
        subscribers.push(ws);
    }
    service.count("plain:1", "count.up", 1..=50).await;
    for (n, ws) in (0..).zip(&mut subscribers) {
        let wanted: Vec<u64> = (1..=50).filter(|event| event % 10 == n % 10).collect();
        assert_eq!(ws.numbers("count.up", wanted.len()).await, wanted);
    }
    let asked = metric(&server, "tidings_filter_evaluations_total").await;
    assert_eq!(asked, 50 * 10, "60 connections on 3 shards, 10 filters");
}
