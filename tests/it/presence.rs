//! Presence in channels.

use serde_json::{Value, json};
use tidings::proto::GetPresenceRequest;

use crate::harness::{Config, Server, Ws, eventually};

async fn presence(ws: &mut Ws, channel: &str) -> (Vec<(String, u64)>, u64) {
    let reply = ws
        .ask(json!({"type": "presence", "channel": channel}))
        .await;
    assert_eq!(reply["type"], "presence", "{reply}");
    assert_eq!(reply["channel"], channel);
    let user = |u: &Value| {
        (
            u["user"].as_str().unwrap().to_owned(),
            u["connections"].as_u64().unwrap(),
        )
    };
    let mut users: Vec<_> = reply["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(user)
        .collect();
    users.sort();
    (users, reply["total"].as_u64().unwrap())
}

#[tokio::test]
async fn presence_counts_users_and_their_connections() {
    let server = Server::start(Config::rooms()).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    let mut again = server.ws().token("alice", &[]).connect().await;
    let mut bob = server.ws().token("bob", &[]).connect().await;
    assert_eq!(presence(&mut bob, "room:1").await, (vec![], 0));
    for ws in [&mut alice, &mut again, &mut bob] {
        ws.subscribe("room:1").await;
    }
    let both = vec![("alice".to_owned(), 2), ("bob".to_owned(), 1)];
    assert_eq!(presence(&mut bob, "room:1").await, (both, 2));

    again.close().await;
    alice
        .ask(json!({"type": "unsubscribe", "channels": ["room:1"]}))
        .await;
    eventually("only Bob to be left", async || {
        (presence(&mut bob, "room:1").await == (vec![("bob".to_owned(), 1)], 1)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn presence_subscribers_see_joins_and_leaves() {
    let server = Server::start(Config::rooms()).await;
    let mut watcher = server.ws().token("watcher", &[]).connect().await;
    watcher
        .subscribe_with("room:1", json!({"presence": true}))
        .await;
    let mut bystander = server.ws().token("bystander", &[]).connect().await;
    bystander.subscribe("room:1").await;

    let mut alice = server.ws().token("alice", &[]).connect().await;
    alice.subscribe("room:1").await;
    let mut again = server.ws().token("alice", &[]).connect().await;
    again.subscribe("room:1").await;
    again.close().await;
    alice.close().await;

    let mut seen = Vec::new();
    while seen.last() != Some(&("presence_left".to_owned(), "alice".to_owned())) {
        let message = watcher.next_or_close().await.expect("a message");
        let kind = message["type"].as_str().unwrap();
        if kind.starts_with("presence_") && message["user"] == "alice" {
            assert_eq!(message["channel"], "room:1");
            seen.push((kind.to_owned(), "alice".to_owned()));
        }
    }
    let kinds: Vec<&str> = seen.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(
        kinds,
        ["presence_joined", "presence_left"],
        "a user comes and goes once"
    );

    let mut service = server.publisher("service").await;
    service.publish("room:1", "fence", json!({})).await;
    let before = bystander.until("fence").await;
    assert!(
        before.is_empty(),
        "only presence subscribers are notified: {before:?}"
    );
}

#[tokio::test]
async fn presence_without_tracking_is_refused() {
    let server = Server::start(Config::rooms()).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    alice
        .refused(
            json!({"type": "presence", "channel": "plain:1"}),
            "failed_precondition",
        )
        .await;
    let request = GetPresenceRequest {
        channel: "plain:1".into(),
    };
    let refused = server
        .admin()
        .await
        .get_presence(request)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
}

#[tokio::test]
async fn admin_sees_same_presence() {
    let server = Server::start(Config::rooms()).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    alice.subscribe("room:1").await;
    let request = GetPresenceRequest {
        channel: "room:1".into(),
    };
    let answer = server
        .admin()
        .await
        .get_presence(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.channel, "room:1");
    assert_eq!(answer.total, 1);
    assert_eq!(answer.users[0].user, "alice");
    assert_eq!(answer.users[0].connections, 1);
}
