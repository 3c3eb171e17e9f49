//! Filters on events that come from history: what they tell, whom they hold up, and what is lost
//! when a subscription is replaced meanwhile.

use serde_json::{Value, json};
use tidings::proto::{Audience, PublishRequest};

use crate::harness::{Config, Server, event};

/// It goes through the whole list where nothing in it is larger than 8.
const COSTLY: &str = "data.list.exists(x, x > 8)";

fn one_shard() -> Config {
    Config::rooms().set("server.shards", "1")
}

fn list(n: u64, length: usize) -> Value {
    json!({ "n": n, "list": vec![7; length] })
}

#[tokio::test]
async fn a_replay_says_nothing_of_events_that_one_may_not_see() {
    let config = one_shard()
        .set("limits.filter_steps", "20000")
        .event_type("audit.entry", r#"roles = ["auditor"]"#);
    let server = Server::start(config).await;
    let mut service = server.publisher("service").await;
    // Together too large to be kept between counting and sending: the filter is asked twice.
    for n in 0..4 {
        let secret = PublishRequest {
            audience: Some(Audience {
                users: vec!["alice".to_owned()],
                ..Audience::default()
            }),
            ..event("room:1", "secret", list(n, 20_000))
        };
        service.send(secret).await;
        let hidden = list(n, 20_000);
        service.publish("room:1", "audit.entry", hidden).await;
    }
    service
        .publish("room:1", "open", json!({ "list": [9] }))
        .await;
    let mut eve = server.ws().token("eve", &[]).connect().await;
    let more = json!({ "rewind": 100, "filter": COSTLY });
    let joined = eve.subscribe_with("room:1", more).await;
    assert_eq!(joined["replayed"], 1, "{joined}");
    let before = eve.until("open").await;
    assert!(before.is_empty(), "{before:?}");
    let reached = "tidings_limit_reached_total{limit=\"filter_steps\"}";
    assert_eq!(server.metric(reached).await, 0, "the filter was asked");
    assert!(server.metric("tidings_filter_steps_total").await < 1000);

    // Who may see them is told which ones take too long.
    let mut alice = server.ws().token("alice", &["auditor"]).connect().await;
    let more = json!({ "rewind": 100, "filter": COSTLY });
    alice.subscribe_with("room:1", more).await;
    let before = alice.until("open").await;
    assert_eq!(before.len(), 8, "{before:?}");
    assert!(before.iter().all(|m| m["reason"] == "filter_steps"));
}
