//! Floods of valid commands by an authenticated client.

use std::fmt::Write as _;

use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Config, Server, Token, Ws, eventually, masked};

const TEXT: u8 = 0x81;

/// Repeats these messages until the server closes. Returns the close code.
async fn storm(server: &Server, messages: &[Value]) -> Option<u16> {
    let eve = server.raw_ws(&Token::new("eve")).await;
    let frames: Vec<Vec<u8>> = messages
        .iter()
        .map(|message| masked(TEXT, message.to_string().as_bytes()))
        .collect();
    eve.flood(frames.concat(), 20_000).await
}

/// A filter of the maximum allowed cost.
fn costly_filter() -> String {
    let mut filter = "event.data.a == 1".to_owned();
    for n in 0..20 {
        write!(filter, " || event.data.a{n} == \"{n}\"").unwrap();
    }
    filter
}

/// A low limit, so that the test works on slow machines.
fn impatient() -> Config {
    Config::rooms()
        .set("limits.messages_per_second", "5")
        .set("limits.messages_burst", "20")
}

#[tokio::test]
async fn command_flood_closes_only_its_connection() {
    let server = Server::start(impatient()).await;
    let calm = server.calm().await;
    let subscribe = |channels: Value| json!({"type": "subscribe", "channels": channels});
    let publish = json!({
        "type": "publish", "channel": "room:1", "event_type": "a.b", "data": "x".repeat(1000),
    });
    let filtered = json!({
        "type": "subscribe", "channels": ["room:1"], "filter": costly_filter(),
    });
    let storms = [
        vec![
            subscribe(json!(["room:1"])),
            json!({"type": "unsubscribe", "channels": ["room:1"]}),
        ],
        vec![subscribe(json!(vec!["room:1"; 250]))],
        vec![filtered],
        vec![publish],
        vec![json!({"type": "history", "channel": "room:1", "limit": 1000})],
        vec![json!({"type": "presence", "channel": "room:1"})],
        vec![json!({"type": "authenticate", "token": "a.b.c"})],
        vec![json!({"type": "register", "client_type": "x".repeat(64)})],
    ];
    for (ended, messages) in (1..).zip(storms) {
        let (code, ()) = tokio::join!(storm(&server, &messages), server.serves_promptly());
        let kind = &messages[0]["type"];
        // A client that keeps sending is reset, and may thereby lose the close frame.
        assert!(matches!(code, Some(4429 | 4411) | None), "{kind}: {code:?}");
        eventually("the close to be counted", async || {
            (closes(&server).await == ended).then_some(())
        })
        .await;
    }
    calm.comes_back().await;
}

/// How many connections were closed for exceeding a limit.
async fn closes(server: &Server) -> u64 {
    let mut sum = 0;
    for code in [4429, 4411] {
        let series = format!("tidings_closes_total{{code=\"{code}\"}}");
        sum += server.metric(&series).await;
    }
    sum
}

#[tokio::test]
async fn oversized_list_is_refused_as_a_whole() {
    let server = Server::start(Config::rooms().set("audit.file", r#""audit.log""#)).await;
    let calm = server.calm().await;
    let mut eve = server.ws().token("eve", &[]).connect().await;
    let closed: Vec<String> = (0..4000).map(|n| format!("project:{n}")).collect();
    let message = json!({"type": "subscribe", "channels": closed});
    let refused = eve.refused(message, "invalid_argument").await;
    let reported = refused["message"].as_str().unwrap();
    assert!(
        reported.contains("limits.subscriptions_per_connection"),
        "{reported}"
    );
    // No rule was evaluated for each entry, and no log line was written for each.
    let audit = std::fs::read_to_string(server.path("audit.log")).unwrap();
    assert_eq!(audit.matches("subscribe_refused").count(), 0);
    let within = json!({"type": "subscribe", "channels": closed[..256]});
    let reply = eve.ask(within).await;
    assert_eq!(reply["errors"].as_array().unwrap().len(), 256);
    // Other lists need no rule, and are answered.
    for message in [
        json!({"type": "unsubscribe", "channels": closed}),
        json!({"type": "unsubscribe", "event_types": vec!["a.b"; 5000]}),
        json!({"type": "subscribe", "channels": ["room:1"], "event_types": vec!["a.b"; 5000]}),
        json!({"type": "publish", "channel": "room:1", "event_type": "a.b", "data": 1,
            "headers": (0..3000).map(|n| (format!("h{n}"), json!("v"))).collect::<serde_json::Map<_, _>>()}),
    ] {
        let reply = eve.ask(message).await;
        assert!(
            matches!(reply["type"].as_str(), Some("error" | "unsubscribed")),
            "{reply}"
        );
    }
    eve.close().await;
    calm.comes_back().await;
}

#[tokio::test]
async fn filter_cost_is_limited() {
    let server = Server::start(Config::rooms()).await;
    let calm = server.calm().await;
    let mut eve = server.ws().token("eve", &[]).connect().await;
    let nested = format!("{}true{}", "(".repeat(5000), ")".repeat(5000));
    let chain = vec!["event.data.a == 1"; 2000].join(" || ");
    let loops = "[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, \
                 [1,2,3,4,5,6,7,8,9].all(c, [1,2,3,4,5,6,7,8,9].all(d, \
                 [1,2,3,4,5,6,7,8,9].all(e, [1,2,3,4,5,6,7,8,9].all(f, a+b+c+d+e+f > 0))))))";
    let pattern = r#"event.data.text.matches("^(a+)+(a+)+(a+)+(a+)+$")"#;
    let counted = r#"event.data.text.matches("((a{1,100}){1,100}){1,100}")"#;
    let text = format!("event.data.text.contains(\"{}\")", "a".repeat(30_000));
    let grown = format!("{} == \"\"", vec!["event.data.text"; 200].join(" + "));
    let filters = [
        nested.as_str(),
        &chain,
        loops,
        pattern,
        counted,
        &text,
        &grown,
        "event",
    ];
    let mut service = server.publisher("service").await;
    let long = json!({"text": "a".repeat(10_000) + "b"});
    for (n, filter) in filters.into_iter().enumerate() {
        let channel = format!("room:{n}");
        let message = json!({"type": "subscribe", "channels": [channel], "filter": filter});
        let reply = eve.ask(message).await;
        let kind = reply["type"].as_str().unwrap();
        assert!(matches!(kind, "subscribed" | "error"), "{filter}: {reply}");
        // Accepted commands must be processed.
        let started = std::time::Instant::now();
        for _ in 0..20 {
            service.publish(&channel, "a.b", long.clone()).await;
        }
        eve.lives().await;
        let took = started.elapsed();
        assert!(took.as_secs() < 4, "{filter}: {took:?}");
    }
    eve.close().await;
    drop(service);
    calm.comes_back().await;
}

#[tokio::test]
async fn http_publish_rate_is_limited() {
    let config = Config::rooms()
        .set("limits.publishes_per_second", "10")
        .set("limits.publishes_burst", "10");
    let server = std::sync::Arc::new(Server::start(config).await);
    let calm = server.calm().await;
    let token = format!("Bearer {}", Token::new("eve").sign());
    let body = r#"{"type":"a.b","channels":["room:1"],"data":1}"#;
    let mut floods = JoinSet::new();
    for _ in 0..8 {
        let (server, token) = (std::sync::Arc::clone(&server), token.clone());
        floods.spawn(async move {
            let headers = [
                ("Authorization", token.as_str()),
                ("Content-Type", "application/json"),
            ];
            let mut accepted = 0;
            for _ in 0..50 {
                let answer = server
                    .http(Method::POST, "/api/v1/events", &headers, body)
                    .await;
                assert!(matches!(answer.status, 200 | 429), "{answer:?}");
                accepted += usize::from(answer.status == 200);
            }
            accepted
        });
    }
    let started = std::time::Instant::now();
    // Publishers with other names have their own rate limit.
    server.serves_promptly().await;
    let accepted: usize = floods.join_all().await.into_iter().sum();
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!(
        accepted <= 10 + 10 * (seconds + 1),
        "{accepted} in {seconds} s"
    );
    calm.comes_back().await;
}

#[tokio::test]
async fn client_that_never_reads_is_closed() {
    let config = Config::rooms()
        .set("limits.outbox_bytes", "65536")
        .set("limits.messages_per_second", "0");
    let server = Server::start(config).await;
    let calm = server.calm().await;
    let mut service = server.publisher("service").await;
    service
        .publish("room:1", "a.b", json!({"pad": "x".repeat(20_000)}))
        .await;
    let mut eve = server.ws().token("eve", &[]).small_window().connect().await;
    let slow = "tidings_closes_total{code=\"4411\"}";
    for _ in 0..1500 {
        ask_for_history(&mut eve).await;
    }
    eventually("the end of the client that does not read", async || {
        (server.metric(slow).await > 0).then_some(())
    })
    .await;
    drop((eve, service));
    calm.comes_back().await;
}

async fn ask_for_history(ws: &mut Ws) {
    ws.send(json!({"type": "history", "channel": "room:1", "limit": 1}))
        .await;
}
