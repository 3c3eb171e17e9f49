//! Sample clients of the systems that the presets emulate, message by message, and the envelopes
//! that they expect.

use serde_json::{Map, Value, json};

use crate::harness::{Config, Server, Token, Ws};

/// The member names of an object.
fn members(message: &Value) -> Vec<&str> {
    let members: &Map<String, Value> = message.as_object().unwrap();
    members.keys().map(String::as_str).collect()
}

/// A connection of a legacy client: no subprotocol, no token.
async fn plain(server: &Server) -> Ws {
    server.ws().upgrade().await.expect("an accepted upgrade")
}

/// All earlier messages are handled once this is answered.
async fn settled(ws: &mut Ws) {
    ws.send(json!({"type": "ping"})).await;
    ws.expect("pong").await;
}

#[tokio::test]
async fn football_page_receives_progress_and_errors() {
    let server = Server::start(Config::preset("football")).await;
    let mut page = plain(&server).await;
    let hello = page.expect("connection_established").await;
    assert_eq!(members(&hello), ["data", "timestamp", "type"], "{hello}");
    assert_eq!(hello["data"]["user"], Value::Null);
    page.send(json!({"type": "subscribe", "data": {"event_types": ["processing_progress", "system_error"]}}))
        .await;
    settled(&mut page).await;
    let mut publisher = server.publisher("service").await;
    let progress = json!({
        "job_id": "job-123", "progress": 75.0, "stage": "team_normalization",
        "timestamp": "2026-11-21T10:06:53.118Z",
    });
    publisher
        .publish(
            "global",
            "system_alert",
            json!({"message": "not asked for"}),
        )
        .await;
    publisher
        .publish("global", "processing_progress", progress.clone())
        .await;
    publisher
        .publish("global", "system_error", json!({"error": "gone"}))
        .await;
    let seen = page.expect("processing_progress").await;
    let expected = ["data", "position", "timestamp", "type"];
    assert_eq!(members(&seen), expected, "{seen}");
    assert_eq!(seen["data"], progress);
    assert_eq!(page.expect("system_error").await["data"]["error"], "gone");
    assert!(page.unread().all(|m| m["type"] == "subscribed"));
}

#[tokio::test]
async fn football_client_authenticates_and_gets_own_events() {
    let server =
        Server::start(Config::preset("football").set("heartbeat.interval", "\"200ms\"")).await;
    let token = Token::new("user-123").roles(&["admin"]).sign();
    let mut later = plain(&server).await;
    later
        .send(json!({"type": "authenticate", "data": {"token": token}}))
        .await;
    assert_eq!(
        later.expect("authenticated").await["data"]["user"],
        "user-123"
    );
    let at_once = server.ws().query_token(&token).upgrade().await;
    let mut at_once = at_once.expect("an accepted upgrade");
    assert_eq!(
        at_once.expect("connection_established").await["data"]["user"],
        "user-123"
    );
    let beat = later.expect("heartbeat").await;
    assert_eq!(members(&beat)[1..], ["timestamp", "type"], "{beat}");
    later.send(json!({"type": "heartbeat_response"})).await;
    let mut publisher = server.publisher("service").await;
    let word = json!({"message": "Your job is complete!"});
    publisher
        .publish("user:user-123", "user_notification", word.clone())
        .await;
    publisher
        .publish("global", "config_updated", json!({"changes": {}}))
        .await;
    for ws in [&mut later, &mut at_once] {
        assert_eq!(ws.expect("user_notification").await["data"], word);
        ws.expect("config_updated").await;
    }
    later
        .send(json!({"type": "authenticate", "data": {"token": "x.y.z"}}))
        .await;
    let error = later.expect("error").await;
    assert_eq!(error["data"]["code"], "unauthenticated", "{error}");
}

#[tokio::test]
async fn spc_screen_receives_subscribed_characteristics() {
    let server = Server::start(Config::preset("spc")).await;
    let mut screen = plain(&server).await;
    screen
        .send(json!({"type": "subscribe", "characteristic_ids": [1, 2, 3]}))
        .await;
    let subscribed = screen.expect("subscribed").await;
    assert_eq!(
        subscribed["characteristic_ids"],
        json!([1, 2, 3]),
        "{subscribed}"
    );
    screen.send(json!({"type": "ping"})).await;
    assert_eq!(screen.expect("pong").await["type"], "pong");
    assert_eq!(
        screen.unread().count(),
        0,
        "nothing is sent without a request"
    );
    let mut publisher = server.publisher("service").await;
    let sample = |id: u64| {
        json!({
            "sample_id": 123, "characteristic_id": id, "timestamp": "2026-02-02T12:00:00Z",
            "value": 10.5, "zone": "zone_c_upper", "in_control": true,
        })
    };
    publisher
        .publish("characteristic:4", "sample", sample(4))
        .await;
    publisher
        .publish("characteristic:1", "sample", sample(1))
        .await;
    let seen = screen.expect("sample").await;
    let position = &seen["position"];
    let expected = json!({"type": "sample", "payload": sample(1), "position": position});
    assert_eq!(seen, expected);
    screen
        .send(json!({"type": "unsubscribe", "characteristic_ids": [1]}))
        .await;
    settled(&mut screen).await;
    publisher
        .publish("characteristic:1", "sample", sample(1))
        .await;
    publisher.publish("global", "sample", sample(9)).await;
    assert_eq!(
        screen.expect("sample").await["payload"]["characteristic_id"],
        9
    );
    screen.send(json!({"type": "subscribe"})).await;
    let error = screen.expect("error").await;
    assert_eq!(error["code"], "invalid_argument", "{error}");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("characteristic_ids"),
        "{error}"
    );
}

#[tokio::test]
async fn photo_client_registers_and_gets_flat_events() {
    let server = Server::start(Config::preset("photo")).await;
    let mut phone = plain(&server).await;
    phone
        .send(json!({"type": "register", "client_type": "mobile", "client_name": "Mobile Web"}))
        .await;
    phone
        .send(json!({"type": "subscribe", "channels": ["jobs", "photos", "sessions"]}))
        .await;
    phone.expect("subscribed").await;
    let mut publisher = server.publisher("service").await;
    let progress = json!({"job_id": "7", "progress": 50});
    publisher
        .publish("queue", "queue_status", json!({"pending": 1}))
        .await;
    publisher.publish("jobs", "job_progress", progress).await;
    let seen = phone.expect("job_progress").await;
    assert_eq!(
        members(&seen),
        ["job_id", "position", "progress", "timestamp", "type"],
        "{seen}"
    );
    assert_eq!(
        (&seen["job_id"], &seen["progress"]),
        (&json!("7"), &json!(50))
    );
    let updated = json!({"session_id": "3", "progress_percent": 25});
    publisher
        .publish("sessions", "session_updated", updated)
        .await;
    assert_eq!(
        phone.expect("session_updated").await["progress_percent"],
        25
    );
    assert!(phone.unread().all(|m| m["type"] != "queue_status"));
    settled(&mut phone).await;
}
