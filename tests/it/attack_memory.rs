//! Attacks on memory: publishing large amounts that the server has to store.

use std::fs;

use bytes::Bytes;
use serde_json::{Value, json};
use tidings::proto::{Audience, PublishBatchRequest, PublishRequest};
use tokio::task::JoinSet;

use crate::harness::{
    Config, Publisher, Server, Tidings, Token, event, eventually, refused_fields,
};

const MIB: u64 = 1 << 20;
const HELD: &str = "tidings_history_memory_bytes";
const EVICTED: &str = "tidings_history_evicted_total{reason=\"memory\"}";

/// Channels whose own history limits are looser than the limit of all together.
fn rooms(memory_bytes: u64) -> Config {
    let keys = r#"
        history = { size = 100000, ttl = "1h" }
        subscribe = 'true'
        publish = 'true'
    "#;
    Config::new()
        .namespace("room", keys)
        .namespace("plain", "subscribe = 'true'\npublish = 'true'")
        .set("history.memory_bytes", &memory_bytes.to_string())
}

/// The resident memory of the process, or its peak, in bytes.
fn memory(server: &Server, name: &str) -> u64 {
    let path = format!("/proc/{}/status", server.process());
    let status = fs::read_to_string(path).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.unwrap().trim_matches([':', '\t', ' ']);
    let kib: u64 = kib.strip_suffix(" kB").unwrap().trim().parse().unwrap();
    kib * 1024
}

fn peak(server: &Server) -> u64 {
    memory(server, "VmHWM")
}

fn now(server: &Server) -> u64 {
    memory(server, "VmRSS")
}

/// An event of this many bytes that are not JSON.
fn raw(channel: &str, bytes: usize) -> PublishRequest {
    PublishRequest {
        data: Bytes::from(vec![7; bytes]),
        content_type: "application/octet-stream".to_owned(),
        ..event(channel, "flood", Value::Null)
    }
}

/// Publishes all of it in one request, which must succeed.
async fn batch(publisher: &mut Publisher, requests: Vec<PublishRequest>) {
    let request = PublishBatchRequest { requests };
    let answer = publisher.events.publish_batch(request).await;
    for response in answer.unwrap().into_inner().responses {
        assert_eq!(response.error, None);
    }
}

#[tokio::test]
async fn event_flood_does_not_evict_small_channels() {
    let server = Server::start(rooms(16 * MIB)).await;
    let mut service = server.publisher("service").await;
    let mut quiet = server.ws().token("quiet", &[]).connect().await;
    let start = quiet.subscribe("room:quiet").await;
    service.count("room:quiet", "count.up", 1..=5).await;
    let mut flooded = server.ws().token("flooded", &[]).connect().await;
    let there = flooded.subscribe("room:flood-0").await;
    flooded.close().await;
    quiet.close().await;

    let before = now(&server);
    for round in 0..16 {
        let requests = (0..100).map(|n| raw(&format!("room:flood-{}", n % 7), 100_000));
        batch(&mut service, requests.collect()).await;
        let held = server.metric(HELD).await;
        assert!(held <= 16 * MIB, "{held} after {round}");
    }
    let grown = now(&server).saturating_sub(before);
    assert!(grown < 100 * MIB, "{grown} bytes for 16 MiB of history");
    assert!(server.metric(EVICTED).await > 1000);

    let mut back = server.ws().token("quiet", &[]).connect().await;
    let since = |channel: &str, place: &Value| json!({"since": {channel: {"epoch": place["epoch"], "offset": 0}}});
    let reply = back
        .subscribe_with("room:quiet", since("room:quiet", &start))
        .await;
    assert_eq!(
        (&reply["recovered"], &reply["replayed"]),
        (&json!(true), &json!(5))
    );
    assert_eq!(back.numbers("count.up", 5).await, [1, 2, 3, 4, 5]);
    let reply = back
        .subscribe_with("room:flood-0", since("room:flood-0", &there))
        .await;
    assert_eq!(
        reply["epoch"], there["epoch"],
        "the numbering goes on: {reply}"
    );
    assert_eq!(
        (&reply["recovered"], &reply["replayed"]),
        (&json!(false), &json!(0))
    );
    back.close().await;
}

#[tokio::test]
async fn audiences_and_slices_count_their_full_memory() {
    let server = Server::start(rooms(16 * MIB)).await;
    let mut service = server.publisher("service").await;
    let users: Vec<String> = (0..1000).map(|n| format!("{n:064}")).collect();
    let audience = Audience {
        users,
        ..Audience::default()
    };
    let before = now(&server);
    for _ in 0..10 {
        let named = (0..100).map(|_| PublishRequest {
            audience: Some(audience.clone()),
            ..event("room:named", "flood", json!(1))
        });
        batch(&mut service, named.collect()).await;
        // One small event is kept of each 12 MB request.
        let mut mixed: Vec<PublishRequest> =
            (0..120).map(|_| raw("plain:large", 100_000)).collect();
        mixed.push(event("room:small", "kept", json!(1)));
        batch(&mut service, mixed).await;
    }
    assert!(server.metric(HELD).await <= 16 * MIB);
    let grown = now(&server).saturating_sub(before);
    assert!(grown < 100 * MIB, "{grown} bytes for 16 MiB of history");

    let longer = (0..1000).map(|n| format!("{n:080}")).collect();
    let refused = service.try_send(PublishRequest {
        audience: Some(Audience {
            users: longer,
            ..Audience::default()
        }),
        ..event("room:named", "flood", json!(1))
    });
    let refused = refused.await.unwrap_err();
    assert_eq!(refused_fields(&refused), ["audience"], "{refused:?}");
}

/// The output of `tidings check` for this configuration.
async fn printed(config: &Config) -> Value {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tidings.toml"), config.to_toml()).unwrap();
    let check = |more: &[&str]| {
        let args = [&["check", "tidings.toml"], more].concat();
        Tidings::new(&args).within(dir.path()).run()
    };
    let text = check(&[]).await.exits(0).stdout;
    assert!(text.contains("memory: at most "), "{text}");
    assert!(text.contains("limits.outbox_bytes"), "{text}");
    check(&["--json"]).await.exits(0).json()["memory"].clone()
}

#[tokio::test]
async fn memory_stays_below_printed_worst_case() {
    let config = rooms(8 * MIB)
        .set("server.shards", "2")
        .set("server.runtime_threads", "2")
        .set("limits.connections", "30")
        .set("limits.connections_per_ip", "30")
        .set("limits.outbox_bytes", "131072")
        .set("limits.event_bytes", "65536")
        .set("limits.message_bytes", "16384");
    let printed = printed(&config).await;
    let terms = printed["terms"].as_array().unwrap();
    let all: u64 = terms
        .iter()
        .map(|term| term["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(printed["bytes"], json!(all));
    // The parts that this attack exercises. The rest is a gigabyte that it does not touch.
    let attacked = [
        "program",
        "connections",
        "outboxes",
        "streams",
        "replays",
        "inboxes",
        "history",
    ];
    let bound = terms.iter().filter(|term| {
        let name = term["name"].as_str().unwrap();
        attacked.contains(&name)
    });
    let bound: u64 = bound.map(|term| term["bytes"].as_u64().unwrap()).sum();
    let bound = bound / 4 * 5;
    assert!(bound < 450 * MIB, "{bound}");

    let server = Server::start(config).await;
    let mut readers = Vec::new();
    // Subscribers that stop reading: live, during replay, and over SSE.
    for n in 0..24 {
        let token = Token::new(&format!("reader-{n}"));
        let mut reader = server.raw_ws(&token).await;
        let wanted =
            json!({"type": "subscribe", "channels": ["room:0", "plain:0", format!("room:{n}")]});
        reader.send(0x81, wanted.to_string().as_bytes()).await;
        readers.push(reader);
    }
    let mut publishers = JoinSet::new();
    for part in 0..3 {
        let mut service = server.publisher(&format!("service-{part}")).await;
        publishers.spawn(async move {
            for _ in 0..40 {
                let requests = (0..100).map(|n| {
                    let namespace = if n % 10 == 0 { "plain" } else { "room" };
                    raw(&format!("{namespace}:{}", n % 30), 60_000)
                });
                batch(&mut service, requests.collect()).await;
            }
        });
    }
    publishers.join_all().await;
    let peak = peak(&server);
    assert!(peak <= bound, "{peak} bytes, and {bound} were promised");
    assert!(server.metric(HELD).await <= 8 * MIB);
    drop(readers);
}

/// Reloads the file, and waits until it is in effect.
async fn reload(server: &Server, config: &Config) {
    const TAKEN: &str = "tidings_reloads_total{outcome=\"taken\"}";
    let before = server.metric(TAKEN).await;
    server.reload(config);
    eventually("the reload", async || {
        (server.metric(TAKEN).await > before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn disabling_history_starts_new_epoch() {
    for storage in ["memory", "disk"] {
        let keeping = |size: u32| {
            let keys = format!(
                "history = {{ size = {size}, ttl = \"1h\" }}\nsubscribe = 'true'\npublish = 'true'"
            );
            let storage = format!("{storage:?}");
            Config::new()
                .set("history.storage", &storage)
                .namespace("room", &keys)
        };
        let server = Server::start(keeping(1000)).await;
        let mut service = server.publisher("service").await;
        let mut ws = server.ws().token("alice", &[]).connect().await;
        let place = ws.subscribe("room:1").await;
        service.count("room:1", "count.up", 1..=3).await;
        ws.numbers("count.up", 3).await;
        ws.close().await;

        reload(&server, &keeping(0)).await;
        service.count("room:1", "count.up", 4..=8).await;
        reload(&server, &keeping(1000)).await;
        service.count("room:1", "count.up", 9..=9).await;

        let mut back = server.ws().token("alice", &[]).connect().await;
        let since = json!({"since": {"room:1": {"epoch": place["epoch"], "offset": 3}}});
        let reply = back.subscribe_with("room:1", since).await;
        assert_eq!(
            reply["recovered"], false,
            "{storage}: five are missing: {reply}"
        );
        assert_ne!(reply["epoch"], place["epoch"], "{storage}");
        service.count("room:1", "count.up", 10..=10).await;
        assert_eq!(back.numbers("count.up", 1).await, [10], "{storage}");
        back.close().await;
        server.stop().await;
    }
}

#[tokio::test]
async fn unused_store_starts_new_epoch() {
    let storage = |storage: &str| {
        let keys = "history = { size = 1000, ttl = \"1h\" }\nsubscribe = 'true'\npublish = 'true'";
        Config::new()
            .set("history.storage", &format!("{storage:?}"))
            .namespace("room", keys)
    };
    let server = Server::start(storage("disk")).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let place = ws.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=3).await;
    ws.close().await;
    let since = json!({"since": {"room:1": {"epoch": place["epoch"], "offset": 3}}});

    // Used throughout, it is complete.
    let server = Server::start_in(server.stop().await, storage("disk")).await;
    let mut back = server.ws().token("alice", &[]).connect().await;
    let reply = back.subscribe_with("room:1", since.clone()).await;
    assert_eq!(reply["recovered"], true, "{reply}");
    back.close().await;

    let server = Server::start_in(server.stop().await, storage("memory")).await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 4..=8).await;

    let server = Server::start_in(server.stop().await, storage("disk")).await;
    let mut back = server.ws().token("alice", &[]).connect().await;
    let reply = back.subscribe_with("room:1", since).await;
    assert_eq!(reply["recovered"], false, "five are missing: {reply}");
    back.close().await;
}
