//! Events that the application adds to a stream of a real Redis.

use serde_json::json;

use crate::harness::{Config, Redis, Server, Token, eventually};

const EVENTS: &str = "tidings_source_events_total{source=\"jobs\"}";
const DUPLICATES: &str = "tidings_source_duplicates_total{source=\"jobs\"}";
const DEAD: &str = "tidings_source_dead_letters_total{source=\"jobs\"}";

fn source(url: &str, node: &str) -> Config {
    let keys = format!("kind = \"redis\"\npoll = \"200ms\"\nstream = \"events\"\nurl = {url:?}");
    Config::rooms()
        .source("jobs", &keys)
        .set("server.node", &format!("{node:?}"))
        .set("server.drain", r#""2s""#)
}

fn add(redis: &Redis, channel: &str, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        let data = json!({ "n": n }).to_string();
        redis.asks(&[
            "XADD", "events", "*", "channel", channel, "type", "count.up", "data", &data,
        ]);
    }
}

/// The entries that were read and not acknowledged.
async fn none_pending(redis: &Redis) {
    eventually("the entries to be acknowledged", async || {
        let pending = redis.asks(&["XPENDING", "events", "tidings"]);
        pending.starts_with('0').then_some(())
    })
    .await;
}

#[tokio::test]
async fn entries_are_delivered_in_order_and_acknowledged() {
    let redis = Redis::start().await;
    // Also what was added before the group existed.
    add(&redis, "room:1", 1..=3);
    let server = Server::start(source(&redis.url(), "a")).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe_with("room:1", json!({"rewind": 10})).await;
    add(&redis, "room:1", 4..=30);
    assert_eq!(
        ws.numbers("count.up", 30).await,
        (1..=30).collect::<Vec<_>>()
    );
    none_pending(&redis).await;
    let viewer = Token::new("vera").roles(&["viewer"]);
    let answer = server.get_as(&viewer, "/api/v1/sources").await.json();
    assert_eq!(answer["sources"][0]["kind"], "redis");
    assert_eq!(answer["sources"][0]["events"], 30);
}

#[tokio::test]
async fn bad_entries_become_dead_letters_with_their_reason() {
    let redis = Redis::start().await;
    let server = Server::start(source(&redis.url(), "a")).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    redis.asks(&[
        "XADD", "events", "*", "channel", "a b", "type", "a.b", "data", "1",
    ]);
    redis.asks(&[
        "XADD", "events", "*", "channel", "room:1", "type", "a.b", "data", "{",
    ]);
    redis.asks(&["XADD", "events", "*", "nonsense", "1"]);
    add(&redis, "room:1", 1..=1);
    assert_eq!(ws.numbers("count.up", 1).await, [1]);
    none_pending(&redis).await;
    assert_eq!(server.metric(DEAD).await, 3);
    let letters = redis.asks(&["XRANGE", "events:dead-letters", "-", "+"]);
    for part in ["reason", "channel: ", "data: ", "nonsense", "a b"] {
        assert!(letters.contains(part), "{part}: {letters}");
    }
}

#[tokio::test]
async fn killed_server_and_killed_redis_lose_and_repeat_nothing() {
    let redis = Redis::start().await;
    let disk = |url: &str| {
        source(url, "a")
            .set("history.storage", r#""disk""#)
            .set("history.path", r#""store""#)
    };
    let server = Server::start(disk(&redis.url())).await;
    add(&redis, "room:1", 1..=20);
    eventually("the events", async || {
        (server.metric(EVENTS).await >= 20).then_some(())
    })
    .await;
    none_pending(&redis).await;
    // Entries that a killed server had read, published, and not acknowledged.
    let (directory, port) = redis.kill();
    let dir = server.kill().await;
    let redis = Redis::start_in(directory, port).await;
    redis.asks(&["XGROUP", "SETID", "events", "tidings", "0"]);
    redis.asks(&[
        "XREADGROUP",
        "GROUP",
        "tidings",
        "a",
        "COUNT",
        "20",
        "STREAMS",
        "events",
        ">",
    ]);
    add(&redis, "room:1", 21..=25);
    let server = Server::start_in(dir, disk(&redis.url())).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe_with("room:1", json!({"rewind": 100})).await;
    assert_eq!(
        ws.numbers("count.up", 25).await,
        (1..=25).collect::<Vec<_>>()
    );
    none_pending(&redis).await;
    assert_eq!(server.metric(DUPLICATES).await, 20);
}

#[tokio::test]
async fn two_nodes_share_a_stream_and_survive_its_restart() {
    let redis = Redis::start().await;
    let nodes = [
        Server::start(source(&redis.url(), "a")).await,
        Server::start(source(&redis.url(), "b")).await,
    ];
    let (directory, port) = redis.kill();
    let redis = Redis::start_in(directory, port).await;
    let mut added = 0;
    eventually("both nodes to read", async || {
        added += 20;
        add(&redis, "room:1", added - 19..=added);
        let [a, b] = &nodes;
        (a.metric(EVENTS).await > 0 && b.metric(EVENTS).await > 0).then_some(())
    })
    .await;
    let [a, b] = &nodes;
    eventually("each entry to be published", async || {
        (a.metric(EVENTS).await + b.metric(EVENTS).await >= added).then_some(())
    })
    .await;
    none_pending(&redis).await;
    assert_eq!(a.metric(EVENTS).await + b.metric(EVENTS).await, added);
}
