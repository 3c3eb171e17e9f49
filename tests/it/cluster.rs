//! Several nodes on one engine behave as one server.

use serde_json::json;
use tidings::proto::{Audience, DisconnectRequest, ListConnectionsRequest, PublishRequest};

use crate::harness::{Config, Nats, Server, Token, event, eventually};

/// An engine with two nodes.
async fn two() -> (Nats, Server, Server) {
    let nats = Nats::start().await;
    let a = Server::start(nats.join(Config::rooms())).await;
    let b = Server::start(nats.join(Config::rooms())).await;
    (nats, a, b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_reaches_subscribers_of_both_nodes_with_one_position() {
    let (_nats, a, b) = two().await;
    let mut here = a.ws().token("alice", &[]).connect().await;
    let mut there = b.ws().token("bob", &[]).connect().await;
    let first = here.subscribe("room:1").await;
    let second = there.subscribe("room:1").await;
    assert_eq!(first["epoch"], second["epoch"]);
    a.publisher("service")
        .await
        .count("room:1", "tick", 1..=20)
        .await;
    b.publisher("service")
        .await
        .count("room:1", "tick", 21..=40)
        .await;
    let metrics = b
        .internal_http(http::Method::GET, "/metrics", &[], bytes::Bytes::new())
        .await;
    let metrics = metrics.text();
    for name in [
        "up 1",
        "nodes ",
        "channels ",
        "queue_bytes ",
        "events_received_total ",
        "events_sent_total ",
        "holes_filled_total ",
        "late_total ",
        "lost_total ",
        "conflicts_total ",
        "round_trip_seconds_count ",
    ] {
        let name = format!("tidings_cluster_{name}");
        assert!(metrics.contains(&name), "{name}");
    }
    for ws in [&mut here, &mut there] {
        for n in 1..=40_u64 {
            let event = ws.expect_event("tick").await;
            assert_eq!(
                (&event["offset"], &event["data"]["n"]),
                (&json!(n), &json!(n))
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_resumes_on_another_node_without_loss() {
    let (_nats, a, b) = two().await;
    let mut ws = a.ws().token("alice", &[]).connect().await;
    let epoch = ws.subscribe("room:1").await["epoch"].clone();
    let mut service = a.publisher("service").await;
    service.count("room:1", "tick", 1..=3).await;
    assert_eq!(ws.numbers("tick", 3).await, [1, 2, 3]);
    ws.close().await;
    service.count("room:1", "tick", 4..=499).await;
    let last = service.publish("room:1", "tick", json!({"n": 500})).await;
    let position = last.results[0].position.clone().unwrap();
    assert_eq!(
        (json!(position.epoch), position.offset),
        (epoch.clone(), 500)
    );
    a.kill().await;

    let mut back = b.ws().token("alice", &[]).connect().await;
    let since = json!({"since": {"room:1": {"epoch": epoch, "offset": 3}}});
    let reply = back.subscribe_with("room:1", since).await;
    assert_eq!(
        (&reply["recovered"], &reply["replayed"]),
        (&json!(true), &json!(497)),
        "from {epoch}: {reply}"
    );
    b.publisher("service")
        .await
        .count("room:1", "tick", 501..=510)
        .await;
    let all: Vec<u64> = (4..=510).collect();
    assert_eq!(back.numbers("tick", 507).await, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idempotency_key_is_known_on_every_node() {
    let (_nats, a, b) = two().await;
    let once = || PublishRequest {
        idempotency_key: "order-7".into(),
        ..event("room:1", "a.b", json!({}))
    };
    let first = a.publisher("service").await.send(once()).await;
    let again = b.publisher("service").await.send(once()).await;
    assert!(again.results[0].duplicate);
    assert_eq!(
        (&again.id, &again.results[0].position),
        (&first.id, &first.results[0].position)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_without_history_patterns_and_audiences_reach_the_other_node() {
    let (_nats, a, b) = two().await;
    let mut there = b.ws().token("bob", &["service"]).connect().await;
    there.subscribe("plain:*").await;
    there.subscribe("room:*").await;
    let mut service = a.publisher("service").await;
    // A pattern has no position, so the first event may precede its subscription to the engine.
    eventually("the pattern to be in force", async || {
        let mut service = service.clone();
        service.publish("plain:0", "warm", json!({})).await;
        (b.metric("tidings_cluster_events_received_total").await > 0).then_some(())
    })
    .await;
    service.publish("plain:1", "one", json!({"n": 1})).await;
    assert_eq!(there.expect_event("one").await["channel"], "plain:1");
    service.publish("room:9", "two", json!({"n": 2})).await;
    assert_eq!(there.expect_event("two").await["offset"], 1);
    let direct = PublishRequest {
        channels: Vec::new(),
        audience: Some(Audience {
            users: vec!["bob".into()],
            ..Audience::default()
        }),
        ..event("", "three", json!({"n": 3}))
    };
    service.send(direct).await;
    assert_eq!(there.expect_event("three").await["data"]["n"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_that_was_killed_loses_no_acknowledged_event() {
    let mut nats = Nats::start().await;
    let config = || {
        let config = nats.join(Config::rooms());
        config.set("cluster.nats.publish_timeout", r#""2s""#)
    };
    let (a, b) = (Server::start(config()).await, Server::start(config()).await);
    let mut ws = b.ws().token("bob", &[]).connect().await;
    ws.subscribe("room:1").await;
    let mut service = a.publisher("service").await;
    service.count("room:1", "tick", 1..=10).await;
    assert_eq!(ws.numbers("tick", 10).await.len(), 10);
    nats.kill();
    let refused = eventually("a refusal", async || {
        let mut service = service.clone();
        service
            .try_send(event("room:1", "lost", json!({})))
            .await
            .err()
    })
    .await;
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    nats.restart().await;
    let mut back = service.clone();
    eventually("publishing to work again", async || {
        back.try_send(event("room:1", "again", json!({})))
            .await
            .ok()
    })
    .await;
    service.count("room:1", "tick", 11..=20).await;
    let mut offsets = Vec::new();
    while offsets.last() != Some(&20) {
        let event = ws.next_or_close().await.unwrap();
        assert_ne!(event["type"], "gap", "{event}");
        if event["type"] == "tick" {
            offsets.push(event["data"]["n"].as_u64().unwrap());
        }
    }
    assert_eq!(offsets, (11..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn start_names_what_is_wrong_with_the_engine() {
    let config = Config::rooms()
        .set("cluster.engine", r#""nats""#)
        .set("cluster.nats.urls", r#"["nats://127.0.0.1:9"]"#);
    let (status, said) = Server::refuses(config).await;
    assert!(!status.success());
    assert!(said.contains("cluster.nats.urls: can't connect"), "{said}");
    let nats = Nats::start().await;
    let config = nats
        .join(Config::rooms())
        .set("limits.event_bytes", "2000000")
        .set("limits.message_bytes", "4000000");
    let (_, said) = Server::refuses(config).await;
    assert!(
        said.contains("limits.event_bytes") && said.contains("max_payload"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operator_of_one_node_sees_and_closes_connections_of_all() {
    let (_nats, a, b) = two().await;
    let _here = a.ws().token("alice", &[]).connect().await;
    let mut there = b.ws().token("bob", &[]).connect().await;
    let id = there.id();
    let mut admin = a.admin().await;
    let users = eventually("both nodes to know each other", async || {
        let list = ListConnectionsRequest::default();
        let page = admin.list_connections(list).await.unwrap().into_inner();
        let mut users: Vec<String> = page.connections.into_iter().map(|c| c.user).collect();
        users.sort();
        (users.len() == 2).then_some(users)
    })
    .await;
    assert_eq!(users, ["alice", "bob"]);
    let request = DisconnectRequest {
        target: Some(tidings::proto::disconnect_request::Target::ConnectionId(id)),
        reason: "bye".into(),
        revoke: false,
    };
    let done = admin.disconnect(request).await.unwrap().into_inner();
    assert_eq!(done.disconnected, 1);
    assert_eq!(there.expect_close(4410).await, "bye");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocation_holds_on_every_node_and_outlives_them() {
    let (nats, a, b) = two().await;
    let mut there = b.ws().token("mallory", &[]).connect().await;
    let request = DisconnectRequest {
        target: Some(tidings::proto::disconnect_request::Target::User(
            "mallory".into(),
        )),
        reason: String::new(),
        revoke: true,
    };
    a.admin().await.disconnect(request).await.unwrap();
    assert!([4401, 4410].contains(&there.next_or_close().await.unwrap_err()));
    let token = Token::new("mallory");
    eventually("the other node to refuse the token", async || {
        b.ws().bearer(&token.sign()).upgrade().await.err()
    })
    .await;
    let c = Server::start(nats.join(Config::rooms())).await;
    let refused = c.ws().bearer(&token.sign()).upgrade().await.err();
    assert_eq!(refused, Some(401));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_counts_users_of_all_nodes() {
    let (_nats, a, b) = two().await;
    let mut here = a.ws().token("alice", &[]).connect().await;
    here.subscribe_with("room:1", json!({"presence": true}))
        .await;
    let mut there = b.ws().token("bob", &[]).connect().await;
    there
        .subscribe_with("room:1", json!({"presence": true}))
        .await;
    assert_eq!(here.expect("presence_joined").await["user"], "bob");
    let present = eventually("alice to be known on the other node", async || {
        let answer = there
            .ask(json!({"type": "presence", "channel": "room:1"}))
            .await;
        (answer["total"] == 2).then_some(answer)
    })
    .await;
    assert_eq!(present["users"][0]["user"], "alice");
    b.kill().await;
    assert_eq!(here.expect("presence_left").await["user"], "bob");
}

async fn resume_durably(ws: &mut crate::harness::Ws) -> serde_json::Value {
    ws.subscribe_with("room:1", json!({"durable": "inbox"}))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_subscription_resumes_on_another_node() {
    let (_nats, a, b) = two().await;
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

/// An engine that has lost everything is used again, with one new epoch that all nodes agree on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_that_was_wiped_begins_new_epochs() {
    let mut nats = Nats::start().await;
    let a = Server::start(nats.join(Config::rooms())).await;
    let b = Server::start(nats.join(Config::rooms())).await;
    let mut there = b.ws().token("bob", &[]).connect().await;
    let before = there.subscribe("room:1").await["epoch"].clone();
    let mut service = a.publisher("service").await;
    service.count("room:1", "tick", 1..=5).await;
    assert_eq!(there.numbers("tick", 5).await.len(), 5);
    nats.wipe();
    nats.restart().await;
    let mut back = service.clone();
    let first = eventually("publishing to work again", async || {
        back.try_send(event("room:1", "tick", json!({"n": 1})))
            .await
            .ok()
    })
    .await;
    let position = first.results[0].position.clone().unwrap();
    assert_eq!(position.offset, 1);
    assert_ne!(json!(position.epoch), before);
    // The subscriber gets the new epoch, and then every event in it.
    let renewed = loop {
        let message = there.next_or_close().await.unwrap();
        if message["type"] == "subscribed" {
            break message["channels"][0].clone();
        }
    };
    assert_eq!(renewed["recovered"], json!(false), "{renewed}");
    assert_eq!(renewed["epoch"], json!(position.epoch), "{renewed}");
    service.count("room:1", "tick", 2..=3).await;
    let resumed = since(&position.epoch, 1);
    for node in [&a, &b] {
        let mut ws = node.ws().token("alice", &[]).connect().await;
        let reply = ws.subscribe_with("room:1", resumed.clone()).await;
        assert_eq!(
            (&reply["recovered"], &reply["replayed"]),
            (&json!(true), &json!(2)),
            "{reply}"
        );
    }
}

fn since(epoch: &str, offset: u64) -> serde_json::Value {
    json!({"since": {"room:1": {"epoch": epoch, "offset": offset}}})
}

/// Comparing positions with the log must not take an event that is appended meanwhile for one that
/// the log has lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn epochs_hold_while_positions_are_compared_under_load() {
    const CHANNELS: usize = 2;
    let nats = Nats::start().await;
    let config = nats
        .join(Config::rooms())
        .set("cluster.nats.sweep", r#""1ms""#);
    let a = Server::start(config).await;
    let mut ws = a.ws().token("alice", &[]).connect().await;
    let mut epochs = Vec::new();
    for n in 0..CHANNELS {
        let reply = ws.subscribe(&format!("room:{n}")).await;
        epochs.push(reply["epoch"].clone());
    }
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(6);
    let publishing = epochs.into_iter().enumerate().map(async |(n, epoch)| {
        let mut service = a.publisher("service").await;
        while tokio::time::Instant::now() < until {
            let channel = format!("room:{n}");
            let published = service.publish(&channel, "tick", json!({})).await;
            let position = published.results[0].position.clone().unwrap();
            assert_eq!(
                json!(position.epoch),
                epoch,
                "room:{n} at {}",
                position.offset
            );
        }
    });
    futures_util::future::join_all(publishing).await;
    // Positions are compared only where somebody subscribes.
    drop(ws);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operator_sees_all_nodes_and_which_one_does_not_answer() {
    let (_nats, a, b) = two().await;
    let _here = a.ws().token("alice", &[]).connect().await;
    let _there = b.ws().token("bob", &[]).connect().await;
    let admin = Token::new("root").roles(&["admin"]);
    let get = async |path: &str| a.get_as(&admin, path).await;
    let nodes = eventually("both nodes to be listed", async || {
        let server = get("/api/v1/server").await.json();
        let nodes = server["nodes"].as_array().unwrap().clone();
        let whole = nodes.len() == 2
            && nodes
                .iter()
                .all(|node| node["connections"] == 1 && node["round_trip_ms"].as_f64() > Some(0.0));
        whole.then_some(nodes)
    })
    .await;
    assert!(
        nodes.iter().all(|node| node["leaving"] == false),
        "{nodes:?}"
    );
    let other = nodes.iter().find(|node| node["self"] == false).unwrap();
    let (name, number) = (
        other["name"].as_str().unwrap(),
        other["id"].as_str().unwrap(),
    );

    let stats = get("/api/v1/stats").await.json();
    assert_eq!(stats["connections"]["now"], 2, "{stats}");
    let each = stats["nodes"].as_array().unwrap();
    assert_eq!(each.len(), 2, "{stats}");
    assert!(
        each.iter().all(|node| node["connections"]["now"] == 1),
        "{stats}"
    );
    assert_eq!(stats["unreachable"], json!([]));
    for node in [name, number] {
        let one = get(&format!("/api/v1/stats?node={node}")).await.json();
        assert_eq!(
            (&one["node"], &one["connections"]["now"]),
            (&json!(name), &json!(1))
        );
        let page = get(&format!("/api/v1/connections?node={node}"))
            .await
            .json();
        let found = page["connections"].as_array().unwrap();
        assert_eq!(found.len(), 1, "{page}");
        assert_eq!(
            (&found[0]["user"], &found[0]["node"]),
            (&json!("bob"), &json!(name))
        );
    }
    let unknown = get("/api/v1/stats?node=nobody").await.assert_problem(404);
    assert_eq!(unknown["errors"][0]["field"], "node", "{unknown}");

    // A stopped node is alive for a while, and does not answer.
    b.signal("STOP");
    let stats = get("/api/v1/stats").await.json();
    assert_eq!(stats["unreachable"], json!([name]), "{stats}");
    assert_eq!(
        stats["connections"]["now"], 1,
        "the rest is answered: {stats}"
    );
    b.signal("CONT");
    let page = eventually("the node to answer again", async || {
        let page = get("/api/v1/connections?order_by=connected_at")
            .await
            .json();
        (page["connections"].as_array().unwrap().len() == 2).then_some(page)
    })
    .await;
    assert_eq!(page["unreachable"], json!([]));
}

/// What could not be recovered moves the cursor, so that what comes afterwards is recovered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursor_moves_on_after_a_part_of_history_was_lost() {
    let nats = Nats::start().await;
    let keys = "history = { size = 5, ttl = \"1h\" }\nsubscribe = 'true'";
    let config = || nats.join(Config::new().namespace("room", keys));
    let a = Server::start(config()).await;
    let b = Server::start(config()).await;
    let resume = async |server: &Server| {
        let mut ws = server.ws().token("alice", &[]).connect().await;
        let begun = resume_durably(&mut ws).await;
        ws.close().await;
        begun
    };
    resume(&a).await;
    let mut service = b.publisher("service").await;
    service.count("room:1", "tick", 1..=12).await;
    let lost = resume(&a).await;
    assert_eq!(
        (&lost["recovered"], &lost["cursor"]),
        (&json!(false), &json!(12))
    );
    eventually("the cursor to be moved", async || {
        let all = tidings::proto::GetCursorsRequest::default();
        let found = service.events.get_cursors(all).await.unwrap().into_inner();
        (found.cursors.first()?.position.as_ref()?.offset == 12).then_some(())
    })
    .await;
    service.count("room:1", "tick", 13..=15).await;
    let back = resume(&b).await;
    assert_eq!(
        (&back["recovered"], &back["replayed"]),
        (&json!(true), &json!(3))
    );
}
