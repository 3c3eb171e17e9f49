//! Shutdown and configuration reload.

use serde_json::{Value, json};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::harness::http2::GOAWAY;
use crate::harness::{Config, Http2, Server, Token, eventually};

#[tokio::test]
async fn sigterm_advises_reconnect_and_stops() {
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
async fn sigterm_without_connections_stops_at_once() {
    let mut server = Server::start(Config::rooms()).await;
    let started = std::time::Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0));
    assert!(started.elapsed() < std::time::Duration::from_secs(8));
}

#[tokio::test]
async fn sigint_stops_server() {
    let mut server = Server::start(Config::rooms()).await;
    server.signal("INT");
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn events_before_shutdown_arrive_before_close() {
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

/// Slots for repeated probes.
fn patient() -> Config {
    Config::rooms()
        .set("limits.messages_per_second", "10000")
        .set("limits.messages_burst", "10000")
}

#[tokio::test]
async fn sighup_adds_namespace_and_keeps_connections() {
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
async fn invalid_reload_keeps_old_configuration() {
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
async fn second_signal_stops_at_once() {
    let mut server = Server::start(Config::rooms().arg("--drain").arg("60s")).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    server.signal("TERM");
    ws.expect("reconnect").await;
    server.signal("TERM");
    server.ended().await;
}

/// A server that drains for this long after SIGTERM. A second signal stops it on drop.
fn lame_duck(delay: &str, drain: &str) -> Config {
    Config::rooms()
        .set("server.drain_delay", &format!("{delay:?}"))
        .set("server.drain", &format!("{drain:?}"))
}

async fn not_ready(server: &Server) {
    eventually("/readyz to say no", async || {
        (server.try_status("/readyz").await == Some(503)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn drain_delay_serves_but_reports_not_ready() {
    let mut server = Server::start(lame_duck("60s", "90s")).await;
    let mut old = server.ws().token("alice", &[]).connect().await;
    old.subscribe("room:1").await;
    assert_eq!(server.get("/healthz").await.header("connection"), "");
    server.signal("TERM");
    not_ready(&server).await;
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", "tidings.v1.EventService"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::NotServing, "{service}");
    }
    // New clients are served like existing ones.
    let mut new = server.ws().token("bob", &[]).connect().await;
    new.subscribe("room:1").await;
    let query = format!("channel=room:1&token={}", Token::new("eve").sign());
    let (mut stream, _) = server.sse(&query, &[]).await;
    let mut service = server.publisher("service").await;
    service.publish("room:1", "a.b", json!(1)).await;
    for ws in [&mut old, &mut new] {
        let seen = ws.until("a.b").await;
        assert!(seen.iter().all(|m| m["type"] != "reconnect"), "{seen:?}");
    }
    assert_eq!(stream.event().await.json()["data"], 1);
    // A kept-alive connection would bind its load balancer to this server.
    let answer = server.get("/healthz").await;
    assert_eq!((answer.status, answer.header("connection")), (200, "close"));
    server.signal("TERM");
    server.ended().await;
}

#[tokio::test]
async fn drain_closes_connections_one_by_one() {
    let config = lame_duck("100ms", "60s").set("server.shards", "1");
    let mut server = Server::start(config).await;
    let mut clients = Vec::new();
    for n in 0..3 {
        clients.push(server.ws().token(&format!("user-{n}"), &[]).connect().await);
    }
    server.signal("TERM");
    let admin = Token::new("root").roles(&["admin"]);
    let open = async || {
        let list = server.get_as(&admin, "/api/v1/connections").await.json();
        list["connections"].as_array().unwrap().len()
    };
    // The first one at once, the last one in twenty seconds.
    eventually("the first to leave", async || {
        (open().await < 3).then_some(())
    })
    .await;
    assert_eq!(open().await, 2, "the others wait for their turn");
    let mut gone = 0;
    for ws in &mut clients {
        ws.send(json!({"type": "ping"})).await;
        let (mut advice, mut end) = (None, None);
        loop {
            match ws.next_or_close().await {
                Ok(message) if message["type"] == "pong" => break,
                Ok(message) if message["type"] == "reconnect" => advice = Some(message),
                Ok(_) => {}
                Err(code) => {
                    end = Some(code);
                    break;
                }
            }
        }
        if let Some(advice) = advice {
            gone += 1;
            assert_eq!(end, Some(1012));
            // Other servers can take the clients.
            let after = advice["after_ms"].as_u64().unwrap();
            assert!(after <= 1000, "{advice}");
        }
    }
    assert_eq!(gone, 1);
    server.signal("TERM");
    server.ended().await;
}

#[tokio::test]
async fn single_server_advises_short_reconnect_delay() {
    let mut server = Server::start(lame_duck("0s", "60s")).await;
    let mut clients = Vec::new();
    for n in 0..5 {
        clients.push(server.ws().token(&format!("user-{n}"), &[]).connect().await);
    }
    server.signal("TERM");
    let mut advised = Vec::new();
    for ws in &mut clients {
        let advice = ws.expect("reconnect").await;
        advised.push(advice["after_ms"].as_u64().unwrap());
        ws.expect_close(1012).await;
    }
    assert!(
        advised.iter().all(|after| (1000..2000).contains(after)),
        "{advised:?}"
    );
    advised.dedup();
    assert!(advised.len() > 1, "all at once: {advised:?}");
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.log());
}

#[tokio::test]
async fn listener_responds_until_drain_ends() {
    let server = Server::start(lame_duck("0s", "60s")).await;
    // It never answers the close, so the server waits for it.
    let mut lingers = server.raw_ws(&Token::new("alice")).await;
    server.signal("TERM");
    assert_eq!(lingers.close_code().await, 1012);
    let ready = server.get("/readyz").await;
    assert_eq!(ready.assert_problem(503)["code"], "unavailable");
    assert_eq!(ready.header("connection"), "close");
    let token = format!("Bearer {}", Token::new("bob").sign());
    let refused = server
        .refused_upgrade("/ws", &[("Authorization", &token)])
        .await;
    refused.assert_problem(503);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=3).contains(&wait), "{wait}");
}

#[tokio::test]
async fn draining_sends_goaway_to_grpc_connections() {
    let server = Server::start(lame_duck("0s", "60s")).await;
    let mut lingers = server.raw_ws(&Token::new("alice")).await;
    let mut old = Http2::connect(&server.internal).await;
    let mut subscriber = server.publisher("service").await;
    let mut stream = subscriber.follow(&["room:1"]).await;
    server.signal("TERM");
    assert_eq!(lingers.close_code().await, 1012);
    loop {
        let frame = old.next().await.expect("GOAWAY before the end");
        if frame.kind == GOAWAY {
            break;
        }
    }
    assert!(stream.ended().await.is_err());
    // Requests in progress are still served.
    let mut service = server.publisher("service").await;
    service.publish("room:1", "a.b", json!(1)).await;
}
