//! The HTTP API in detail: fields, refusals, CloudEvents, and the legacy paths.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Config, Server, Token, eventually};

/// A caller with one role.
struct Caller<'a> {
    server: &'a Server,
    token: String,
}

impl<'a> Caller<'a> {
    fn new(server: &'a Server, role: &str) -> Self {
        let token = format!("Bearer {}", Token::new("caller").roles(&[role]).sign());
        Caller { server, token }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: &str,
    ) -> crate::harness::Answer {
        let headers = [
            ("Authorization", self.token.as_str()),
            ("Content-Type", kind),
        ];
        self.server.http(method, path, &headers, body).await
    }

    async fn get(&self, path: &str) -> crate::harness::Answer {
        self.send(Method::GET, path, "application/json", "").await
    }

    async fn post(&self, path: &str, body: &Value) -> crate::harness::Answer {
        let body = body.to_string();
        self.send(Method::POST, path, "application/json", &body)
            .await
    }

    async fn publish(&self, channel: &str, data: Value) -> Value {
        let body = json!({ "channels": [channel], "type": "a.b", "data": data });
        let answer = self.post("/api/v1/events", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }
}

#[tokio::test]
async fn wrong_method_returns_allow_header() {
    let server = Server::start(Config::rooms()).await;
    let admin = Caller::new(&server, "admin");
    let answer = admin
        .send(Method::PUT, "/api/v1/connections/x", "text/plain", "")
        .await;
    answer.assert_problem(405);
    let allowed = answer.header("allow");
    assert!(
        allowed.contains("GET") && allowed.contains("DELETE"),
        "{allowed}"
    );
    let head = admin
        .send(Method::HEAD, "/api/v1/stats", "text/plain", "")
        .await;
    assert_eq!((head.status, head.body.len()), (200, 0), "{head:?}");
}

#[tokio::test]
async fn invalid_parameters_are_named() {
    let server = Server::start(Config::rooms()).await;
    let admin = Caller::new(&server, "admin");
    for (path, field) in [
        ("/api/v1/connections?page_size=many", "page_size"),
        ("/api/v1/connections?page_size=1001", "page_size"),
        ("/api/v1/connections?page_token=x", "page_token"),
        ("/api/v1/connections?transport=pigeon", "transport"),
        ("/api/v1/connections?channel=a%20b", "channel"),
        ("/api/v1/connections?user=%ff", "user"),
        ("/api/v1/channels/room:1/history?limit=0", "limit"),
        ("/api/v1/channels/room:1/history?since=x", "since"),
        ("/api/v1/channels/room:1/history?reverse=2", "reverse"),
        ("/api/v1/channels/a%20b/history", "channel"),
    ] {
        let problem = admin.get(path).await.assert_problem(400);
        assert_eq!(problem["code"], "invalid_argument", "{path}");
        assert_eq!(problem["errors"][0]["field"], field, "{path}: {problem}");
    }
    // A second value, or a name without one, must not be ignored.
    for (path, field) in [
        ("/api/v1/connections?user=ann&user=bob", "user"),
        ("/api/v1/connections?user=a%0Ab", "user"),
        ("/api/v1/connections?user=a%C2%9Bb&revoke=true", "user"),
        (
            "/api/v1/connections?user=ann&revoke=false&revoke=true",
            "revoke",
        ),
    ] {
        let answer = admin
            .send(Method::DELETE, path, "application/json", "")
            .await;
        let problem = answer.assert_problem(400);
        assert_eq!(problem["errors"][0]["field"], field, "{path}: {problem}");
    }
    for (user, flag) in [("ann", "revoke"), ("bob", "revoke=")] {
        let token = format!("Bearer {}", Token::new(user).sign());
        let path = format!("/api/v1/connections?user={user}&{flag}");
        let ended = admin.send(Method::DELETE, &path, "application/json", "");
        assert_eq!(ended.await.status, 200);
        let headers = [("Authorization", token.as_str())];
        let answer = server.http(Method::HEAD, "/sse?channel=room:1", &headers, "");
        assert_eq!(answer.await.status, 401, "{flag} revokes");
    }
    for path in ["/api/v1/channels/%zz/history", "/api/v1/connections/%ff"] {
        admin.get(path).await.assert_problem(400);
    }
    let unknown = admin.get("/api/v1/connections?nonsense=1").await;
    let problem = unknown.assert_problem(400);
    assert_eq!(problem["errors"][0]["field"], "nonsense", "{problem}");
    for path in [
        "/api/v1/connections/x",
        "/api/v1/catalog/no.such",
        "/api/v1/channels/a/b",
    ] {
        admin.get(path).await.assert_problem(404);
    }
    let none = admin.get("/api/v1/channels/plain:1/history").await;
    assert_eq!(none.assert_problem(400)["code"], "failed_precondition");
}

#[tokio::test]
async fn encoded_body_is_refused() {
    let server = Server::start(Config::rooms()).await;
    let service = Caller::new(&server, "service");
    for coding in ["gzip", "br", "identity, gzip"] {
        let headers = [
            ("Authorization", service.token.as_str()),
            ("Content-Type", "application/octet-stream"),
            ("Content-Encoding", coding),
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "s"),
            ("ce-type", "a.b"),
            ("ce-channel", "room:1"),
        ];
        let answer = server
            .http(Method::POST, "/api/v1/events", &headers, "x")
            .await;
        let problem = answer.assert_problem(415);
        assert_eq!(
            problem["errors"][0]["field"], "content-encoding",
            "{problem}"
        );
        assert_eq!(answer.header("accept-encoding"), "identity");
        let mut plain = headers;
        plain[2].1 = "identity";
        let answer = server
            .http(Method::POST, "/api/v1/events", &plain, "x")
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn refused_publish_explains_why() {
    let server = Server::start(Config::rooms().set("limits.event_bytes", "1024")).await;
    let service = Caller::new(&server, "service");
    let path = "/api/v1/events";
    let misspelt = json!({ "channel": "room:1", "type": "a.b", "data": 1 });
    let problem = service.post(path, &misspelt).await.assert_problem(400);
    assert_eq!(problem["errors"][0]["field"], "channel");
    let form = service
        .send(
            Method::POST,
            path,
            "application/x-www-form-urlencoded",
            "a=b",
        )
        .await;
    form.assert_problem(415);
    let large = json!({ "channels": ["room:1"], "type": "a.b", "data": "x".repeat(2000) });
    let problem = service.post(path, &large).await.assert_problem(413);
    assert_eq!(problem["errors"][0]["field"], "data");
    let larger = "x".repeat(200_000);
    let answer = service
        .send(Method::POST, path, "application/json", &larger)
        .await;
    answer.assert_problem(413);
    let viewer = Caller::new(&server, "editor");
    let closed = json!({ "channels": ["project:1"], "type": "a.b", "data": 1 });
    viewer.post(path, &closed).await.assert_problem(403);
    let stats = Caller::new(&server, "admin").get("/api/v1/stats").await;
    let errors = &stats.json()["errors"];
    assert_eq!(errors["permission_denied"], 1, "{errors}");
    assert_eq!(errors["invalid_argument"], 4, "{errors}");
}

#[tokio::test]
async fn all_fields_of_publish_arrive() {
    let server = Server::start(Config::rooms()).await;
    let service = Caller::new(&server, "service");
    let mut alice = server.ws().token("alice", &[]).connect().await;
    let mut bob = server.ws().token("bob", &[]).connect().await;
    alice.subscribe("room:1").await;
    bob.subscribe("room:1").await;
    let body = json!({
        "channels": ["room:1", "plain:1"], "type": "a.b", "data_base64": "AAH/",
        "content_type": "image/png", "headers": {"h": "v"}, "idempotency_key": "once",
        "audience": {"users": ["alice"]}, "time": "2026-01-02T03:04:05.678Z",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    });
    let first = service.post("/api/v1/events", &body).await.json();
    assert_eq!(first["results"][0]["offset"], 1, "{first}");
    assert!(first["results"][1].get("offset").is_none(), "{first}");
    let event = alice.expect_event("a.b").await;
    assert_eq!(event["data_base64"], "AAH/");
    assert_eq!(event["timestamp"], "2026-01-02T03:04:05.678Z");
    let trace = event["traceparent"].as_str().unwrap();
    assert!(
        trace.contains("0af7651916cd43dd8448eb211c80319c"),
        "{event}"
    );
    let again = service.post("/api/v1/events", &body).await.json();
    assert_eq!(again["id"], first["id"]);
    assert_eq!(again["results"][0]["duplicate"], true);
    service.publish("room:1", json!("for all")).await;
    assert_eq!(bob.expect_event("a.b").await["data"], "for all");
}

#[tokio::test]
async fn cloud_event_batch_has_individual_results() {
    let server = Server::start(Config::rooms()).await;
    let service = Caller::new(&server, "service");
    let event = |id: &str, channel: &str| {
        json!({
            "specversion": "1.0", "id": id, "source": "/s", "type": "a.b",
            "channel": channel, "retries": 2, "data": {"id": id},
        })
    };
    let body = json!([
        event("1", "room:1"),
        event("2", "a b"),
        event("1", "room:1")
    ])
    .to_string();
    let kind = "application/cloudevents-batch+json; charset=utf-8";
    let answer = service
        .send(Method::POST, "/api/v1/events", kind, &body)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    assert_eq!(answer[0]["results"][0]["offset"], 1, "{answer}");
    assert_eq!(answer[1]["error"]["code"], "invalid_argument");
    assert_eq!(answer[1]["error"]["details"]["field"], "channel");
    assert_eq!(answer[2]["results"][0]["duplicate"], true);
    let history = service.get("/api/v1/channels/room:1/history").await.json();
    assert_eq!(history["events"][0]["headers"], json!({"retries": "2"}));
}

#[tokio::test]
async fn history_is_paged() {
    let server = Server::start(Config::rooms()).await;
    let service = Caller::new(&server, "service");
    for n in 1..=5 {
        service.publish("room:a/b", json!(n)).await;
    }
    let numbers = |page: &Value| {
        let events = page["events"].as_array().unwrap().iter();
        events
            .map(|e| e["data"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    let path = "/api/v1/channels/room:a/b/history?limit=2";
    let first = service.get(path).await.json();
    assert_eq!(numbers(&first), [1, 2]);
    assert_eq!(first["offset"], 5);
    let next = first["next_since"].as_str().unwrap();
    let path = "/api/v1/channels/room%3Aa%2Fb/history?since=";
    let rest = service.get(&format!("{path}{next}")).await.json();
    assert_eq!(numbers(&rest), [3, 4, 5]);
    assert!(rest.get("next_since").is_none());
    let path = "/api/v1/channels/room:a/b/history?reverse=true&limit=2";
    assert_eq!(numbers(&service.get(path).await.json()), [5, 4]);
    let old = "/api/v1/channels/room:a/b/history?since=0000000000000001/2";
    let problem = service.get(old).await.assert_problem(400);
    assert_eq!(problem["code"], "out_of_range");
}

#[tokio::test]
async fn connections_and_channels_are_paged() {
    let server = Server::start(Config::rooms()).await;
    let admin = Caller::new(&server, "admin");
    let mut clients = Vec::new();
    for n in 0..3 {
        let mut ws = server.ws().token("alice", &["x"]).connect().await;
        ws.subscribe(&format!("room:{n}")).await;
        clients.push(ws);
    }
    let mut ids = Vec::new();
    let mut token = String::new();
    loop {
        let path = format!("/api/v1/connections?page_size=2&user=alice&page_token={token}");
        let page = admin.get(&path).await.json();
        let found = page["connections"].as_array().unwrap();
        ids.extend(found.iter().map(|c| c["id"].as_str().unwrap().to_owned()));
        token = page["next_page_token"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
    }
    let mut expected: Vec<String> = clients.iter().map(crate::harness::Ws::id).collect();
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected);
    let one = admin.get("/api/v1/connections?channel=room:1").await.json();
    assert_eq!(one["connections"][0]["roles"], json!(["x"]), "{one}");
    let path = "/api/v1/channels?prefix=room:&page_size=2";
    let page = admin.get(path).await.json();
    assert_eq!(page["channels"][1]["channel"], "room:1", "{page}");
    assert_eq!(page["channels"][1]["subscribers"], 1);
    let token = page["next_page_token"].as_str().unwrap();
    let page = admin
        .get(&format!("{path}&page_token={token}"))
        .await
        .json();
    assert_eq!(page["channels"][0]["channel"], "room:2", "{page}");
    assert_eq!(page["next_page_token"], "");
    let service = Caller::new(&server, "service");
    for path in ["/api/v1/connections", "/api/v1/stats", "/api/v1/channels"] {
        service.get(path).await.assert_problem(403);
    }
}

#[tokio::test]
async fn legacy_http_paths_keep_working() {
    let server = Server::start(Config::rooms()).await;
    let admin = Caller::new(&server, "admin");
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.ask(json!({"type": "register", "client_type": "gui", "client_name": "Desk"}))
        .await;
    ws.subscribe("room:1").await;
    let clients = admin.get("/websocket/clients").await.json();
    let client = &clients["clients"][0];
    assert_eq!(
        (&client["type"], &client["name"]),
        (&json!("gui"), &json!("Desk"))
    );
    assert!(
        client["subscriptions"]
            .as_array()
            .unwrap()
            .contains(&json!("room:1"))
    );
    assert!(client["connected_at"].is_string());
    let stats = admin.get("/websocket/stats").await.json();
    assert_eq!(stats["clients_by_type"]["gui"], 1, "{stats}");
    assert_eq!(stats["subscriptions_per_channel"]["room:1"], 1);

    let flat = json!({"type": "job_progress", "channel": "room:1", "progress": 50});
    let answer = admin.post("/websocket/broadcast", &flat).await;
    assert_eq!(answer.json()["recipients"], 1, "{answer:?}");
    assert_eq!(
        ws.expect_event("job_progress").await["data"],
        json!({"progress": 50})
    );
    let named = json!({"type": "user_notification", "user": "alice", "data": {"m": "hi"}});
    admin.post("/api/v1/websocket/broadcast", &named).await;
    assert_eq!(
        ws.expect_event("user_notification").await["data"]["m"],
        "hi"
    );
    let everyone = json!({"type": "system_alert", "data": {}});
    admin.post("/api/v1/websocket/broadcast", &everyone).await;
    ws.expect_event("system_alert").await;
    let viewer = Caller::new(&server, "editor");
    let refused = viewer.post("/websocket/broadcast", &everyone).await;
    refused.assert_problem(403);

    let path = format!("/websocket/disconnect/{}", ws.id());
    assert_eq!(admin.post(&path, &json!({})).await.json()["success"], true);
    ws.expect_close(4410).await;
    eventually("the client to be gone", async || {
        let again = admin.post(&path, &json!({})).await;
        (again.status == 404).then_some(())
    })
    .await;
}

/// The `Access-Control-Allow-Origin` of a response. Empty if there is none.
async fn allowed_to_ask(server: &Server, origin: &str) -> String {
    let headers = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "POST"),
        (
            "Access-Control-Request-Headers",
            "authorization,last-event-id",
        ),
    ];
    let path = "/api/v1/events";
    let answer = server.http(Method::OPTIONS, path, &headers, "").await;
    let headers = answer.header("access-control-allow-headers");
    assert!(headers.contains("last-event-id"), "{headers}");
    answer.header("access-control-allow-origin").to_owned()
}

const APP: &str = "https://app.example.com";
const OTHER: &str = "https://other.example.com";

#[tokio::test]
async fn preflight_from_allowed_origin_succeeds() {
    let allowed = format!("[{APP:?}]");
    let server = Server::start(Config::rooms().set("public.allowed_origins", &allowed)).await;
    assert_eq!(allowed_to_ask(&server, APP).await, APP);
    assert_eq!(allowed_to_ask(&server, OTHER).await, "");
}

#[tokio::test]
async fn sighup_updates_allowed_origins() {
    let allow =
        |origin: &str| Config::rooms().set("public.allowed_origins", &format!("[{origin:?}]"));
    let server = Server::start(allow(APP)).await;
    server.reload(&allow(OTHER));
    eventually("the other origin to be allowed", async || {
        (allowed_to_ask(&server, OTHER).await == OTHER).then_some(())
    })
    .await;
    assert_eq!(allowed_to_ask(&server, APP).await, "");
    let token = format!("Bearer {}", Token::new("alice").sign());
    let headers = [("Authorization", token.as_str()), ("Origin", APP)];
    let follow = "/sse?channel=room:1";
    let refused = server.http(Method::HEAD, follow, &headers, "").await;
    assert_eq!(refused.status, 403, "{refused:?}");
    let headers = [("Authorization", token.as_str()), ("Origin", OTHER)];
    let followed = server.http(Method::HEAD, follow, &headers, "").await;
    assert_eq!(followed.status, 200, "{followed:?}");
}
