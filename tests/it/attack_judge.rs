//! Fair queueing of offloaded filter evaluations: a user with many costly filters does not delay
//! another user's filters.

use serde_json::{Value, json};

use crate::harness::{Config, Server, eventually};

/// Eve's connections, each with an evaluation in progress or queued.
const CONNECTIONS: u64 = 60;
/// How many events each of them requests.
const EVENTS: u64 = 20;

/// Iterates a list twice and matches nothing.
fn costly(n: u64) -> String {
    format!(
        "data.list.exists(x, x > 8) || data.list.exists(x, x > {})",
        n + 100
    )
}

fn replay(channel: &str, n: u64) -> Value {
    json!({ "type": "subscribe", "channels": [channel], "rewind": EVENTS, "filter": costly(n) })
}

async fn evaluations(server: &Server) -> u64 {
    server.metric("tidings_filter_evaluations_total").await
}

#[tokio::test]
async fn costly_filters_delay_only_their_user() {
    let config = Config::rooms()
        .set("server.shards", "1")
        .set("limits.filter_steps_per_second", "0");
    let server = Server::start(config).await;
    let mut service = server.publisher("service").await;
    let data = json!({ "list": vec![7; 10_000] });
    for _ in 0..EVENTS {
        service.publish("room:eve", "a.b", data.clone()).await;
    }
    service.publish("room:ann", "a.b", data).await;
    let mut ann = server.ws().token("ann", &[]).connect().await;
    let mut eves = Vec::new();
    for n in 0..CONNECTIONS {
        let mut eve = server.ws().token("eve", &[]).connect().await;
        eve.send(replay("room:eve", n)).await;
        eves.push(eve);
    }
    // By then, all of them are queued, and continue for much longer.
    eventually("the evaluations to begin", async || {
        (evaluations(&server).await > CONNECTIONS).then_some(())
    })
    .await;
    // In a FIFO queue, she would wait for an evaluation of each connection.
    let compiled =
        json!({ "type": "subscribe", "channels": ["room:new"], "filter": "data.new == 2" });
    for message in [compiled, replay("room:ann", 1000)] {
        let before = evaluations(&server).await;
        let subscribed = ann.ask(message).await;
        assert_eq!(subscribed["errors"], json!([]), "{subscribed}");
        let waited = evaluations(&server).await - before;
        assert!(waited < CONNECTIONS / 2, "{waited} evaluations");
    }
    let all = evaluations(&server).await;
    assert!(
        all < CONNECTIONS * EVENTS,
        "Eve's evaluations went on: {all}"
    );
}
