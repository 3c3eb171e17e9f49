//! Plain HTTP on the public listener.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Config, Server, Token};

fn service() -> String {
    format!(
        "Bearer {}",
        Token::new("backend").roles(&["service"]).sign()
    )
}

#[tokio::test]
async fn health_and_readiness_respond() {
    let server = Server::start(Config::rooms()).await;
    assert_eq!(server.get("/healthz").await.status, 200);
    assert_eq!(server.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn unknown_path_and_missing_upgrade_return_problem() {
    let server = Server::start(Config::rooms()).await;
    let problem = server.get("/no/such/path").await.assert_problem(404);
    assert_eq!(problem["code"], "not_found");
    assert_eq!(problem["status"], 404);
    assert!(problem["title"].is_string(), "{problem}");
    let token = service();
    let headers = [("Authorization", token.as_str())];
    server
        .http(Method::GET, "/ws", &headers, "")
        .await
        .assert_problem(426);
    server
        .refused_upgrade("/no/such/path", &headers)
        .await
        .assert_problem(404);
}

#[tokio::test]
async fn api_requires_token_with_role() {
    let server = Server::start(Config::rooms()).await;
    for path in ["/api/v1/stats", "/api/v1/connections", "/api/v1/channels"] {
        let problem = server.get(path).await.assert_problem(401);
        assert_eq!(problem["code"], "unauthenticated", "{path}");
        let answer = server
            .get_as(&Token::new("alice").roles(&["editor"]), path)
            .await;
        assert_eq!(
            answer.assert_problem(403)["code"],
            "permission_denied",
            "{path}"
        );
        let answer = server
            .get_as(&Token::new("root").roles(&["admin"]), path)
            .await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert!(answer.json().is_object() || answer.json().is_array());
    }
}

#[tokio::test]
async fn events_are_published_by_post() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    let token = service();
    let headers = [
        ("Authorization", token.as_str()),
        ("Content-Type", "application/json"),
    ];
    let body = r#"{"channels":["room:1"],"type":"a.b","data":{ "n" : 1.0 },"headers":{"h":"v"}}"#;
    let answer = server
        .http(Method::POST, "/api/v1/events", &headers, body)
        .await;
    assert!(matches!(answer.status, 200..=202), "{answer:?}");
    let reply = answer.json();
    let text = ws.expect_text("a.b").await;
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(reply["id"], event["id"], "{reply}");
    assert!(
        text.contains(r#""data":{ "n" : 1.0 }"#),
        "byte for byte: {text}"
    );
    assert_eq!(event["headers"], json!({"h": "v"}));

    for bad in [
        "",
        "{",
        "[]",
        "5",
        r#"{"channels":["room:1"],"data":1}"#,
        r#"{"channels":["not valid"],"type":"a.b","data":1}"#,
    ] {
        let answer = server
            .http(Method::POST, "/api/v1/events", &headers, bad)
            .await;
        assert_eq!(
            answer.assert_problem(400)["code"],
            "invalid_argument",
            "{bad}"
        );
    }
}

#[tokio::test]
async fn cloud_events_are_published_structured_and_binary() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let token = service();
    let structured = json!({
        "specversion": "1.0", "id": "1", "source": "/billing", "type": "bill.sent",
        "data": {"n": 1},
    });
    let headers = [
        ("Authorization", token.as_str()),
        ("Content-Type", "application/cloudevents+json"),
    ];
    let body = structured.to_string();
    let answer = server
        .http(Method::POST, "/api/v1/events", &headers, &body)
        .await;
    assert!(matches!(answer.status, 200..=202), "{answer:?}");
    assert_eq!(ws.expect_event("bill.sent").await["data"], json!({"n": 1}));

    let headers = [
        ("Authorization", token.as_str()),
        ("Content-Type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "2"),
        ("ce-source", "/billing"),
        ("ce-type", "bill.paid"),
    ];
    let answer = server
        .http(Method::POST, "/api/v1/events", &headers, r#"{"n":2}"#)
        .await;
    assert!(matches!(answer.status, 200..=202), "{answer:?}");
    assert_eq!(ws.expect_event("bill.paid").await["data"], json!({"n": 2}));
}

#[tokio::test]
async fn cloud_event_paths_take_only_cloud_events() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let token = service();
    let event = |id: &str| {
        json!({
            "specversion": "1.0", "id": id, "source": "/billing", "type": "bill.sent",
            "data": {"id": id},
        })
    };
    let post = async |path: &str, media: &str, body: &serde_json::Value| {
        let headers = [("Authorization", token.as_str()), ("Content-Type", media)];
        let (path, body) = (format!("/api/v1/cloudevents{path}"), body.to_string());
        server.http(Method::POST, &path, &headers, &body).await
    };
    let structured = "application/cloudevents+json";
    let batched = "application/cloudevents-batch+json";
    let one = post("", structured, &event("1")).await;
    assert_eq!(one.status, 200, "{one:?}");
    let sent = ws.expect_event("bill.sent").await;
    assert_eq!(sent["data"], json!({"id": "1"}));
    assert_eq!(sent["id"], one.json()["id"]);

    let batch = post("/batch", batched, &json!([event("2"), {"id": "3"}])).await;
    assert_eq!(batch.status, 200, "{batch:?}");
    let (batch, sent) = (batch.json(), ws.expect_event("bill.sent").await);
    assert_eq!(sent["id"], batch[0]["id"]);
    assert_eq!(batch[1]["error"]["code"], "invalid_argument");

    let plain = json!({"type": "bill.sent", "data": 1});
    for (path, media, body) in [
        ("", "application/json", &plain),
        ("", batched, &json!([event("4")])),
        ("/batch", structured, &event("5")),
    ] {
        let refused = post(path, media, body).await;
        let problem = refused.assert_problem(415);
        assert_eq!(problem["errors"][0]["field"], "content-type", "{media}");
    }
}

#[tokio::test]
async fn allow_names_the_methods_of_history_and_presence() {
    let server = Server::start(Config::rooms()).await;
    let token = service();
    let headers = [("Authorization", token.as_str())];
    for (part, allowed) in [("history", "GET,HEAD,DELETE"), ("presence", "GET,HEAD")] {
        let path = format!("/api/v1/channels/room:1/{part}");
        let refused = server.http(Method::PUT, &path, &headers, "").await;
        refused.assert_problem(405);
        assert_eq!(refused.header("allow"), allowed, "{part}");
        let options = server.http(Method::OPTIONS, &path, &headers, "").await;
        assert_eq!(options.header("allow"), allowed, "{part}");
    }
    let path = "/api/v1/channels/room:1/presence";
    let refused = server.http(Method::DELETE, path, &headers, "").await;
    refused.assert_problem(405);
    assert_eq!(refused.header("allow"), "GET,HEAD");
}

#[tokio::test]
async fn connections_are_listed_and_disconnected() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let admin = Token::new("root").roles(&["admin"]);
    let path = format!("/api/v1/connections/{}", ws.id());
    let list = server.get_as(&admin, "/api/v1/connections").await;
    assert!(list.text().contains(&ws.id()), "{list:?}");
    let one = server.get_as(&admin, &path).await;
    assert!(one.text().contains("alice"), "{one:?}");

    let token = format!("Bearer {}", admin.sign());
    let headers = [("Authorization", token.as_str())];
    let answer = server.http(Method::DELETE, &path, &headers, "").await;
    assert!(matches!(answer.status, 200 | 204), "{answer:?}");
    ws.expect_close(4410).await;
    crate::harness::eventually("the connection to be gone", async || {
        (server.get_as(&admin, &path).await.status == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn history_and_presence_are_read_by_get() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    server
        .publisher("service")
        .await
        .count("room:1", "count.up", 1..=3)
        .await;
    let admin = Token::new("root").roles(&["admin"]);
    let history = server
        .get_as(&admin, "/api/v1/channels/room:1/history")
        .await;
    assert_eq!(history.status, 200, "{history:?}");
    assert_eq!(
        history.json()["events"].as_array().map(Vec::len),
        Some(3),
        "{history:?}"
    );
    let presence = server
        .get_as(&admin, "/api/v1/channels/room:1/presence")
        .await;
    assert!(presence.text().contains("alice"), "{presence:?}");
    let channels = server.get_as(&admin, "/api/v1/channels").await;
    assert!(channels.text().contains("room:1"), "{channels:?}");
}

#[tokio::test]
async fn server_sent_events_resume_by_id() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    let first = service.publish("room:1", "a.b", json!({"n": 1})).await;
    let epoch = first.results[0].position.clone().unwrap().epoch;
    service.publish("room:1", "a.b", json!({"n": 2})).await;
    let token = format!("Bearer {}", Token::new("alice").sign());
    let last = format!("{epoch}/1");
    let headers = [("Authorization", token.as_str()), ("Last-Event-ID", &last)];
    let id = format!("id: {epoch}/2");
    let lines = server
        .lines_until("/sse?channel=room:1", &headers, &id)
        .await;
    assert!(
        lines.iter().all(|line| !line.contains("\"n\":1")),
        "what was seen does not come again: {lines:?}"
    );
}

#[tokio::test]
async fn legacy_paths_respond() {
    let server = Server::start(Config::rooms()).await;
    let admin = Token::new("root").roles(&["admin"]);
    for path in [
        "/api/v1/websocket/connections",
        "/api/v1/websocket/stats",
        "/websocket/clients",
        "/websocket/stats",
    ] {
        let answer = server.get_as(&admin, path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json();
    }
}

#[tokio::test]
async fn api_descriptions_are_json() {
    let server = Server::start(Config::rooms()).await;
    let admin = Token::new("root").roles(&["admin"]);
    let asyncapi = server.get_as(&admin, "/asyncapi.json").await.json();
    assert!(asyncapi["asyncapi"].is_string(), "{asyncapi}");
    let openapi = server.get_as(&admin, "/openapi.json").await.json();
    assert!(openapi["openapi"].is_string(), "{openapi}");
}
