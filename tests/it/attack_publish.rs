//! Attacks by publishers: on other publishers, and on events for other receivers.

use http::Method;
use serde_json::{Value, json};
use tidings::proto::{
    GetPresenceRequest, ListConnectionsRequest, PublishBatchRequest, PublishRequest,
};

use crate::harness::{Answer, Config, Server, Token, Ws, event, eventually, refused_fields};

const CLOUD_EVENT: &str = "application/cloudevents+json";

/// Posts JSON with a token.
async fn post(server: &Server, token: &Token, path: &str, kind: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {}", token.sign());
    let headers = [("Authorization", &*bearer), ("Content-Type", kind)];
    let body = body.to_string();
    server.http(Method::POST, path, &headers, &body).await
}

async fn publish(server: &Server, token: &Token, body: &Value) -> Answer {
    post(server, token, "/api/v1/events", "application/json", body).await
}

async fn publish_cloud_event(server: &Server, token: &Token, source: &str, id: &str) -> Answer {
    let body = json!({"specversion": "1.0", "type": "a.b", "source": source, "id": id,
        "subject": "room:1", "data": {"source": source, "id": id}});
    post(server, token, "/api/v1/events", CLOUD_EVENT, &body).await
}

fn service() -> Token {
    Token::new("shop").roles(&["service"])
}

fn with_key(n: u64, key: &str) -> PublishRequest {
    PublishRequest {
        idempotency_key: key.into(),
        ..event("room:1", "a.b", json!({ "n": n }))
    }
}

#[tokio::test]
async fn idempotency_keys_are_scoped_to_publisher() {
    let server = Server::start(Config::rooms()).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    alice.subscribe("room:1").await;
    let mut eve = server.ws().token("eve", &[]).connect().await;
    let junk = json!({"type": "publish", "channel": "room:1", "event_type": "a.b",
        "data": {"n": 666}, "idempotency_key": "order-1001"});
    eve.ask(junk).await;
    let other = json!({"channels": ["room:1"], "type": "a.b", "data": {"n": 667},
        "idempotency_key": "order-1001"});
    let shop_user = Token::new("shop");
    assert_eq!(publish(&server, &shop_user, &other).await.status, 200);

    let mut shop = server.publisher_as(&service()).await;
    let real = shop.send(with_key(1, "order-1001")).await;
    assert!(!real.results[0].duplicate);
    let again = shop.send(with_key(2, "order-1001")).await;
    assert!(again.results[0].duplicate, "the service's own repeat");
    assert_eq!(alice.numbers("a.b", 3).await, [666, 667, 1]);
}

#[tokio::test]
async fn distinct_cloud_events_are_not_merged() {
    let server = Server::start(Config::rooms()).await;
    for (source, id) in [("a b", "c"), ("a", "b c"), ("a b ", "c"), ("a ", "b c")] {
        let answer = publish_cloud_event(&server, &service(), source, id).await;
        let answer = answer.json();
        assert_eq!(answer["results"][0]["duplicate"], false, "{source}|{id}");
    }
    let again = publish_cloud_event(&server, &service(), "a", "b c").await;
    assert_eq!(again.json()["results"][0]["duplicate"], true);
}

#[tokio::test]
async fn idempotency_table_flood_affects_only_its_user() {
    let config = Config::rooms()
        .set("limits.idempotency_keys", "100")
        .set("limits.idempotency_keys_per_publisher", "5");
    let server = Server::start(config).await;
    let eve = Token::new("eve");
    let mut refusals = 0;
    for n in 0..8 {
        let answer = publish_cloud_event(&server, &eve, "/junk", &n.to_string()).await;
        if answer.status == 429 {
            let problem = answer.assert_problem(429);
            let reported = problem["detail"].as_str().unwrap();
            let key = "limits.idempotency_keys_per_publisher";
            assert!(reported.contains(key), "{reported}");
            assert!(!answer.header("retry-after").is_empty());
            refusals += 1;
        }
    }
    assert_eq!(refusals, 3);
    let mut shop = server.publisher_as(&service()).await;
    for n in 0..5 {
        let answer = shop.send(with_key(n, &format!("order-{n}"))).await;
        assert!(!answer.results[0].duplicate);
    }
    assert_eq!(server.metric("tidings_idempotency_keys").await, 10);
    let series = "tidings_limit_reached_total{limit=\"idempotency_keys_per_publisher\"}";
    assert_eq!(server.metric(series).await, 3);
}

#[tokio::test]
async fn invented_types_do_not_displace_declared_labels() {
    let config = Config::rooms().set("limits.messages_per_second", "0");
    let first = config.clone().event_type("order.paid", "");
    let server = Server::start(first.clone()).await;
    let mut eve = server.ws().token("eve", &[]).connect().await;
    for n in 0..1200 {
        let junk = json!({"type": "publish", "channel": "plain:1", "event_type": format!("x{n}"),
            "data": 1});
        eve.send(junk).await;
    }
    for _ in 0..1200 {
        eve.expect("published").await;
    }
    let mut shop = server.publisher_as(&service()).await;
    shop.publish("room:1", "order.paid", json!({})).await;
    let series = |name: &str| format!("tidings_events_published_total{{type=\"{name}\"}}");
    assert_eq!(server.metric(&series("order.paid")).await, 1);
    assert_eq!(server.metric(&series("other")).await, 200);
    // A type that is declared later gets its own label too.
    server.reload(&first.event_type("order.sent", ""));
    eventually("the reload", async || {
        let taken = "tidings_reloads_total{outcome=\"taken\"}";
        (server.metric(taken).await == 1).then_some(())
    })
    .await;
    shop.publish("room:1", "order.sent", json!({})).await;
    assert_eq!(server.metric(&series("order.sent")).await, 1);
}

#[tokio::test]
async fn only_services_may_set_source() {
    let server = Server::start(Config::rooms()).await;
    let ws = server.ws().token("alice", &[]);
    let mut alice = ws.protocol("cloudevents.json").connect().await;
    alice.subscribe("room:1").await;
    let eve = Token::new("eve");
    let body =
        |source: &str| json!({"channels": ["room:1"], "type": "a.b", "data": 1, "source": source});
    let problem = publish(&server, &eve, &body("bank")).await;
    let problem = problem.assert_problem(403);
    assert_eq!(problem["errors"][0]["field"], "source", "{problem}");
    let named = PublishRequest {
        source: "bank".into(),
        ..event("room:1", "a.b", json!(1))
    };
    let mut of_eve = server.publisher_as(&eve).await;
    let refused = of_eve.try_send(named).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    assert_eq!(refused_fields(&refused), ["source"]);
    let mut page = server.ws().token("eve", &[]).connect().await;
    let message = json!({"type": "publish", "channel": "room:1", "event_type": "a.b", "data": 1,
        "source": "bank"});
    let refused = page.refused(message, "invalid_argument").await;
    assert!(refused["message"].as_str().unwrap().starts_with("source: "));

    assert_eq!(publish(&server, &eve, &body("eve")).await.status, 200);
    let answer = publish_cloud_event(&server, &eve, "/bank", "1").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = publish_cloud_event(&server, &service(), "/bank", "1").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(alice.expect("a.b").await["source"], "eve");
    let claimed = alice.expect("a.b").await;
    assert_eq!(
        (&claimed["source"], &claimed["claimedsource"]),
        (&json!("eve"), &json!("/bank"))
    );
    let real = alice.expect("a.b").await;
    assert_eq!(
        (&real["source"], &real["claimedsource"]),
        (&json!("/bank"), &Value::Null)
    );
}

/// A server with an anonymous page, Ann's page and an operator's, and what each of them receives.
struct Hall {
    server: Server,
    anyone: Ws,
    ann: Ws,
    ops: Ws,
}

impl Hall {
    async fn open() -> Self {
        let config = Config::rooms()
            .set("auth.required", "false")
            .auto_subscribe(&["global"]);
        let server = Server::start(config).await;
        let anyone = server.ws().connect().await;
        let ann = server.ws().token("ann", &[]).connect().await;
        let ops = server.ws().token("olga", &["ops"]).connect().await;
        Hall {
            server,
            anyone,
            ann,
            ops,
        }
    }

    async fn broadcast(&self, path: &str, body: &Value) -> Answer {
        let admin = Token::new("root").roles(&["admin"]);
        post(&self.server, &admin, path, "application/json", body).await
    }

    /// Who has received something: the anonymous page, Ann, the operator.
    async fn received(&mut self) -> [bool; 3] {
        let fence = json!({"type": "fence", "data": {}});
        let answer = self.broadcast("/websocket/broadcast", &fence).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let mut received = [false; 3];
        for (at, ws) in [&mut self.anyone, &mut self.ann, &mut self.ops]
            .into_iter()
            .enumerate()
        {
            received[at] = ws
                .until("fence")
                .await
                .iter()
                .any(|e| e["type"] == "secret");
        }
        received
    }
}

#[tokio::test]
async fn addressed_broadcast_never_reaches_everybody() {
    let mut hall = Hall::open().await;
    let (ann, ops) = ([false, true, false], [false, false, true]);
    let targets = [
        (json!({"user": "ann"}), ann),
        (json!({"users": ["ann"]}), ann),
        (json!({"user_id": "ann"}), ann),
        (json!({"target_user": "ann"}), ann),
        (json!({"target_users": ["ann"]}), ann),
        (json!({"audience": {"users": ["ann"]}}), ann),
        (json!({"role": "ops"}), ops),
        (json!({"roles": ["ops"]}), ops),
        (json!({"required_roles": ["ops"]}), ops),
    ];
    for (target, expected) in targets {
        for (path, form) in [
            (
                "/api/v1/websocket/broadcast",
                json!({"type": "secret", "data": {"n": 1}}),
            ),
            (
                "/websocket/broadcast",
                json!({"type": "secret", "data": {"n": 1}}),
            ),
            ("/websocket/broadcast", json!({"type": "secret", "n": 1})),
        ] {
            let mut body = form;
            body.as_object_mut()
                .unwrap()
                .extend(target.as_object().unwrap().clone());
            let answer = hall.broadcast(path, &body).await;
            assert_eq!(answer.status, 200, "{body} {answer:?}");
            assert_eq!(answer.json()["recipients"], 1, "{body} {answer:?}");
            assert_eq!(hall.received().await, expected, "{path} {body}");
        }
    }
}

#[tokio::test]
async fn unsupported_broadcast_member_is_refused_by_name() {
    let mut hall = Hall::open().await;
    for (name, value) in [
        ("users", json!([])),
        ("user", json!("")),
        ("recipients", json!(["ann"])),
        ("targetUsers", json!(["ann"])),
        ("connection_ids", json!(["x"])),
        ("audience", json!({"user": "ann"})),
        ("audience", json!({})),
    ] {
        for mut body in [
            json!({"type": "secret", "data": {"n": 1}}),
            json!({"type": "secret", "n": 1}),
        ] {
            body[name] = value.clone();
            let answer = hall.broadcast("/websocket/broadcast", &body).await;
            let problem = answer.assert_problem(400);
            assert_eq!(problem["errors"][0]["field"], name, "{body} {problem}");
        }
    }
    let unknown = json!({"type": "secret", "data": {"n": 1}, "rooom": "ops"});
    let answer = hall
        .broadcast("/api/v1/websocket/broadcast", &unknown)
        .await;
    let problem = answer.assert_problem(400);
    assert_eq!(problem["errors"][0]["field"], "rooom", "{problem}");
    assert_eq!(hall.received().await, [false; 3]);
}

#[tokio::test]
async fn audience_is_applied_or_refused_on_all_transports() {
    let server = Server::start(Config::rooms()).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    alice.subscribe("room:1").await;
    for (name, value) in [
        ("audience", json!({"users": ["bob"]})),
        ("users", json!(["bob"])),
    ] {
        let mut message =
            json!({"type": "publish", "channel": "room:1", "event_type": "a.b", "data": 1});
        message[name] = value;
        let refused = alice.refused(message, "invalid_argument").await;
        let reported = refused["message"].as_str().unwrap();
        assert!(reported.starts_with(&format!("{name}: ")), "{reported}");
    }
    let cloud_event = json!({"specversion": "1.0", "type": "a.b", "source": "/s", "id": "1",
        "subject": "room:1", "audience": "bob"});
    let refused = post(
        &server,
        &service(),
        "/api/v1/events",
        CLOUD_EVENT,
        &cloud_event,
    )
    .await;
    let problem = refused.assert_problem(400);
    assert_eq!(problem["errors"][0]["field"], "audience", "{problem}");
    // An empty list of users does not mean everybody.
    let nobody = json!({"channels": ["room:1"], "type": "a.b", "data": 1,
        "audience": {"users": []}});
    let problem = publish(&server, &service(), &nobody).await;
    let problem = problem.assert_problem(400);
    assert_eq!(problem["errors"][0]["field"], "audience", "{problem}");
    let mut shop = server.publisher_as(&service()).await;
    shop.publish("room:1", "fence", json!({})).await;
    assert_eq!(alice.until("fence").await.len(), 0);
}

#[tokio::test]
async fn batch_with_oversized_response_publishes_nothing() {
    let server = Server::start(Config::rooms()).await;
    let name = |n: usize| format!("plain:{n:0>200}");
    let request = PublishRequest {
        channels: (0..100).map(name).collect(),
        ..event("plain:1", "big.batch", json!(1))
    };
    let mut shop = server.publisher_as(&service()).await;
    let batch = |count: usize| PublishBatchRequest {
        requests: vec![request.clone(); count],
    };
    let refused = shop.events.publish_batch(batch(200)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
    assert_eq!(refused_fields(&refused), ["requests"]);
    let series = "tidings_events_published_total{type=\"big.batch\"}";
    assert_eq!(server.metric(series).await, 0);
    // Entries that fit are answered.
    let answer = shop.events.publish_batch(batch(100)).await.unwrap();
    assert_eq!(answer.into_inner().responses.len(), 100);
    assert_eq!(server.metric(series).await, 10_000);
}

#[tokio::test]
async fn many_batch_errors_fit_response() {
    let schema = r#"
        namespace = "room"
        schema = '''{"type": "object", "required": ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"],
            "additionalProperties": {"type": "array", "minItems": 5}}'''
    "#;
    let config = Config::rooms()
        .set("catalog.mode", r#""strict""#)
        .event_type("strict.one", schema);
    let server = Server::start(config).await;
    let wrong: serde_json::Map<String, Value> = (0..8)
        .map(|n| (format!("{n}{}", "p".repeat(400)), json!(1)))
        .collect();
    let request = event("room:1", "strict.one", Value::Object(wrong));
    let mut shop = server.publisher_as(&service()).await;
    let batch = PublishBatchRequest {
        requests: vec![request; 1000],
    };
    let answer = shop.events.publish_batch(batch).await.unwrap().into_inner();
    let last = answer.responses[999].error.as_ref().unwrap();
    assert!(
        last.message.starts_with("requests[999].data: "),
        "{}",
        last.message
    );
}

#[tokio::test]
async fn connection_pages_are_limited_in_size() {
    let config = Config::rooms()
        .set("limits.subscriptions_per_connection", "1000")
        .set("limits.message_bytes", "1048576")
        .set("limits.messages_per_second", "0");
    let server = Server::start(config).await;
    let channels: Vec<String> = (0..1000).map(|n| format!("plain:{n:0>240}")).collect();
    let mut open = Vec::new();
    for _ in 0..12 {
        let mut ws = server.ws().token("eve", &[]).connect().await;
        ws.ask(json!({"type": "subscribe", "channels": channels}))
            .await;
        open.push(ws);
    }
    let mut admin = server.admin().await;
    let (mut ids, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = ListConnectionsRequest {
            page_size: 1000,
            page_token: token,
            ..ListConnectionsRequest::default()
        };
        // The client's limit is gRPC's default: 4 MiB.
        let page = admin.list_connections(request).await.unwrap().into_inner();
        ids.extend(page.connections.into_iter().map(|connection| connection.id));
        pages += 1;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), pages), (12, 2));
    let root = Token::new("root").roles(&["admin"]);
    for path in ["/api/v1/connections", "/websocket/clients"] {
        let page = server
            .get_as(&root, &format!("{path}?page_size=1000"))
            .await;
        assert!(page.body.len() <= 3 << 20, "{path}: {}", page.body.len());
        assert_ne!(page.json()["next_page_token"], "");
    }
    let one = server
        .get_as(&root, &format!("/api/v1/connections/{}", ids[0]))
        .await;
    assert_eq!(one.json()["subscription_count"], 1000);
}

#[tokio::test]
async fn presence_requires_same_role_on_grpc_and_http() {
    let server = Server::start(Config::rooms()).await;
    let path = "/api/v1/channels/room:1/presence";
    for (roles, allowed) in [
        (&[][..], false),
        (&["editor"][..], false),
        (&["service"][..], true),
        (&["admin"][..], true),
    ] {
        let token = Token::new("caller").roles(roles);
        let status = server.get_as(&token, path).await.status;
        assert_eq!(status, if allowed { 200 } else { 403 }, "{roles:?}");
        let mut calls = server.connections_as(Some(&token)).await;
        let request = GetPresenceRequest {
            channel: "room:1".into(),
        };
        let answer = calls.get_presence(request).await;
        assert_eq!(answer.is_ok(), allowed, "{roles:?} {answer:?}");
    }
}

#[tokio::test]
async fn unknown_parameter_is_refused_by_name() {
    let server = Server::start(Config::rooms()).await;
    let admin = Token::new("root").roles(&["admin"]);
    for path in [
        "/api/v1/stats",
        "/api/v1/connections",
        "/api/v1/channels",
        "/api/v1/channels/room:1/history",
        "/api/v1/channels/room:1/presence",
        "/api/v1/catalog",
        "/api/v1/websocket/connections",
        "/api/v1/websocket/stats",
        "/websocket/clients",
        "/websocket/stats",
        "/openapi.json",
        "/asyncapi.json",
    ] {
        let answer = server.get_as(&admin, &format!("{path}?lmit=5")).await;
        let problem = answer.assert_problem(400);
        assert_eq!(problem["errors"][0]["field"], "lmit", "{path} {problem}");
        let answer = server
            .get_as(&admin, &format!("{path}?access_token=x"))
            .await;
        assert_eq!(answer.status, 200, "{path} {answer:?}");
    }
    server.get("/api/v1/stats?lmit=5").await.assert_problem(401);
    let event = json!({"channels": ["room:1"], "type": "a.b", "data": 1});
    let path = "/api/v1/events?channel=room:2";
    let answer = post(&server, &admin, path, "application/json", &event).await;
    let problem = answer.assert_problem(400);
    assert_eq!(problem["errors"][0]["field"], "channel", "{problem}");
    let answer = server.get_as(&admin, "/sse?channel=room:1&filters=x").await;
    let problem = answer.assert_problem(400);
    assert_eq!(problem["errors"][0]["field"], "filters", "{problem}");
}
