//! The presets and the systems that they emulate: admission, auto-subscriptions, permissions of
//! rooms, and the legacy HTTP paths.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Config, Server, Tidings, Token, Ws, eventually};

/// A client of the dialect `tidings`, whatever the server's default.
async fn client(server: &Server, token: Option<&Token>) -> Ws {
    client_at(server, "/ws", token).await
}

/// The same if the WebSocket has another path.
async fn client_at(server: &Server, path: &str, token: Option<&Token>) -> Ws {
    let offered = server.ws().path(path).protocol("tidings.v1.json");
    match token {
        Some(token) => offered.bearer(&token.sign()).connect().await,
        None => offered.connect().await,
    }
}

fn operator() -> Token {
    Token::new("olga").roles(&["admin"])
}

async fn post(server: &Server, token: &Token, path: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {}", token.sign());
    let headers = [
        ("Authorization", &*bearer),
        ("Content-Type", "application/json"),
    ];
    server
        .http(Method::POST, path, &headers, &body.to_string())
        .await
}

#[tokio::test]
async fn preset_can_be_printed_checked_and_started() {
    for preset in ["football", "devplatform", "spc", "photo", "robotics"] {
        let shown = Tidings::new(&["config", "--preset", preset])
            .run()
            .await
            .exits(0);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("copy.toml"), &shown.stdout).unwrap();
        Tidings::new(&["check", "copy.toml"])
            .within(dir.path())
            .run()
            .await
            .exits(0);
        let checked = Tidings::new(&["check", "--preset", preset])
            .run()
            .await
            .exits(0);
        assert!(checked.stdout.contains(&format!("preset {preset}: good")));
        let dev = Config::preset(preset).without_key().arg("--dev");
        let server = Server::start(dev).await;
        let asyncapi = server.get("/asyncapi.json").await.json();
        assert!(
            asyncapi["components"]["messages"]
                .as_object()
                .unwrap()
                .len()
                >= 5
        );
    }
    let (status, reported) = Server::refuses(Config::preset("spc").without_key()).await;
    assert_eq!(status.code(), Some(1));
    assert!(
        reported.contains("TIDINGS_AUTH__HS256_SECRET"),
        "{reported}"
    );
    let (status, reported) = Server::refuses(Config::preset("chess")).await;
    assert_eq!(status.code(), Some(2));
    assert!(
        reported.contains("football") && reported.contains("robotics"),
        "{reported}"
    );
    let by_environment = Config::new().env("TIDINGS_PRESET", "chess");
    let (status, reported) = Server::refuses(by_environment).await;
    assert_eq!(status.code(), Some(1));
    assert!(
        reported.contains("expected one of football, devplatform"),
        "{reported}"
    );
}

#[tokio::test]
async fn config_over_preset_reports_errors_with_lines() {
    let own = r#"
        namespace = "global"
        schema = '{"type": "object"}'
        example = '5'
    "#;
    let (status, reported) =
        Server::refuses(Config::preset("spc").event_type("own.type", own)).await;
    assert_eq!(status.code(), Some(1));
    assert!(reported.contains("tidings.toml:"), "{reported}");
    let expected = "example: not valid by the type's schema: expected the type object, of the event type \"own.type\"";
    assert!(reported.contains(expected), "{reported}");

    let own = "schema = '{\"required\": [\"x\"]}'\nexample = '{\"x\": 1}'";
    let config = Config::preset("spc")
        .event_type("sample", own)
        .event_type("own.type", own);
    let server = Server::start(config.namespace("line", "subscribe = 'true'")).await;
    let token = Token::new("backend").roles(&["service"]);
    let types = server.get_as(&token, "/api/v1/catalog").await.json();
    let names = types["event_types"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["name"].clone());
    let expected = [
        "ack_update",
        "error",
        "own.type",
        "pong",
        "sample",
        "violation",
    ];
    assert_eq!(names.collect::<Vec<_>>(), expected);
    let mut publisher = server.publisher("service").await;
    let mut screen = client(&server, None).await;
    screen.subscribe("line:1").await;
    screen.subscribe("characteristic:1").await;
    publisher.publish("line:1", "sample", json!({"x": 2})).await;
    assert_eq!(screen.expect_event("sample").await["data"]["x"], 2);
}

#[tokio::test]
async fn football_has_one_channel_and_admin_only_http() {
    let server = Server::start(Config::preset("football")).await;
    let mut page = client(&server, None).await;
    let narrowed = json!({"type": "subscribe", "data": {"event_types": ["processing_progress", "system_error"]}});
    assert_eq!(page.ask(narrowed).await["type"], "subscribed");
    let mut user = client(&server, None).await;
    let token = Token::new("user-123").sign();
    user.ask(json!({"type": "authenticate", "data": {"token": token}}))
        .await;

    let path = "/api/v1/websocket/broadcast";
    let alert = json!({"event_type": "system_alert", "data": {"message": "full"}});
    let answer = post(&server, &operator(), path, &alert).await;
    assert_eq!(answer.json()["success"], true, "{answer:?}");
    let progress = json!({"event_type": "processing_progress",
        "data": {"job_id": "job-123", "progress": 75.0, "stage": "team_normalization"}});
    post(&server, &operator(), path, &progress).await;
    let to_user =
        json!({"event_type": "user_notification", "user": "user-123", "data": {"message": "done"}});
    post(&server, &operator(), path, &to_user).await;
    assert_eq!(
        page.expect_event("processing_progress").await["data"]["progress"],
        75.0
    );
    user.expect_event("system_alert").await;
    assert_eq!(
        user.expect_event("user_notification").await["data"]["message"],
        "done"
    );
    page.lives().await;
    assert_eq!(
        page.unread().count(),
        0,
        "what it did not ask for, or was not for it"
    );

    let bad = json!({"event_type": "processing_progress", "data": {"job_id": "job-123"}});
    let problem = post(&server, &operator(), path, &bad)
        .await
        .assert_problem(400);
    assert_eq!(problem["errors"][0]["field"], "data");
    let viewer = Token::new("ann");
    post(&server, &viewer, path, &alert)
        .await
        .assert_problem(403);
    let path = "/api/v1/websocket/connections";
    server.get_as(&viewer, path).await.assert_problem(403);
    let shown = server.get_as(&operator(), path).await.json();
    assert_eq!(shown["total"], 2, "{shown}");
    assert_eq!(shown["connections"].as_array().unwrap().len(), 2);
    let statistics = &shown["statistics"];
    assert_eq!(statistics["active_connections"], 2);
    assert_eq!(statistics["errors"], 3, "{statistics}");
    assert!(statistics["messages_delivered"].as_u64().unwrap() >= 4);
}

#[tokio::test]
async fn devplatform_checks_token_for_each_room() {
    let server = Server::start(Config::preset("devplatform").set("auth.deadline", "\"1s\"")).await;
    let mut stranger = client_at(&server, "/tidings", None).await;
    stranger.expect_close(4401).await;
    let member = Token::new("u-1")
        .claim("projects", json!(["123"]))
        .claim("agents", json!(["a-1"]));
    let mut ann = client_at(&server, "/tidings", Some(&member)).await;
    let mut publisher = server.publisher("service").await;
    let finding = json!({"analysis_id": "an-1"});
    for automatic in ["global", "user:u-1"] {
        publisher
            .publish(automatic, "ai.analysis_complete", finding.clone())
            .await;
        let seen = ann.expect_event("ai.analysis_complete").await;
        assert_eq!(seen["channel"], automatic);
    }
    for open in ["project:123", "agent:a-1"] {
        ann.subscribe(open).await;
    }
    for closed in ["project:124", "agent:a-2", "user:u-2", "secret"] {
        let reply = ann
            .ask(json!({"type": "subscribe", "channels": [closed]}))
            .await;
        assert_eq!(reply["errors"][0]["code"], "permission_denied", "{closed}");
    }
    let bare = Token::new("u-2");
    let mut bob = client_at(&server, "/tidings", Some(&bare)).await;
    let reply = bob
        .ask(json!({"type": "subscribe", "channels": ["project:123"]}))
        .await;
    assert_eq!(reply["errors"][0]["code"], "permission_denied");

    let path = "/api/v1/websocket/stats";
    server.get_as(&member, path).await.assert_problem(403);
    let stats = eventually("the stranger to be gone", async || {
        let stats = server.get_as(&operator(), path).await.json();
        (stats["total_connections"] == 2).then_some(stats)
    })
    .await;
    assert_eq!(stats["rooms"]["project:123"], 1, "{stats}");
    assert_eq!(stats["rooms"]["global"], 2);
    assert_eq!(stats["total_subscriptions"], 6);
    eventually("every event to stand in the audit log", async || {
        let audit = std::fs::read_to_string(server.path("tidings-audit.jsonl")).unwrap();
        let lines = audit
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let lines: Vec<Value> = lines.collect();
        let taken = |channel| {
            let found = |line: &&Value| line["event"] == "publish" && line["channel"] == channel;
            lines.iter().find(found)
        };
        assert!(!audit.contains("an-1"), "no payload stands in it");
        let (global, user) = (taken("global")?, taken("user:u-1")?);
        assert_eq!(global["user"], "backend");
        assert_eq!(user["event_type"], "ai.analysis_complete");
        assert!(user["id"].is_string(), "{user}");
        lines
            .iter()
            .find(|line| line["event"] == "subscribe_refused")
            .map(drop)
    })
    .await;
}

#[tokio::test]
async fn spc_room_per_characteristic_is_open_to_all() {
    let server = Server::start(Config::preset("spc")).await;
    let mut screen = client(&server, None).await;
    let rooms: Vec<String> = (1..=300).map(|id| format!("characteristic:{id}")).collect();
    for rooms in rooms.chunks(100) {
        let reply = screen
            .ask(json!({"type": "subscribe", "channels": rooms}))
            .await;
        assert_eq!(
            reply["channels"].as_array().unwrap().len(),
            100,
            "{}",
            reply["errors"]
        );
    }
    let mut publisher = server.publisher("service").await;
    let ack = |id: u64| json!({"violation_id": 1, "characteristic_id": id, "acknowledged": true});
    publisher
        .publish("characteristic:301", "ack_update", ack(301))
        .await;
    publisher
        .publish("characteristic:300", "ack_update", ack(300))
        .await;
    let seen = screen.expect_event("ack_update").await;
    assert_eq!(seen["data"]["characteristic_id"], 300);
    publisher.publish("global", "ack_update", ack(301)).await;
    assert_eq!(screen.expect_event("ack_update").await["channel"], "global");
    let reply = screen
        .ask(json!({"type": "subscribe", "channels": ["user:ann"]}))
        .await;
    assert_eq!(reply["errors"][0]["code"], "permission_denied");
}

#[tokio::test]
async fn photo_has_seven_channels_and_client_admin_api() {
    let server = Server::start(Config::preset("photo")).await;
    let mut phone = client(&server, None).await;
    let _unregistered = client(&server, None).await;
    phone
        .ask(json!({"type": "register", "client_type": "mobile", "client_name": "Mobile Web"}))
        .await;
    let channels = [
        "jobs", "photos", "sessions", "system", "queue", "approval", "export",
    ];
    let reply = phone
        .ask(json!({"type": "subscribe", "channels": channels}))
        .await;
    assert_eq!(reply["channels"].as_array().unwrap().len(), 7, "{reply}");

    let admin = operator();
    let clients = server.get_as(&admin, "/websocket/clients").await.json();
    let shown = clients["clients"].as_array().unwrap().iter();
    let shown = shown
        .clone()
        .find(|c| c["type"] == "mobile")
        .unwrap()
        .clone();
    assert_eq!(shown["name"], "Mobile Web");
    assert_eq!(shown["client_id"], phone.id());
    assert!(shown["connected_at"].is_string() && shown["last_seen_at"].is_string());
    let followed = shown["subscriptions"].as_array().unwrap();
    assert!(
        channels
            .iter()
            .all(|channel| followed.contains(&json!(channel))),
        "{shown}"
    );
    let stats = server.get_as(&admin, "/websocket/stats").await.json();
    assert_eq!(
        stats["clients_by_type"],
        json!({"mobile": 1, "unknown": 1}),
        "{stats}"
    );
    assert_eq!(stats["subscriptions_per_channel"]["jobs"], 1);
    assert!(
        stats["active_channels"]
            .as_array()
            .unwrap()
            .contains(&json!("export"))
    );

    let path = "/websocket/broadcast";
    let progress =
        json!({"type": "job_progress", "channel": "jobs", "job_id": "7", "progress": 50});
    assert_eq!(
        post(&server, &admin, path, &progress).await.json()["recipients"],
        1
    );
    assert_eq!(phone.expect_event("job_progress").await["channel"], "jobs");
    let all = json!({"message": {"type": "system_status", "status": "batch_started"}});
    assert_eq!(
        post(&server, &admin, path, &all).await.json()["recipients"],
        2
    );
    assert_eq!(
        phone.expect_event("system_status").await["channel"],
        "global"
    );
    let stray = json!({"type": "job_progress", "channel": "photos", "job_id": "7", "progress": 50});
    let problem = post(&server, &admin, path, &stray)
        .await
        .assert_problem(400);
    assert_eq!(problem["errors"][0]["field"], "type", "{problem}");

    let path = format!("/websocket/disconnect/{}", phone.id());
    post(&server, &Token::new("ann"), &path, &json!({}))
        .await
        .assert_problem(403);
    assert_eq!(
        post(&server, &admin, &path, &json!({})).await.json()["success"],
        true
    );
    phone.expect_close(4410).await;
}

#[tokio::test]
async fn robotics_session_reaches_its_subscribers() {
    let server = Server::start(Config::preset("robotics")).await;
    let mut page = client(&server, None).await;
    page.subscribe("session:1").await;
    let mut publisher = server.publisher("service").await;
    for session in ["2", "1"] {
        let data = json!({"session_id": session, "progress": 10});
        publisher
            .publish(&format!("session:{session}"), "session_progress", data)
            .await;
    }
    let seen = page.expect_event("session_progress").await;
    assert_eq!(seen["data"]["session_id"], "1");
    let alert = json!({"severity": "high", "title": "hot"});
    publisher.publish("global", "alert", alert).await;
    page.expect_event("alert").await;
    let stats = server.get_as(&operator(), "/api/v1/stats").await.json();
    assert_eq!(stats["connections"]["now"], 1);
    assert_eq!(stats["subscriptions"], 2);
}
