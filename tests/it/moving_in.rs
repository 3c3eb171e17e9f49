//! Requests of the older systems' back ends and clients that Tidings' own clients never send.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Config, Server, Token, Ws, event};

async fn plain(server: &Server) -> Ws {
    server.ws().upgrade().await.expect("an accepted upgrade")
}

async fn broadcast(server: &Server, body: &Value) -> Value {
    let bearer = format!("Bearer {}", Token::new("olga").roles(&["admin"]).sign());
    let headers = [
        ("Authorization", &*bearer),
        ("Content-Type", "application/json"),
    ];
    let path = "/api/v1/websocket/broadcast";
    let answer = server
        .http(Method::POST, path, &headers, &body.to_string())
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[tokio::test]
async fn event_for_role_honours_event_types() {
    let server = Server::start(Config::preset("football")).await;
    let operator = Token::new("olga").roles(&["admin"]).sign();
    let mut narrow = server.ws().bearer(&operator).upgrade().await.unwrap();
    narrow
        .send(json!({"type": "subscribe", "data": {"event_types": ["processing_*"]}}))
        .await;
    narrow.expect("subscribed").await;
    let mut wide = server.ws().bearer(&operator).upgrade().await.unwrap();
    wide.expect("connection_established").await;
    let alert = json!({"event_type": "system_alert", "data": {"message": "full"},
                       "required_roles": ["admin"]});
    assert_eq!(broadcast(&server, &alert).await["recipients"], 1);
    let started =
        json!({"event_type": "processing_started", "data": {"job_id": 7}, "role": "admin"});
    assert_eq!(broadcast(&server, &started).await["recipients"], 2);
    wide.expect("system_alert").await;
    wide.expect("processing_started").await;
    narrow.expect("processing_started").await;
    assert!(narrow.unread().all(|m| m["type"] != "system_alert"));
    // The user's own name is not a broadcast: the filter on broadcasts does not withhold it.
    let own = json!({"event_type": "system_alert", "data": {"message": "you"}, "user_id": "olga"});
    assert_eq!(broadcast(&server, &own).await["recipients"], 2);
    assert_eq!(
        narrow.expect("system_alert").await["data"]["message"],
        "you"
    );
}

#[tokio::test]
async fn targets_may_be_numbers_and_connections() {
    let server = Server::start(Config::preset("football")).await;
    let seven = Token::new("7").sign();
    let mut user = server.ws().bearer(&seven).upgrade().await.unwrap();
    let hello = user.expect("connection_established").await;
    let done = |more: Value| {
        let mut body = json!({"event_type": "processing_completed", "data": {"job_id": 1}});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let by_number = broadcast(&server, &done(json!({"target_users": [7]}))).await;
    assert_eq!(by_number["recipients"], 1, "{by_number}");
    let id = &hello["data"]["connection_id"];
    let by_connection = broadcast(&server, &done(json!({"connection_id": id}))).await;
    assert_eq!(by_connection["recipients"], 1, "{by_connection}");
    // `send_to_user(7, "processing_completed", …)`, for a user who may be offline.
    broadcast(&server, &done(json!({"channel": "user:7"}))).await;
    for _ in 0..3 {
        user.expect("processing_completed").await;
    }
}

#[tokio::test]
async fn older_client_recovers_by_position_of_its_events() {
    let server = Server::start(Config::preset("spc")).await;
    let mut publisher = server.publisher("service").await;
    let sample = |n: u64| {
        json!({"sample_id": n, "characteristic_id": 1, "timestamp": "2026-02-02T12:00:00Z",
               "value": 1, "zone": "a", "in_control": true})
    };
    let subscribe = json!({"type": "subscribe", "characteristic_ids": [1]});
    let mut screen = plain(&server).await;
    screen.send(subscribe.clone()).await;
    screen.expect("subscribed").await;
    publisher
        .publish("characteristic:1", "sample", sample(1))
        .await;
    let seen = screen.expect("sample").await;
    let position = &seen["position"];
    assert_eq!(position["channel"], "characteristic:1", "{seen}");
    screen.close().await;
    for n in [2, 3] {
        publisher
            .publish("characteristic:1", "sample", sample(n))
            .await;
    }
    let mut again = plain(&server).await;
    let mut subscribe = subscribe;
    subscribe["since"] = json!({"characteristic:1": position});
    again.send(subscribe).await;
    let subscribed = again.expect("subscribed").await;
    assert_eq!(subscribed["channels"][0]["recovered"], true, "{subscribed}");
    for n in [2, 3] {
        assert_eq!(again.expect("sample").await["payload"]["sample_id"], n);
    }
}

#[tokio::test]
async fn spc_screen_subscribes_to_300_characteristics_at_once() {
    let server = Server::start(Config::preset("spc")).await;
    let mut screen = plain(&server).await;
    let ids: Vec<u32> = (1..=300).collect();
    screen
        .send(json!({"type": "subscribe", "characteristic_ids": ids}))
        .await;
    let subscribed = screen.expect("subscribed").await;
    assert_eq!(subscribed["channels"].as_array().unwrap().len(), 300);
    let ids: Vec<u32> = (1..=1001).collect();
    screen
        .send(json!({"type": "subscribe", "characteristic_ids": ids}))
        .await;
    let error = screen.expect("error").await;
    assert_eq!(error["code"], "invalid_argument", "{error}");
}

#[tokio::test]
async fn pong_of_client_is_a_sign_of_life() {
    for preset in ["photo", "spc", "football"] {
        let server = Server::start(Config::preset(preset)).await;
        let mut client = plain(&server).await;
        client.send(json!({"type": "pong"})).await;
        client.send(json!({"type": "ping"})).await;
        client.expect("pong").await;
        assert!(client.unread().all(|m| m["type"] != "error"), "{preset}");
    }
}

#[tokio::test]
async fn list_of_clients_is_whole_without_page_size() {
    let server = Server::start(Config::preset("photo")).await;
    let mut clients = Vec::new();
    for _ in 0..105 {
        clients.push(plain(&server).await);
    }
    let operator = Token::new("olga").roles(&["admin"]);
    let listed = server.get_as(&operator, "/websocket/clients").await.json();
    assert_eq!(listed["clients"].as_array().unwrap().len(), 105);
    assert_eq!(listed["next_page_token"], "");
    let path = "/websocket/clients?page_size=100";
    let page = server.get_as(&operator, path).await.json();
    assert_eq!(page["clients"].as_array().unwrap().len(), 100);
    assert_ne!(page["next_page_token"], "");
}

#[tokio::test]
async fn catalog_mode_known_checks_only_known_types() {
    let server = Server::start(Config::preset("football").set("catalog.mode", r#""known""#)).await;
    let mut publisher = server.publisher("service").await;
    publisher
        .publish("global", "own.type", json!({"any": "thing"}))
        .await;
    for wrong in [
        event("global", "processing_progress", json!({"progress": "half"})),
        event("elsewhere:1", "processing_progress", json!({})),
        event("global", "heartbeat", json!({})),
    ] {
        let status = publisher.try_send(wrong).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    }
}
