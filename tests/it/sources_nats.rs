//! Events that the application publishes to a stream of a real NATS JetStream.

use async_nats::HeaderMap;
use async_nats::jetstream::{self, Context, stream};
use serde_json::json;

use crate::harness::{Config, Nats, Server, eventually};

const EVENTS: &str = "tidings_source_events_total{source=\"shop\"}";
const DUPLICATES: &str = "tidings_source_duplicates_total{source=\"shop\"}";
const DEAD: &str = "tidings_source_dead_letters_total{source=\"shop\"}";

fn source(nats: &Nats) -> Config {
    let keys = format!(
        "kind = \"nats\"\npoll = \"300ms\"\nstream = \"SHOP\"\nchannel = \"room:1\"\nurl = {:?}",
        nats.url()
    );
    Config::rooms()
        .source("shop", &keys)
        .set("server.drain", r#""2s""#)
}

async fn context(nats: &Nats) -> Context {
    jetstream::new(async_nats::connect(nats.url()).await.unwrap())
}

async fn stream(nats: &Nats) -> Context {
    let context = context(nats).await;
    let config = stream::Config {
        name: String::from("SHOP"),
        subjects: vec![String::from("shop.>")],
        ..stream::Config::default()
    };
    context.create_stream(config).await.unwrap();
    context
}

async fn send(context: &Context, headers: &[(&str, &str)], data: &str) {
    let mut all = HeaderMap::new();
    for (name, value) in headers {
        all.insert(*name, *value);
    }
    let sent = context.publish_with_headers("shop.orders", all, data.to_owned().into());
    sent.await.unwrap().await.unwrap();
}

async fn count(context: &Context, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        let data = json!({ "n": n }).to_string();
        send(context, &[("Tidings-Type", "count.up")], &data).await;
    }
}

async fn acknowledged(context: &Context) {
    let stream = context.get_stream("SHOP").await.unwrap();
    eventually("the messages to be acknowledged", async || {
        let info = stream.consumer_info("tidings").await.ok()?;
        (info.num_ack_pending == 0 && info.num_pending == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn messages_are_delivered_in_order_and_acknowledged() {
    let nats = Nats::start().await;
    let context = stream(&nats).await;
    count(&context, 1..=3).await;
    let server = Server::start(source(&nats)).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe_with("room:1", json!({"rewind": 10})).await;
    count(&context, 4..=30).await;
    assert_eq!(
        ws.numbers("count.up", 30).await,
        (1..=30).collect::<Vec<_>>()
    );
    let headers = [
        ("Tidings-Type", "order.paid"),
        ("Tidings-Channel", "plain:9"),
        ("Tidings-Header-Shop", "north"),
    ];
    ws.subscribe("plain:9").await;
    send(&context, &headers, "7").await;
    let event = ws.expect_event("order.paid").await;
    assert_eq!(
        (&event["channel"], &event["data"]),
        (&json!("plain:9"), &json!(7))
    );
    assert_eq!(event["headers"], json!({"shop": "north"}));
    acknowledged(&context).await;
}

#[tokio::test]
async fn bad_messages_and_repeats_are_dropped_with_a_count() {
    let nats = Nats::start().await;
    let context = stream(&nats).await;
    let server = Server::start(source(&nats)).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    send(&context, &[("Tidings-Type", "9")], "1").await;
    send(
        &context,
        &[("Tidings-Type", "a.b"), ("Tidings-Channel", "a b")],
        "1",
    )
    .await;
    send(&context, &[("Tidings-Type", "a.b")], "{").await;
    count(&context, 1..=2).await;
    assert_eq!(ws.numbers("count.up", 2).await, [1, 2]);
    acknowledged(&context).await;
    assert_eq!(server.metric(DEAD).await, 3);
    // A consumer that begins anew reads everything again.
    let stream = context.get_stream("SHOP").await.unwrap();
    stream.delete_consumer("tidings").await.unwrap();
    eventually("the repeats", async || {
        (server.metric(DUPLICATES).await == 2).then_some(())
    })
    .await;
    count(&context, 3..=3).await;
    assert_eq!(ws.numbers("count.up", 1).await, [3]);
}

#[tokio::test]
async fn killed_servers_lose_and_repeat_nothing() {
    let mut nats = Nats::start().await;
    let before = stream(&nats).await;
    let disk = |nats: &Nats| {
        source(nats)
            .set("history.storage", r#""disk""#)
            .set("history.path", r#""store""#)
    };
    let server = Server::start(disk(&nats)).await;
    count(&before, 1..=20).await;
    eventually("the events", async || {
        (server.metric(EVENTS).await == 20).then_some(())
    })
    .await;
    acknowledged(&before).await;
    let dir = server.kill().await;
    nats.kill();
    // Starts while its source is away.
    let server = Server::start_in(dir, disk(&nats)).await;
    nats.restart().await;
    let after = context(&nats).await;
    count(&after, 21..=25).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe_with("room:1", json!({"rewind": 100})).await;
    assert_eq!(
        ws.numbers("count.up", 25).await,
        (1..=25).collect::<Vec<_>>()
    );
}
