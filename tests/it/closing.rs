//! Stopping, and changing the configuration while running.

use serde_json::{Value, json};

use crate::harness::{Config, Server, eventually};

#[tokio::test]
async fn sigterm_tells_everyone_when_to_come_back_and_then_ends() {
    let mut server = Server::start(Config::rooms().arg("--drain").arg("3s")).await;
    let mut clients = Vec::new();
    for n in 0..3 {
        clients.push(server.ws().token(&format!("user-{n}"), &[]).connect().await);
    }
    server.signal("TERM");
    for (n, ws) in clients.iter_mut().enumerate() {
        let reconnect = ws.expect("reconnect").await;
        let after = reconnect["after_ms"].as_u64().expect("after_ms");
        assert!(after <= 60_000, "{reconnect}");
        assert!(reconnect["reason"].is_string(), "{reconnect}");
        if n == 0 {
            let ready = server.try_status("/readyz").await;
            assert!(matches!(ready, Some(503) | None), "{ready:?}");
        }
    }
    for ws in &mut clients {
        ws.expect_close(1012).await;
    }
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.log());
}

#[tokio::test]
async fn sigterm_with_nobody_there_ends_at_once() {
    let mut server = Server::start(Config::rooms()).await;
    let started = std::time::Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0));
    assert!(started.elapsed() < std::time::Duration::from_secs(8));
}

#[tokio::test]
async fn sigint_ends_it_too() {
    let mut server = Server::start(Config::rooms()).await;
    server.signal("INT");
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn events_published_before_the_end_arrive_before_the_close() {
    let server = Server::start(Config::rooms().arg("--drain").arg("2s")).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    server
        .publisher("service")
        .await
        .count("room:1", "count.up", 1..=200)
        .await;
    server.signal("TERM");
    assert_eq!(
        ws.numbers("count.up", 200).await,
        (1..=200).collect::<Vec<u64>>()
    );
    ws.expect("reconnect").await;
    ws.expect_close(1012).await;
}

/// Room for asking again and again.
fn patient() -> Config {
    Config::rooms()
        .set("limits.messages_per_second", "10000")
        .set("limits.messages_burst", "10000")
}

#[tokio::test]
async fn sighup_applies_a_new_namespace_without_dropping_a_connection() {
    let server = Server::start(patient()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let subscribe = json!({"type": "subscribe", "channels": ["late:1"]});
    let stands = |reply: &Value| reply["channels"].as_array().is_some_and(|c| !c.is_empty());
    assert!(!stands(&ws.ask(subscribe.clone()).await));

    server.reload(&patient().namespace("late", "subscribe = 'true'"));
    eventually("the new namespace", async || {
        stands(&ws.ask(subscribe.clone()).await).then_some(())
    })
    .await;
    let mut service = server.publisher("service").await;
    service.publish("late:1", "a.b", json!({})).await;
    service.publish("room:1", "a.c", json!({})).await;
    ws.expect_event("a.b").await;
    ws.expect_event("a.c").await;
}

#[tokio::test]
async fn a_bad_file_is_refused_and_the_old_one_stays() {
    let server = Server::start(patient()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let bad = [
        "this is not TOML".to_owned(),
        patient().set("limits.conections", "1").to_toml(),
        patient()
            .namespace("broken", "subscribe = 'id =='")
            .to_toml(),
    ];
    for toml in bad {
        let before = server.log().len();
        server.reload_text(&toml);
        eventually("the refusal in the log", async || {
            let log = server.log();
            log.get(before..)
                .is_some_and(|new| new.contains('\n'))
                .then_some(())
        })
        .await;
        ws.lives().await;
        ws.subscribe("room:2").await;
        server
            .ws()
            .token("bob", &[])
            .connect()
            .await
            .subscribe("room:1")
            .await;
    }
}

#[tokio::test]
async fn the_second_signal_ends_it_at_once() {
    let mut server = Server::start(Config::rooms().arg("--drain").arg("60s")).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    server.signal("TERM");
    ws.expect("reconnect").await;
    server.signal("TERM");
    server.ended().await;
}
