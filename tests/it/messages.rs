//! Every client message and its reply.

use serde_json::{Value, json};

use crate::harness::{Config, Server, Token};

#[tokio::test]
async fn first_message_has_identity_and_connection_id() {
    let server = Server::start(Config::rooms()).await;
    let ws = server
        .ws()
        .token("alice", &["editor", "viewer"])
        .connect()
        .await;
    let hello = &ws.established;
    assert!(!ws.id().is_empty());
    assert_eq!(hello["user"], "alice");
    assert_eq!(hello["roles"], json!(["editor", "viewer"]));
    assert_eq!(hello["heartbeat_interval_ms"], 30_000);
    assert_eq!(hello["heartbeat_timeout_ms"], 60_000);
    assert!(
        hello["timestamp"]
            .as_str()
            .is_some_and(|t| t.ends_with('Z')),
        "{hello}"
    );

    let other = server.ws().token("alice", &[]).connect().await;
    assert_ne!(ws.id(), other.id());
}

#[tokio::test]
async fn authenticate_returns_user_and_expiry() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().connect().await;
    let token = Token::new("alice").roles(&["editor"]).sign();
    let reply = ws
        .ask(json!({"type": "authenticate", "token": token}))
        .await;
    assert_eq!(reply["type"], "authenticated", "{reply}");
    assert_eq!(reply["user"], "alice");
    assert_eq!(reply["roles"], json!(["editor"]));
    assert!(!reply["expires_at"].is_null(), "{reply}");
    ws.subscribe("room:1").await;
}

#[tokio::test]
async fn register_works_before_authentication() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().connect().await;
    let message = json!({"type": "register", "client_type": "web", "client_name": "dashboard"});
    assert_eq!(ws.ask(message).await["type"], "registered");
}

#[tokio::test]
async fn subscribe_and_unsubscribe_return_channels() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let reply = ws
        .ask(json!({"type": "subscribe", "channels": ["room:1", "plain:1"]}))
        .await;
    assert_eq!(reply["type"], "subscribed");
    let channels = reply["channels"].as_array().unwrap();
    assert_eq!(channels[0]["channel"], "room:1");
    assert_eq!(channels[0]["offset"], 0);
    assert!(
        channels[0]["epoch"].as_str().is_some_and(|e| !e.is_empty()),
        "{reply}"
    );
    assert_eq!(channels[1]["channel"], "plain:1");

    let reply = ws
        .ask(json!({"type": "unsubscribe", "channels": ["room:1"]}))
        .await;
    assert_eq!(reply["type"], "unsubscribed");
    assert_eq!(reply["channels"], json!(["room:1"]));

    // The later event on the other channel shows that the earlier one was not sent.
    let mut service = server.publisher("service").await;
    service.publish("room:1", "not.wanted", json!({})).await;
    ws.subscribe("room:1").await;
    service.publish("room:1", "wanted", json!({})).await;
    let before = ws.until("wanted").await;
    assert!(
        before.iter().all(|m| m["type"] != "not.wanted"),
        "{before:?}"
    );
}

#[tokio::test]
async fn publish_returns_id_and_position() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let reply = ws
        .ask(json!({
            "type": "publish", "channel": "room:1", "event_type": "said.hello",
            "data": {"channel": "room:2", "event_type": "other"},
            "headers": {"lang": "en"}, "key": "k", "idempotency_key": "once",
        }))
        .await;
    assert_eq!(reply["type"], "published", "{reply}");
    assert_eq!(reply["offset"], 1);
    assert!(reply["epoch"].is_string());
    let event = ws.expect_event("said.hello").await;
    assert_eq!(
        event["channel"], "room:1",
        "data is data, whatever its keys are called"
    );
    assert_eq!(
        event["data"],
        json!({"channel": "room:2", "event_type": "other"})
    );
    assert_eq!(event["headers"], json!({"lang": "en"}));
}

#[tokio::test]
async fn null_is_accepted_as_data() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("ann", &[]).connect().await;
    ws.subscribe("room:1").await;
    ws.publish("room:1", "nothing.new", Value::Null).await;
    assert_eq!(ws.expect_event("nothing.new").await["data"], Value::Null);
    let missing = json!({"type": "publish", "channel": "room:1", "event_type": "nothing.new"});
    ws.refused(missing, "invalid_argument").await;
}

#[tokio::test]
async fn history_returns_events_and_newest_position() {
    let server = Server::start(Config::rooms()).await;
    server
        .publisher("service")
        .await
        .count("room:1", "count.up", 1..=5)
        .await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let reply = ws
        .ask(json!({"type": "history", "channel": "room:1", "limit": 3}))
        .await;
    assert_eq!(reply["type"], "history", "{reply}");
    assert_eq!(reply["channel"], "room:1");
    assert_eq!(reply["offset"], 5);
    assert!(reply["epoch"].is_string());
    let events = reply["events"].as_array().unwrap();
    assert_eq!(events.len(), 3);
    for (event, n) in events.iter().zip(1..) {
        assert_eq!(event["type"], "count.up");
        assert_eq!(event["offset"], n);
        assert_eq!(event["data"], json!({ "n": n }));
    }
}

#[tokio::test]
async fn history_without_retention_is_refused() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let reply = ws
        .ask(json!({"type": "history", "channel": "plain:1", "limit": 3}))
        .await;
    match reply["type"].as_str().unwrap() {
        "error" => assert_eq!(reply["code"], "failed_precondition", "{reply}"),
        _ => assert_eq!(reply["events"], json!([]), "{reply}"),
    }
}

#[tokio::test]
async fn ping_is_answered_but_heartbeat_response_is_not() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.send(json!({"type": "heartbeat_response"})).await;
    ws.send(json!({"type": "heartbeat_response", "timestamp": "2026-11-21T10:00:00Z"}))
        .await;
    let pong = ws.ask(json!({"type": "ping"})).await;
    assert_eq!(pong["type"], "pong");
    assert!(pong["timestamp"].is_string(), "{pong}");
    assert_eq!(
        ws.unread().count(),
        0,
        "{:?}",
        ws.unread().collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn request_id_is_echoed_unchanged() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    for id in [json!("a-7"), json!(7), json!(0), json!("")] {
        ws.send(json!({"type": "ping", "id": id})).await;
        assert_eq!(ws.expect("pong").await["id"], id);
        ws.send(json!({"type": "no_such_message", "id": id})).await;
        assert_eq!(ws.expect("error").await["id"], id);
    }
    ws.send(json!({"type": "ping"})).await;
    assert_eq!(
        ws.expect("pong").await.get("id"),
        None,
        "no id where none was given"
    );
}

#[tokio::test]
async fn arguments_may_be_nested_in_data() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().connect().await;
    let token = Token::new("alice").sign();
    let table = [
        ("authenticate", json!({"token": token}), "authenticated"),
        (
            "register",
            json!({"client_type": "web", "client_name": "n"}),
            "registered",
        ),
        ("subscribe", json!({"channels": ["room:1"]}), "subscribed"),
        (
            "publish",
            json!({"channel": "room:1", "event_type": "a.b", "data": [1]}),
            "published",
        ),
        (
            "history",
            json!({"channel": "room:1", "limit": 1}),
            "history",
        ),
        ("presence", json!({"channel": "room:1"}), "presence"),
        (
            "unsubscribe",
            json!({"channels": ["room:1"]}),
            "unsubscribed",
        ),
        ("ping", json!({}), "pong"),
    ];
    for (kind, arguments, answer) in table {
        let reply = ws.ask(json!({"type": kind, "data": arguments})).await;
        assert_eq!(reply["type"], answer, "{kind}: {reply}");
    }
    assert_eq!(ws.expect_event("a.b").await["data"], json!([1]));
}

#[tokio::test]
async fn every_server_message_starts_with_its_type() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    for message in [
        json!({"type": "ping"}),
        json!({"type": "subscribe", "channels": ["room:1"]}),
    ] {
        ws.send(message).await;
        let text = ws.next_text().await;
        assert!(text.starts_with("{\"type\":"), "{text}");
    }
}

#[tokio::test]
async fn named_subprotocol_uses_same_messages() {
    let server = Server::start(Config::rooms()).await;
    let ws = server.ws().token("alice", &[]).protocol("tidings.v1.json");
    let mut ws = ws.connect().await;
    assert_eq!(ws.protocol.as_deref(), Some("tidings.v1.json"));
    ws.lives().await;

    let ws = server.ws().token("alice", &[]).protocol("cloudevents.json");
    let mut ws = ws.upgrade().await.expect("an upgrade");
    assert_eq!(ws.protocol.as_deref(), Some("cloudevents.json"));
    // Belongs to the auto-subscriptions.
    ws.expect("connection_established").await;
    server
        .publisher("service")
        .await
        .publish("global", "a.b", json!({"n": 1}))
        .await;
    let event = loop {
        let message: Value = serde_json::from_str(&ws.next_text().await).unwrap();
        if message["type"] == "a.b" {
            break message;
        }
    };
    assert_eq!(event["specversion"], "1.0", "{event}");
    assert_eq!(event["data"], json!({"n": 1}));
    assert!(
        event["id"].is_string() && event["source"].is_string(),
        "{event}"
    );
}
