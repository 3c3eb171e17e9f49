//! Two nodes joined by Redis are one server to their clients.

use serde_json::{Value, json};
use tidings::proto::disconnect_request::Target;
use tidings::proto::{DisconnectRequest, PublishRequest, SubscribeUserRequest};

use crate::harness::{Config, Redis, Server, Token, event, eventually};

fn config(redis: &Redis) -> Config {
    Config::rooms()
        .set("cluster.engine", r#""redis""#)
        .set("cluster.redis.urls", &format!("[{:?}]", redis.url()))
        .set("cluster.redis.sweep", r#""1s""#)
        .set("server.drain", r#""1s""#)
}

fn since(channel: &str, reply: &Value, offset: u64) -> Value {
    json!({"since": {channel: {"epoch": reply["epoch"], "offset": offset}}})
}

#[tokio::test]
async fn events_reach_subscribers_of_another_node_and_resume_there() {
    let redis = Redis::start().await;
    let (a, b) = (
        Server::start(config(&redis)).await,
        Server::start(config(&redis)).await,
    );
    let mut on_b = b.ws().token("alice", &[]).connect().await;
    let begun = on_b.subscribe("room:1").await;
    let mut pattern = b.publisher("service").await.follow(&["room:*"]).await;
    let mut service = a.publisher("service").await;
    service.count("room:1", "count.up", 1..=10).await;
    assert_eq!(
        on_b.numbers("count.up", 10).await,
        (1..=10).collect::<Vec<_>>()
    );
    assert_eq!(pattern.numbers(10).await, (1..=10).collect::<Vec<_>>());
    drop(on_b);
    let mut on_a = a.ws().token("alice", &[]).connect().await;
    let reply = on_a
        .subscribe_with("room:1", since("room:1", &begun, 4))
        .await;
    assert_eq!(
        (&reply["recovered"], &reply["replayed"]),
        (&json!(true), &json!(6))
    );
    let mut service = b.publisher("service").await;
    service.count("room:1", "count.up", 11..=12).await;
    let seen = on_a.numbers("count.up", 8).await;
    assert_eq!(seen, [5, 6, 7, 8, 9, 10, 11, 12]);
}

#[tokio::test]
async fn idempotency_key_is_known_to_every_node() {
    let redis = Redis::start().await;
    let (a, b) = (
        Server::start(config(&redis)).await,
        Server::start(config(&redis)).await,
    );
    for channel in ["room:1", "plain:1"] {
        let request = || PublishRequest {
            idempotency_key: "order-7".into(),
            ..event(channel, "order.placed", json!({}))
        };
        let first = a.publisher("service").await.send(request()).await;
        let again = b.publisher("service").await.send(request()).await;
        assert_eq!(first.id, again.id, "{channel}");
        assert!(
            again.results.iter().all(|result| result.duplicate),
            "{channel}"
        );
    }
}

#[tokio::test]
async fn audience_is_reached_on_every_node() {
    let redis = Redis::start().await;
    let (a, b) = (
        Server::start(config(&redis)).await,
        Server::start(config(&redis)).await,
    );
    let mut alice = b.ws().token("alice", &[]).connect().await;
    let mut request = event("", "note", json!({"n": 1}));
    request.channels.clear();
    request.audience = Some(tidings::proto::Audience {
        users: vec!["alice".into()],
        ..Default::default()
    });
    a.publisher("service").await.send(request).await;
    assert_eq!(alice.numbers("note", 1).await, [1]);
}

#[tokio::test]
async fn revoked_token_is_refused_on_every_node_also_after_restart() {
    let redis = Redis::start().await;
    let (a, b) = (
        Server::start(config(&redis)).await,
        Server::start(config(&redis)).await,
    );
    let issued = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let issued = issued.unwrap().as_secs() - 10;
    let token = Token::new("alice").claim("iat", json!(issued)).sign();
    let mut on_b = b.ws().bearer(&token).connect().await;
    let request = DisconnectRequest {
        target: Some(Target::User("alice".into())),
        reason: "out".to_owned(),
        revoke: true,
    };
    a.admin().await.disconnect(request).await.unwrap();
    // The disconnect and the revocation reach the node in either order.
    assert!([4401, 4410].contains(&on_b.next_or_close().await.unwrap_err()));
    let b = Server::start_in(b.stop().await, config(&redis)).await;
    for server in [&a, &b] {
        assert_eq!(server.ws().bearer(&token).upgrade().await.err(), Some(401));
    }
}

#[tokio::test]
async fn redis_killed_and_back_loses_and_repeats_nothing() {
    let redis = Redis::start().await;
    let (a, b) = (
        Server::start(config(&redis)).await,
        Server::start(config(&redis)).await,
    );
    let mut alice = b.ws().token("alice", &[]).connect().await;
    let begun = alice.subscribe("room:1").await;
    let mut service = a.publisher("service").await;
    service.count("room:1", "count.up", 1..=5).await;
    assert_eq!(alice.numbers("count.up", 5).await, [1, 2, 3, 4, 5]);
    let config = config(&redis);
    let (directory, port) = redis.kill();
    let refused = eventually("a refused publish", async || {
        let request = event("room:1", "count.lost", json!({}));
        service.try_send(request).await.err()
    })
    .await;
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    let redis = Redis::start_in(directory, port).await;
    eventually("an accepted publish", async || {
        let request = event("room:1", "count.up", json!({"n": 6}));
        service.try_send(request).await.ok()
    })
    .await;
    service.count("room:1", "count.up", 7..=8).await;
    // The client is told to load its state anew, up to an offset. What comes after it arrives.
    let (mut seen, mut reloaded) = (Vec::new(), 5);
    while reloaded < 8 && seen.last() != Some(&8) {
        let message = alice.next_or_close().await.unwrap();
        if message["type"] == "subscribed" {
            assert_eq!(message["channels"][0]["recovered"], false, "{message}");
            reloaded = message["channels"][0]["offset"].as_u64().unwrap();
        } else if message["type"] == "count.up" {
            seen.push(message["data"]["n"].as_u64().unwrap());
        }
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "each once: {seen:?}");
    let missing = (6..=8).filter(|n| !seen.contains(n));
    assert!(
        missing.max().unwrap_or(0) <= reloaded,
        "{seen:?} after {reloaded}"
    );
    // The process is another one: what it has lost can't be known.
    let late = Server::start(config).await;
    let mut again = late.ws().token("alice", &[]).connect().await;
    let reply = again
        .subscribe_with("room:1", since("room:1", &begun, 3))
        .await;
    assert_eq!(reply["recovered"], false, "{reply}");
    drop(redis);
}

#[tokio::test]
async fn unusable_redis_is_named_at_start() {
    let redis = Redis::start().await;
    redis.asks(&["CONFIG", "SET", "requirepass", "secret"]);
    let (status, said) = Server::refuses(config(&redis)).await;
    assert!(!status.success());
    assert!(said.contains("cluster.redis.urls"), "{said}");
    redis.asks(&["-a", "secret", "CONFIG", "SET", "requirepass", ""]);
    redis.asks(&["CONFIG", "SET", "maxmemory", "100mb"]);
    redis.asks(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let (_, said) = Server::refuses(config(&redis)).await;
    assert!(said.contains("noeviction"), "{said}");
}

#[tokio::test]
async fn presence_counts_users_of_all_nodes() {
    let redis = Redis::start().await;
    let (a, b) = (
        Server::start(config(&redis)).await,
        Server::start(config(&redis)).await,
    );
    let watch = || json!({"presence": true});
    let mut here = a.ws().token("alice", &[]).connect().await;
    here.subscribe_with("room:1", watch()).await;
    let mut there = b.ws().token("bob", &[]).connect().await;
    there.subscribe_with("room:1", watch()).await;
    assert_eq!(here.expect("presence_joined").await["user"], "bob");
    eventually("alice to be known on the other node", async || {
        let question = json!({"type": "presence", "channel": "room:1"});
        (there.ask(question).await["total"] == 2).then_some(())
    })
    .await;
    b.kill().await;
    assert_eq!(here.expect("presence_left").await["user"], "bob");
}

#[tokio::test]
async fn disconnect_closes_connection_of_another_node() {
    let redis = Redis::start().await;
    let (a, b) = (
        Server::start(config(&redis)).await,
        Server::start(config(&redis)).await,
    );
    let mut alice = b.ws().token("alice", &[]).connect().await;
    let mut admin = a.admin().await;
    let closed = eventually("the other node to be known", async || {
        let request = DisconnectRequest {
            target: Some(Target::ConnectionId(alice.id())),
            reason: "out".to_owned(),
            revoke: false,
        };
        let answer = admin.disconnect(request).await.ok()?.into_inner();
        (answer.disconnected > 0).then_some(answer.disconnected)
    })
    .await;
    assert_eq!(closed, 1);
    assert_eq!(alice.expect_close(4410).await, "out");
}

#[tokio::test]
async fn service_subscribes_connection_of_another_node() {
    let redis = Redis::start().await;
    let (a, b) = (
        Server::start(config(&redis)).await,
        Server::start(config(&redis)).await,
    );
    let mut alice = b.ws().token("alice", &[]).connect().await;
    let mut service = a.publisher("service").await;
    eventually("the other node to be known", async || {
        let request = SubscribeUserRequest {
            user: "alice".to_owned(),
            channels: vec!["room:1".to_owned()],
            filter: "data.n > 1".to_owned(),
            ..SubscribeUserRequest::default()
        };
        let mut service = service.clone();
        let answer = service.events.subscribe_user(request).await.ok()?;
        (answer.into_inner().connections == 1).then_some(())
    })
    .await;
    let told = alice.expect("subscribed").await;
    assert_eq!(told["channels"][0]["channel"], "room:1", "{told}");
    service.count("room:1", "count.up", 1..=3).await;
    assert_eq!(alice.numbers("count.up", 2).await, [2, 3]);
}

#[tokio::test]
async fn conditions_are_refused_by_name() {
    let redis = Redis::start().await;
    let server = Server::start(config(&redis)).await;
    let mut service = server.publisher("service").await;
    let refused = PublishRequest {
        expected_offset: Some(0),
        ..event("room:1", "a.b", json!({}))
    };
    let refused = service.try_send(refused).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("expected_offset"), "{refused}");
    let refused = PublishRequest {
        skip_history: true,
        ..event("room:1", "a.b", json!({}))
    };
    let refused = service.try_send(refused).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("skip_history"), "{refused}");
}

async fn resume_durably(ws: &mut crate::harness::Ws) -> serde_json::Value {
    ws.subscribe_with("room:1", json!({"durable": "inbox"}))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_subscription_resumes_on_another_node() {
    let redis = Redis::start().await;
    let (a, b) = (
        Server::start(config(&redis)).await,
        Server::start(config(&redis)).await,
    );
    let mut phone = a.ws().token("alice", &[]).connect().await;
    let begun = resume_durably(&mut phone).await;
    assert_eq!(
        (&begun["cursor"], &begun["replayed"]),
        (&json!(0), &json!(0))
    );
    let mut service = b.publisher("service").await;
    service.count("room:1", "tick", 1..=4).await;
    assert_eq!(phone.numbers("tick", 4).await, [1, 2, 3, 4]);
    phone
        .send(json!({"type": "ack", "channel": "room:1", "durable": "inbox", "offset": 2}))
        .await;
    phone.lives().await;
    // The engine takes acknowledgements while the connection goes on.
    eventually("the acknowledgement to be stored", async || {
        let all = tidings::proto::GetCursorsRequest::default();
        let found = service.events.get_cursors(all).await.unwrap().into_inner();
        (found.cursors.first()?.position.as_ref()?.offset == 2).then_some(())
    })
    .await;
    drop(a.kill().await);
    service.count("room:1", "tick", 5..=6).await;
    let mut tablet = b.ws().token("alice", &[]).connect().await;
    let back = resume_durably(&mut tablet).await;
    assert_eq!(
        (&back["cursor"], &back["recovered"]),
        (&json!(2), &json!(true))
    );
    assert_eq!(tablet.numbers("tick", 4).await, [3, 4, 5, 6]);
}

/// An election must not take every node out of a load balancer.
#[tokio::test]
async fn node_is_ready_for_15_seconds_without_its_engine() {
    let redis = Redis::start().await;
    let a = Server::start(config(&redis)).await;
    assert_eq!(a.get("/readyz").await.status, 200);
    let away = std::time::Instant::now();
    let (directory, port) = redis.kill();
    eventually("the engine to be away", async || {
        (a.metric("tidings_cluster_up").await == 0).then_some(())
    })
    .await;
    assert_eq!(a.get("/readyz").await.status, 200);
    tokio::time::timeout(std::time::Duration::from_secs(30), async {
        while a.get("/readyz").await.status == 200 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("the node is not ready in the end");
    assert!(away.elapsed() >= std::time::Duration::from_secs(15));
    let _redis = Redis::start_in(directory, port).await;
    eventually("the node to be ready again", async || {
        (a.get("/readyz").await.status == 200).then_some(())
    })
    .await;
}
