//! A process with few file descriptors.

use bytes::Bytes;
use http::Method;
use serde_json::json;

use crate::harness::{Config, Server, eventually};

#[tokio::test]
async fn soft_descriptor_limit_is_raised() {
    let config = Config::rooms()
        .descriptors(64, 3000)
        .set("limits.connections", "300");
    let server = Server::start(config).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.process())).unwrap();
    let line = limits.lines().find(|l| l.starts_with("Max open files"));
    let words: Vec<&str> = line.unwrap().split_whitespace().collect();
    assert_eq!(words[3..5], ["3000", "3000"], "{line:?}");
    let mut held = Vec::new();
    for n in 0..90 {
        held.push(server.ws().token(&format!("u{n}"), &[]).connect().await);
    }
    assert!(
        !server.log().contains("file descriptors"),
        "{}",
        server.log()
    );
}

#[tokio::test]
async fn few_descriptors_warn_and_probes_respond() {
    let config = Config::rooms()
        .descriptors(200, 200)
        .set("limits.connections", "1000");
    let server = Server::start(config).await;
    let log = server.log();
    assert!(log.contains("too few file descriptors"), "{log}");
    assert!(
        log.contains("needed=3304") && log.contains("LimitNOFILE"),
        "{log}"
    );
    let mut held = Vec::new();
    let refused = loop {
        let client = server.ws().token(&format!("u{}", held.len()), &[]);
        match client.upgrade().await {
            Ok(ws) => held.push(ws),
            Err(status) => break status,
        }
        assert!(held.len() < 200, "more than there can be");
    };
    assert_eq!(refused, 503, "after {}", held.len());
    assert!(held.len() > 50, "{}", held.len());
    for path in ["/healthz", "/readyz"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    let refused = server.get("/api/v1/stats").await;
    assert_eq!(refused.assert_problem(503)["code"], "unavailable");
    let metrics = server
        .internal_http(Method::GET, "/metrics", &[], Bytes::new())
        .await;
    assert_eq!(metrics.status, 200);
    let series = "tidings_limit_reached_total{limit=\"descriptors\"}";
    assert!(server.metric(series).await > 0);
    // Open connections continue, and a freed slot can be reused.
    held.truncate(10);
    eventually("free descriptors", async || {
        let client = server.ws().token("late", &[]).upgrade().await;
        client.ok().map(drop)
    })
    .await;
    held[0].subscribe("room:1").await;
    held[0].publish("room:1", "still.here", json!({})).await;
    held[0].expect_event("still.here").await;
}
