//! Slow consumers: they affect nobody else, and are told what they lost.

use serde_json::{Value, json};

use crate::harness::{Config, Publisher, Server, Ws, eventually};

const MIB: usize = 1 << 20;

/// A server with small outboxes, where `room` has this policy.
async fn server_with(policy: &str) -> Server {
    let keys = format!(
        "history = {{ size = 100, ttl = \"1h\" }}\nsubscribe = 'true'\nslow_consumer = \"{policy}\""
    );
    let config = Config::new()
        .namespace("room", &keys)
        .set("limits.outbox_bytes", "262144");
    Server::start(config).await
}

async fn slow(server: &Server) -> Ws {
    let mut ws = server
        .ws()
        .token("slow", &[])
        .small_window()
        .connect()
        .await;
    ws.subscribe("room:1").await;
    ws
}

async fn slow_consumers(server: &Server) -> u64 {
    let request = tidings::proto::GetStatsRequest::default();
    let answer = server.admin().await.get_stats(request).await.unwrap();
    answer.into_inner().stats.unwrap().slow_consumers
}

/// Publishes until the server detects a slow consumer, and a little more. `read` must receive each
/// event immediately. Returns the number of events.
async fn flood(server: &Server, service: &mut Publisher, reader: &mut Ws) -> u64 {
    let pad = "x".repeat(MIB / 16);
    let mut felt = None;
    for n in 1..=1600 {
        let mut request = crate::harness::event("room:1", "big", json!({"n": n, "pad": pad}));
        request.key = format!("key-{}", n % 4);
        service.send(request).await;
        assert_eq!(
            reader.numbers("big", 1).await,
            [n],
            "others get everything, in order"
        );
        match felt {
            None if n % 16 == 0 && slow_consumers(server).await > 0 => felt = Some(n),
            Some(at) if n == at + 20 => return n,
            _ => {}
        }
    }
    panic!("100 MiB unread, and the server has not noticed");
}

#[tokio::test]
async fn disconnect_policy_closes_slow_consumer_4411() {
    let server = server_with("disconnect").await;
    let mut slow = slow(&server).await;
    let mut reader = server.ws().token("reader", &[]).connect().await;
    reader.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    flood(&server, &mut service, &mut reader).await;
    slow.expect_close(4411).await;
    let numbers: Vec<u64> = slow
        .unread()
        .filter_map(|m| m["data"]["n"].as_u64())
        .collect();
    let expected: Vec<u64> = (1..).take(numbers.len()).collect();
    assert_eq!(numbers, expected, "events before the close are complete");
    let lost = dropped(&server, "slow_consumer").await;
    assert!(lost > 1, "what waited counts too: {lost}");
    reader.lives().await;
}

/// How many events were dropped for this reason.
async fn dropped(server: &Server, reason: &str) -> u64 {
    let series = format!("tidings_events_dropped_total{{reason=\"{reason}\"}}");
    server.metric(&series).await
}

#[tokio::test]
async fn events_queued_at_disconnect_count_as_dropped() {
    let server = server_with("drop_oldest").await;
    let slow = slow(&server).await;
    let mut reader = server.ws().token("reader", &[]).connect().await;
    reader.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    flood(&server, &mut service, &mut reader).await;
    assert!(dropped(&server, "drop_oldest").await > 0);
    drop(slow);
    eventually("the end of the slow one", async || {
        (dropped(&server, "disconnected").await > 0).then_some(())
    })
    .await;
}

/// Reads up to the last event. Returns the received offsets, and those that gaps name.
async fn account(slow: &mut Ws, last: u64) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut incoming, mut gaps) = (Vec::new(), Vec::new());
    while incoming.last() != Some(&last) {
        let message: Value = slow.next_or_close().await.expect("no close");
        match message["type"].as_str().unwrap() {
            "big" | "fence" => incoming.push(message["offset"].as_u64().unwrap()),
            "gap" => {
                assert_eq!(message["channel"], "room:1", "{message}");
                assert!(message["reason"].is_string(), "{message}");
                let (from, to) = (message["from"].as_u64(), message["to"].as_u64());
                gaps.push((from.unwrap(), to.unwrap()));
            }
            _ => {}
        }
    }
    (incoming, gaps)
}

#[tokio::test]
async fn drop_oldest_policy_reports_gap() {
    let server = server_with("drop_oldest").await;
    let mut slow = slow(&server).await;
    let mut reader = server.ws().token("reader", &[]).connect().await;
    reader.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    let last = flood(&server, &mut service, &mut reader).await + 1;
    service.publish("room:1", "fence", json!({})).await;

    let (incoming, gaps) = account(&mut slow, last).await;
    assert!(
        incoming.is_sorted_by(|a, b| a < b),
        "in order, each once: {incoming:?}"
    );
    assert!(!gaps.is_empty());
    for offset in 1..=last {
        let named = gaps
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&offset));
        assert_ne!(
            incoming.contains(&offset),
            named,
            "{offset} of {incoming:?}, gaps {gaps:?}"
        );
    }
}

#[tokio::test]
async fn conflate_policy_delivers_newest_of_each_key() {
    let server = server_with("conflate").await;
    let mut slow = slow(&server).await;
    let mut reader = server.ws().token("reader", &[]).connect().await;
    reader.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    let last = flood(&server, &mut service, &mut reader).await + 1;
    service.publish("room:1", "fence", json!({})).await;

    let conflated = server.metric("tidings_events_conflated_total").await;
    assert_eq!(dropped(&server, "conflated").await, conflated);
    let (incoming, gaps) = account(&mut slow, last).await;
    for offset in 1..=last {
        let named = gaps
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&offset));
        assert!(
            incoming.contains(&offset) || named,
            "{offset} of {incoming:?}, gaps {gaps:?}"
        );
    }
    assert!(
        incoming.is_sorted_by(|a, b| a < b),
        "in order, each once: {incoming:?}"
    );
}

#[tokio::test]
async fn resync_policy_loses_nothing_in_history() {
    let server = server_with("resync").await;
    let mut slow = slow(&server).await;
    let mut reader = server.ws().token("reader", &[]).connect().await;
    reader.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    let last = flood(&server, &mut service, &mut reader).await + 1;
    service.publish("room:1", "fence", json!({})).await;

    let (incoming, gaps) = account(&mut slow, last).await;
    assert!(
        incoming.is_sorted_by(|a, b| a < b),
        "in order, each once: {incoming:?}"
    );
    for offset in 1..=last {
        let named = gaps
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&offset));
        assert_ne!(
            incoming.contains(&offset),
            named,
            "{offset} of {incoming:?}, gaps {gaps:?}"
        );
    }
    // After recovery it is live again.
    service.publish("room:1", "live", json!({})).await;
    slow.expect_event("live").await;
}
