//! Attacks with filters of unbounded work or memory. They delay nobody else, and their sender is
//! told which budget is exhausted.

use http::Method;
use serde_json::{Value, json};
use tidings::proto::{SubscribeRequest, Subscription};
use tonic::Code;

use crate::harness::{Config, Server, Token, Ws, eventually};

/// Matches nothing, at maximum cost.
const NOTHING: &str = "data.list.exists(x, x > 8) || data.text.contains('aab')";

fn one_shard() -> Config {
    Config::rooms().set("server.shards", "1")
}

/// About `kib` KiB of JSON for filters to scan.
fn data(kib: usize) -> Value {
    json!({ "list": vec![7; kib * 256], "text": "a".repeat(kib * 512) })
}

fn subscribe(channel: &str, filter: &str) -> Value {
    json!({ "type": "subscribe", "channels": [channel], "filter": filter })
}

/// The message of the only refusal in a reply to `subscribe`, or of an `unsubscribed`.
fn refusal(reported: &Value) -> String {
    let error = match reported["type"].as_str() {
        Some("subscribed") => &reported["errors"][0],
        Some("unsubscribed") => &reported["reason"],
        _ => reported,
    };
    assert_eq!(error["code"], "resource_exhausted", "{reported}");
    error["message"].as_str().unwrap().to_owned()
}

async fn is_served(server: &Server, victim: &mut Ws) {
    for _ in 0..3 {
        victim.lives().await;
    }
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn replay_that_matches_nothing_blocks_nobody() {
    // The connection's budget allows it seconds, even on the fastest machine.
    let config = one_shard().set("limits.filter_steps_per_second", "100000");
    let server = Server::start(config).await;
    let mut service = server.publisher("service").await;
    for _ in 0..500 {
        service.publish("room:1", "a.b", data(1)).await;
    }
    let mut victim = server.ws().token("ann", &[]).connect().await;
    let mut eve = server.ws().token("eve", &[]).connect().await;
    let mut message = subscribe("room:1", NOTHING);
    message["rewind"] = json!(500);
    eve.send(message).await;
    eventually("the replay to begin", async || {
        (server.metric("tidings_filter_steps_total").await > 0).then_some(())
    })
    .await;
    is_served(&server, &mut victim).await;
    assert_eq!(eve.unread().count(), 0, "the replay goes on meanwhile");
    // Counting would exceed the budget of five seconds.
    let subscribed = eve.expect("subscribed").await;
    let reported = refusal(&subscribed);
    assert!(
        reported.contains("limits.filter_steps_per_second"),
        "{reported}"
    );
    let reached = "tidings_limit_reached_total{limit=\"filter_steps_per_second\"}";
    assert!(server.metric(reached).await > 0);
    eve.lives().await;
}

#[tokio::test]
async fn replay_is_complete_with_offloaded_filter() {
    let server = Server::start(one_shard()).await;
    let mut service = server.publisher("service").await;
    for n in 0..60 {
        let data = json!({ "n": n, "list": vec![7; 3000] });
        service.publish("room:1", "count.up", data).await;
    }
    let mut eve = server.ws().token("eve", &[]).connect().await;
    let mut message = subscribe("room:1", "data.list.all(x, x == 7) && data.n % 2 == 0");
    message["rewind"] = json!(60);
    let subscribed = eve.ask(message).await;
    assert_eq!(subscribed["channels"][0]["replayed"], 30, "{subscribed}");
    let even: Vec<u64> = (0..60).filter(|n| n % 2 == 0).collect();
    assert_eq!(eve.numbers("count.up", 30).await, even);
    // It goes live after it.
    service
        .publish("room:1", "count.up", json!({ "n": 60, "list": [7] }))
        .await;
    assert_eq!(eve.numbers("count.up", 1).await, [60]);
}

#[tokio::test]
async fn costly_live_filters_block_nobody() {
    let server = Server::start(one_shard()).await;
    let mut service = server.publisher("service").await;
    for channel in ["room:1", "plain:1"] {
        let mut victim = server.ws().token("ann", &[]).connect().await;
        victim.subscribe(channel).await;
        let mut eve = server.ws().token("eve", &[]).connect().await;
        for n in 0..50 {
            let filter = format!("{NOTHING} || data.n == {n}");
            let mut message = subscribe(channel, &filter);
            message["channels"] = json!([channel.replace('1', &format!("1{n}"))]);
            let subscribed = eve.ask(message).await;
            assert_eq!(subscribed["errors"], json!([]), "{subscribed}");
        }
        for n in 0..50 {
            let crowded = channel.replace('1', &format!("1{n}"));
            service.publish(&crowded, "a.b", data(40)).await;
        }
        for _ in 0..3 {
            service
                .publish(channel, "a.b", json!({ "for": "ann" }))
                .await;
            victim.expect_event("a.b").await;
        }
        is_served(&server, &mut victim).await;
    }
    let asked = eventually("costly filters to go on elsewhere", async || {
        let deferred = server.metric("tidings_filters_deferred_total").await;
        (deferred > 0).then_some(deferred)
    });
    asked.await;
}

#[tokio::test]
async fn large_filtered_events_arrive_in_order() {
    let config = one_shard().set("limits.outbox_bytes", "8388608");
    let server = Server::start(config).await;
    let mut victim = server.ws().token("ann", &[]).connect().await;
    let mut streams = Vec::new();
    for (channel, filter) in [
        ("room:1", "data.text.endsWith('aa')"),
        ("plain:1", "size(data.text) > 5"),
        ("plain:*", "data.list.all(x, x == 7)"),
    ] {
        let mut eve = server.ws().token("eve", &["service"]).connect().await;
        let subscribed = eve.ask(subscribe(channel, filter)).await;
        assert_eq!(subscribed["errors"], json!([]), "{subscribed}");
        streams.push(eve);
    }
    let mut service = server.publisher("service").await;
    for n in 0..8 {
        for channel in ["room:1", "plain:1"] {
            let data = json!({ "n": n, "list": vec![7; 300], "text": "a".repeat(900_000) });
            service.publish(channel, "count.up", data).await;
        }
        is_served(&server, &mut victim).await;
    }
    for mut eve in streams {
        let numbers = eve.numbers("count.up", 8).await;
        assert_eq!(numbers, (0..8).collect::<Vec<u64>>());
    }
}

#[tokio::test]
async fn evaluation_over_budget_is_reported() {
    let config = one_shard().set("limits.filter_steps", "20000");
    let server = Server::start(config).await;
    let mut service = server.publisher("service").await;
    let mut eve = server.ws().token("eve", &[]).connect().await;
    for channel in ["room:1", "plain:1"] {
        eve.ask(subscribe(channel, NOTHING)).await;
        service.publish(channel, "a.b", data(40)).await;
    }
    // If events have offsets, a gap names the skipped one. Otherwise, the subscription ends.
    let (mut gap, mut ended) = (None, None);
    while gap.is_none() || ended.is_none() {
        let reported = eve.next_or_close().await.expect("the connection lives");
        match reported["type"].as_str() {
            Some("gap") => gap = Some(reported),
            Some("unsubscribed") => ended = Some(reported),
            _ => {}
        }
    }
    let gap = gap.unwrap();
    assert_eq!(gap["channel"], "room:1");
    assert_eq!((&gap["from"], &gap["to"]), (&json!(1), &json!(1)));
    assert_eq!(gap["reason"], "filter_steps");
    let ended = ended.unwrap();
    assert_eq!(ended["channels"], json!(["plain:1"]));
    assert!(refusal(&ended).contains("limits.filter_steps"), "{ended}");
    let reached = "tidings_limit_reached_total{limit=\"filter_steps\"}";
    assert_eq!(server.metric(reached).await, 2);
}

#[tokio::test]
async fn queue_for_costly_filter_is_bounded() {
    let config = one_shard()
        .set("limits.outbox_bytes", "200000")
        .set("limits.filter_steps_per_second", "1000");
    let server = Server::start(config).await;
    let mut service = server.publisher("service").await;
    let mut eve = server.ws().token("eve", &[]).connect().await;
    eve.ask(subscribe("plain:1", NOTHING)).await;
    for _ in 0..20 {
        service.publish("plain:1", "a.b", data(20)).await;
    }
    let ended = eve.expect("unsubscribed").await;
    let reported = refusal(&ended);
    assert!(reported.contains("limits.outbox_bytes"), "{reported}");
    eve.lives().await;
}

#[tokio::test]
async fn overlapping_subscriptions_deliver_once_with_filter() {
    let server = Server::start(one_shard()).await;
    let mut service = server.publisher("service").await;
    let mut eve = server.ws().token("eve", &["service"]).connect().await;
    eve.ask(subscribe("plain:1", NOTHING)).await;
    eve.subscribe("plain:*").await;
    for n in 0..3 {
        let data = json!({ "n": n, "list": vec![7; 20_000], "text": "" });
        service.publish("plain:1", "count.up", data).await;
    }
    // The costly subscription cannot be deferred without being overtaken by the other one, so it
    // ends.
    let ended = eve.expect("unsubscribed").await;
    assert_eq!(ended["channels"], json!(["plain:1"]));
    assert!(refusal(&ended).contains("filter_overlap"), "{ended}");
    let reached = "tidings_limit_reached_total{limit=\"filter_overlap\"}";
    assert_eq!(server.metric(reached).await, 1);
    assert_eq!(eve.numbers("count.up", 3).await, [0, 1, 2]);
    eve.lives().await;
    assert!(eve.unread().all(|reported| reported["type"] != "count.up"));
}

/// A filter with this many unique regular expressions.
fn patterns(n: usize, pattern: &str, count: usize) -> String {
    let one = |at| format!("type.matches('{pattern}{n}{at}')");
    let all: Vec<String> = (0..count).map(one).collect();
    all.join("||")
}

#[tokio::test]
async fn compiled_filters_stay_within_memory_limit() {
    let config = one_shard()
        .set("limits.messages_per_second", "0")
        .set("limits.filter_bytes", "65536")
        .set("limits.filter_bytes_per_connection", "100000")
        .set("limits.filter_memory", "300000");
    let server = Server::start(config).await;
    let calm = server.calm().await;
    let mut victim = server.ws().token("ann", &[]).connect().await;
    let (mut notified, mut eves) = (Vec::new(), Vec::new());
    for user in 0..5 {
        let user = user * 1000;
        let name = format!("eve-{user}");
        let mut eve = server.ws().token(&name, &[]).connect().await;
        let large = patterns(user, r"\\pL", 22);
        let refused = eve.ask(subscribe("room:1", &large)).await;
        notified.push(refusal(&refused));
        for n in user..user + 10 {
            let filter = patterns(n, r"\\d", 8);
            let reply = eve.ask(subscribe(&format!("room:{n}"), &filter)).await;
            if reply["errors"] != json!([]) {
                notified.push(refusal(&reply));
            }
        }
        is_served(&server, &mut victim).await;
        eves.push(eve);
    }
    for limit in [
        "limits.filter_bytes)",
        "limits.filter_bytes_per_connection)",
        "limits.filter_memory)",
    ] {
        assert!(
            notified.iter().any(|reported| reported.contains(limit)),
            "{limit} is not in {notified:?}"
        );
    }
    // While all of them are in use.
    assert!(calm.grown() < 64 * 1024, "{} KiB more", calm.grown());
    drop((eves, victim));
    calm.comes_back().await;
}

#[tokio::test]
async fn slow_regex_compilation_blocks_nobody() {
    let server = Server::start(one_shard()).await;
    let mut victim = server.ws().token("ann", &[]).connect().await;
    let mut eve = server.ws().token("eve", &[]).connect().await;
    for pattern in [
        r"((((((a{99}){99}){99}){99}){99}){99}){99}",
        r"(?i)[\\pL--\\p{Greek}]{999}",
        r"(\\w{1,99}){1,99}",
    ] {
        let filter = format!("type.matches('{pattern}')");
        let error = eve
            .refused(subscribe("room:1", &filter), "invalid_argument")
            .await;
        assert_eq!(error["details"]["field"], "filter", "{error}");
        is_served(&server, &mut victim).await;
    }
}

#[tokio::test]
async fn filter_limit_is_reported_on_every_transport() {
    let config = one_shard().set("limits.filter_bytes", "2000");
    let server = Server::start(config).await;
    let filter = r"type.matches('\\w\\w')";
    let mut eve = server.ws().token("eve", &[]).connect().await;
    let error = eve
        .refused(subscribe("room:1", filter), "resource_exhausted")
        .await;
    assert!(error.to_string().contains("limits.filter_bytes"), "{error}");
    let token = Token::new("eve");
    let query = format!(
        "/sse?channel=room:1&token={}&filter=type.matches('%5C%5Cw%5C%5Cw')",
        token.sign()
    );
    let answer = server.http(Method::GET, &query, &[], "").await;
    assert!(answer.text().contains("limits.filter_bytes"), "{answer:?}");
    let request = SubscribeRequest {
        subscriptions: vec![Subscription {
            channel: "room:1".into(),
            ..Subscription::default()
        }],
        filter: filter.to_owned(),
        ..SubscribeRequest::default()
    };
    let mut events = server.events(Some(&token)).await;
    let refused = events.subscribe(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(
        refused.message().contains("limits.filter_bytes"),
        "{refused}"
    );
}
