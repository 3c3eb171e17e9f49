//! Authorization by namespace rules.

use serde_json::{Value, json};
use tidings::proto::{SubscribeRequest, Subscription};

use crate::harness::{Config, Server, Token, Ws, event};

/// Whether a subscription succeeds. Otherwise, it must fail with `permission_denied`.
async fn may_follow(ws: &mut Ws, channel: &str) -> bool {
    let reply = ws
        .ask(json!({"type": "subscribe", "channels": [channel]}))
        .await;
    let stands = reply["channels"].as_array().is_some_and(|c| !c.is_empty());
    assert!(
        stands || reply.to_string().contains("permission_denied"),
        "{reply}"
    );
    stands
}

async fn may_publish(ws: &mut Ws, channel: &str) -> bool {
    let message = json!({"type": "publish", "channel": channel, "event_type": "a.b", "data": 1});
    let reply = ws.ask(message).await;
    let published = reply["type"] == "published";
    assert!(published || reply["code"] == "permission_denied", "{reply}");
    published
}

fn projects(user: &str, projects: Value) -> Token {
    Token::new(user).claim("projects", projects)
}

#[tokio::test]
async fn undeclared_namespace_requires_service_or_admin() {
    let server = Server::start(Config::rooms()).await;
    let mut alice = server.ws().token("alice", &["editor"]).connect().await;
    let mut service = server.ws().token("backend", &["service"]).connect().await;
    let mut admin = server.ws().token("root", &["admin"]).connect().await;
    for channel in ["nowhere:1", "lobby", "roomy:1"] {
        assert!(!may_follow(&mut alice, channel).await, "{channel}");
        assert!(!may_publish(&mut alice, channel).await, "{channel}");
        assert!(may_follow(&mut service, channel).await, "{channel}");
        assert!(may_publish(&mut service, channel).await, "{channel}");
        assert!(may_follow(&mut admin, channel).await, "{channel}");
    }
}

#[tokio::test]
async fn missing_rule_requires_service_or_admin() {
    let server = Server::start(Config::rooms().namespace("quiet", "presence = false")).await;
    let mut alice = server.ws().token("alice", &["editor"]).connect().await;
    assert!(!may_follow(&mut alice, "quiet:1").await);
    assert!(!may_publish(&mut alice, "quiet:1").await);
    let mut service = server.ws().token("backend", &["service"]).connect().await;
    assert!(may_follow(&mut service, "quiet:1").await);
}

#[tokio::test]
async fn rules_can_use_id_claims_and_roles() {
    let server = Server::start(Config::rooms()).await;
    let mut member = server
        .ws()
        .bearer(&projects("alice", json!(["42", "7"])).sign())
        .connect()
        .await;
    assert!(may_follow(&mut member, "project:42").await);
    assert!(may_follow(&mut member, "project:7").await);
    assert!(!may_follow(&mut member, "project:4").await);
    assert!(
        !may_follow(&mut member, "project:42:secret").await,
        "id is all after the first colon"
    );
    assert!(!may_publish(&mut member, "project:42").await);

    // A rule that fails to evaluate refuses: the claim is missing, or is not a list.
    let mut stranger = server.ws().token("bob", &[]).connect().await;
    assert!(!may_follow(&mut stranger, "project:42").await);
    let mut odd = server
        .ws()
        .bearer(&projects("bob", json!(5)).sign())
        .connect()
        .await;
    assert!(!may_follow(&mut odd, "project:42").await);

    let mut editor = server.ws().token("carol", &["editor"]).connect().await;
    assert!(may_publish(&mut editor, "project:42").await);
    assert!(!may_follow(&mut editor, "project:42").await);
}

#[tokio::test]
async fn rules_can_use_user_and_channel() {
    let config = Config::rooms()
        .namespace("inbox", "subscribe = 'id == user'\npublish = 'true'")
        .namespace("exact", "subscribe = 'channel == \"exact:one\"'");
    let server = Server::start(config).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    assert!(may_follow(&mut alice, "inbox:alice").await);
    assert!(!may_follow(&mut alice, "inbox:bob").await);
    assert!(may_publish(&mut alice, "inbox:bob").await);
    assert!(may_follow(&mut alice, "exact:one").await);
    assert!(!may_follow(&mut alice, "exact:two").await);
}

#[tokio::test]
async fn star_namespace_covers_undeclared_ones() {
    let open = "subscribe = 'true'\npublish = '\"editor\" in roles'";
    let server = Server::start(Config::rooms().namespace("*", open)).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    assert!(may_follow(&mut alice, "whatever:1").await);
    assert!(!may_publish(&mut alice, "whatever:1").await);
    assert!(
        !may_follow(&mut alice, "project:1").await,
        "declared ones keep their rules"
    );
    let mut editor = server.ws().token("carol", &["editor"]).connect().await;
    assert!(may_publish(&mut editor, "whatever:1").await);
}

#[tokio::test]
async fn global_is_open_and_user_channel_is_personal() {
    let server = Server::start(Config::rooms()).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    assert!(may_follow(&mut alice, "global").await);
    assert!(may_follow(&mut alice, "user:alice").await);
    assert!(!may_follow(&mut alice, "user:bob").await);
    assert!(!may_publish(&mut alice, "global").await);
    assert!(!may_publish(&mut alice, "user:bob").await);
}

#[tokio::test]
async fn built_in_namespaces_can_be_overridden() {
    let config = Config::rooms().namespace("global", "subscribe = '\"staff\" in roles'");
    let server = Server::start(config).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    assert!(!may_follow(&mut alice, "global").await);
    let mut staff = server.ws().token("bob", &["staff"]).connect().await;
    let mut service = server.publisher("service").await;
    service.publish("global", "for.staff", json!({})).await;
    service.publish("user:alice", "fence", json!({})).await;
    staff.expect_event("for.staff").await;
    let before = alice.until("fence").await;
    assert!(
        before.iter().all(|m| m["type"] != "for.staff"),
        "{before:?}"
    );
}

#[tokio::test]
async fn global_and_own_channel_are_auto_subscribed() {
    let server = Server::start(Config::rooms()).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    let mut bob = server.ws().token("bob", &[]).connect().await;
    let mut service = server.publisher("service").await;
    service.publish("user:alice", "for.alice", json!({})).await;
    service.publish("global", "fence", json!({})).await;
    assert_eq!(
        alice.expect_event("for.alice").await["channel"],
        "user:alice"
    );
    alice.expect_event("fence").await;
    let before = bob.until("fence").await;
    assert!(
        before.iter().all(|m| m["type"] != "for.alice"),
        "{before:?}"
    );
}

#[tokio::test]
async fn auto_subscriptions_are_configurable() {
    let config = Config::rooms().auto_subscribe(&["room:hall", "room:of-{user}"]);
    let server = Server::start(config).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    let mut service = server.publisher("service").await;
    service.publish("global", "not.followed", json!({})).await;
    service.publish("room:of-alice", "own", json!({})).await;
    service.publish("room:hall", "fence", json!({})).await;
    alice.expect_event("own").await;
    let before = alice.until("fence").await;
    assert!(
        before.iter().all(|m| m["type"] != "not.followed"),
        "{before:?}"
    );
}

#[tokio::test]
async fn token_grants_override_rules() {
    let server = Server::start(Config::rooms()).await;
    let token = Token::new("alice").claim("channels", json!(["vault:7", "safe:*"]));
    let mut alice = server.ws().bearer(&token.sign()).connect().await;
    assert!(may_follow(&mut alice, "vault:7").await);
    assert!(!may_follow(&mut alice, "vault:8").await);
    assert!(!may_follow(&mut alice, "vault:77").await);
    assert!(may_follow(&mut alice, "safe:1").await);
    assert!(!may_follow(&mut alice, "safer:1").await);
    assert!(
        !may_publish(&mut alice, "vault:7").await,
        "to follow is not to publish"
    );
}

#[tokio::test]
async fn rules_apply_to_grpc() {
    let server = Server::start(Config::rooms()).await;
    let mut alice = server.publisher_as(&projects("alice", json!(["42"]))).await;
    let refused = alice
        .try_send(event("project:42", "a.b", json!({})))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    alice.publish("room:1", "a.b", json!({})).await;

    let subscriptions = ["project:42", "project:1", "project:*", "*"].map(|c| Subscription {
        channel: c.to_owned(),
        ..Subscription::default()
    });
    let request = SubscribeRequest {
        subscriptions: subscriptions.into(),
        ..SubscribeRequest::default()
    };
    let stream = alice.subscribe(request).await;
    let stand: Vec<&str> = stream
        .subscribed
        .channels
        .iter()
        .map(|c| c.channel.as_str())
        .collect();
    assert_eq!(stand, ["project:42"]);
    let refused: Vec<(&str, &str)> = stream
        .subscribed
        .errors
        .iter()
        .map(|e| (e.channel.as_str(), e.code.as_str()))
        .collect();
    let denied = "permission_denied";
    assert_eq!(
        refused,
        [("project:1", denied), ("project:*", denied), ("*", denied)]
    );
}

#[tokio::test]
async fn history_and_presence_require_subscribe_right() {
    let server = Server::start(Config::rooms()).await;
    server
        .publisher("service")
        .await
        .publish("project:1", "secret", json!({}))
        .await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    let history = json!({"type": "history", "channel": "project:1", "limit": 5});
    alice.refused(history, "permission_denied").await;
    alice
        .refused(
            json!({"type": "presence", "channel": "project:1"}),
            "permission_denied",
        )
        .await;
}
