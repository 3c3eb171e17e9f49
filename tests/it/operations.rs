//! What operators look at: the server, its history, its refusals, why a rule answers, orders of lists.

use http::Method;
use serde_json::{Value, json};
use tidings::proto::{
    DisconnectRequest, ExplainRequest, GetConnectionRequest, GetServerInfoRequest,
    GetStatsHistoryRequest, ListChannelsRequest, ListConnectionsRequest, WatchRefusalsRequest,
    disconnect_request, explain_request::Subject,
};
use tonic::Code;

use crate::harness::{Config, Server, Token, eventually, within};

fn viewer() -> Token {
    Token::new("vera").roles(&["viewer"])
}

fn bearer(token: &Token) -> String {
    format!("Bearer {}", token.sign())
}

async fn post(server: &Server, token: &Token, path: &str, body: &Value) -> (u16, Value) {
    let token = bearer(token);
    let headers = [
        ("Authorization", token.as_str()),
        ("Content-Type", "application/json"),
    ];
    let answer = server
        .http(Method::POST, path, &headers, &body.to_string())
        .await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn viewer_sees_everything_and_changes_nothing() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:1").await;
    for path in [
        "/api/v1/stats",
        "/api/v1/stats/history",
        "/api/v1/server",
        "/api/v1/refusals",
        "/api/v1/connections",
        "/api/v1/channels",
        "/api/v1/channels/room:1/history",
        "/api/v1/channels/room:1/presence",
        "/api/v1/catalog",
    ] {
        assert_eq!(server.get_as(&viewer(), path).await.status, 200, "{path}");
        let editor = Token::new("ed").roles(&["editor"]);
        server.get_as(&editor, path).await.assert_problem(403);
    }
    // The rule of `project` refuses this user, and the one of `room` lets everyone publish.
    let mut tail = server.ws().token("vera", &["viewer"]).connect().await;
    tail.subscribe("project:42").await;
    let event = json!({"channels": ["room:1"], "type": "a.b", "data": 1});
    let (status, problem) = post(&server, &viewer(), "/api/v1/events", &event).await;
    assert_eq!(
        (status, &problem["code"]),
        (403, &json!("permission_denied")),
        "{problem}"
    );
    let token = bearer(&viewer());
    let ended = format!("/api/v1/connections/{}", ws.id());
    let headers = [("Authorization", token.as_str())];
    let answer = server.http(Method::DELETE, &ended, &headers, "").await;
    answer.assert_problem(403);
    let mut calls = server.connections_as(Some(&viewer())).await;
    let refused = calls
        .disconnect(DisconnectRequest {
            target: Some(disconnect_request::Target::User("alice".into())),
            ..DisconnectRequest::default()
        })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let seen = calls
        .get_connection(GetConnectionRequest {
            connection_id: ws.id(),
        })
        .await;
    assert_eq!(seen.unwrap().into_inner().connection.unwrap().user, "alice");
}

#[tokio::test]
async fn connection_details_name_the_client_and_its_filters_but_no_claim_s_value() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &["editor"]).connect().await;
    ws.ask(json!({
        "type": "subscribe", "channels": ["room:1"],
        "event_types": ["a.*"], "filter": "data.n > 3",
    }))
    .await;
    let path = format!("/api/v1/connections/{}", ws.id());
    let answer = server.get_as(&viewer(), &path).await.json();
    assert_eq!(answer["dialect"], "tidings", "{answer}");
    assert!(answer["messages_in"].as_u64().unwrap() >= 1, "{answer}");
    assert_eq!(answer["rate_limited"], 0);
    assert!(answer["token_expires_at"].is_string());
    let claims = answer["claims"].as_array().unwrap();
    assert!(
        claims.contains(&json!("sub")) && claims.contains(&json!("roles")),
        "{answer}"
    );
    let subscriptions = answer["subscriptions"].as_array().unwrap();
    let room = subscriptions
        .iter()
        .find(|s| s["channel"] == "room:1")
        .unwrap();
    assert_eq!(room["filter"], "data.n > 3");
    assert_eq!(room["event_types"], json!(["a.*"]));
    assert_eq!(room["live"], true);
}

#[tokio::test]
async fn connections_come_in_the_order_asked_for_page_by_page() {
    let server = Server::start(Config::rooms()).await;
    let mut clients = Vec::new();
    for n in 0..7 {
        let mut ws = server.ws().token(&format!("user{n}"), &[]).connect().await;
        for _ in 0..n {
            ws.ask(json!({"type": "ping", "padding": "x".repeat(2000)}))
                .await;
        }
        clients.push(ws);
    }
    let mut calls = server.connections_as(Some(&viewer())).await;
    for (desc, expected) in [
        (true, [6, 5, 4, 3, 2, 1, 0]),
        (false, [0, 1, 2, 3, 4, 5, 6]),
    ] {
        let mut request = ListConnectionsRequest {
            order_by: "bytes".into(),
            desc,
            page_size: 3,
            ..ListConnectionsRequest::default()
        };
        let mut users = Vec::new();
        loop {
            let page = calls
                .list_connections(request.clone())
                .await
                .unwrap()
                .into_inner();
            assert!(page.connections.len() <= 3);
            users.extend(page.connections.into_iter().map(|c| c.user));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(users, expected.map(|n| format!("user{n}")));
    }
    let newest = server
        .get_as(&viewer(), "/api/v1/connections?order_by=connected_at+desc")
        .await
        .json();
    let newest = newest["connections"].as_array().unwrap();
    let times: Vec<&str> = newest
        .iter()
        .map(|one| one["connected_at"].as_str().unwrap())
        .collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    for (query, field) in [
        ("order_by=size", "order_by"),
        ("desc=true", "desc"),
        ("address=everywhere", "address"),
        ("order_by=bytes&page_token=1.2.3", "page_token"),
    ] {
        let answer = server
            .get_as(&viewer(), &format!("/api/v1/connections?{query}"))
            .await;
        let problem = answer.assert_problem(400);
        assert_eq!(problem["errors"][0]["field"], field, "{query}");
    }
    for (network, count) in [("127.0.0.0/8", 7), ("192.0.2.0/24", 0)] {
        let path = format!("/api/v1/connections?address={network}");
        let found = server.get_as(&viewer(), &path).await.json();
        assert_eq!(
            found["connections"].as_array().unwrap().len(),
            count,
            "{network}"
        );
    }
}

#[tokio::test]
async fn channels_are_ordered_by_what_happens_in_them() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.subscribe("room:quiet").await;
    ws.subscribe("plain:1").await;
    let mut publisher = server.publisher("service").await;
    publisher.count("room:busy", "count.up", 1..=30).await;
    publisher.count("room:quiet", "count.up", 1..=3).await;
    publisher.count("plain:1", "count.up", 1..=10).await;
    let mut calls = server.connections_as(Some(&viewer())).await;
    for (order, expected) in [
        ("history", ["room:busy", "room:quiet"]),
        ("rate", ["room:busy", "plain:1"]),
    ] {
        let request = ListChannelsRequest {
            order_by: order.into(),
            desc: true,
            page_size: 2,
            ..ListChannelsRequest::default()
        };
        let page = calls.list_channels(request).await.unwrap().into_inner();
        let names: Vec<&str> = page.channels.iter().map(|c| c.channel.as_str()).collect();
        assert_eq!(names, expected, "{order}");
        assert!(!page.next_page_token.is_empty());
        let busy = &page.channels[0];
        assert_eq!(busy.history_events, 30);
        assert!(busy.history_bytes > 0 && busy.rate > 2.0 && busy.last_event_at.is_some());
        assert_eq!(busy.users, Some(0));
    }
    let path = "/api/v1/channels?prefix=room:quiet";
    let quiet = &server.get_as(&viewer(), path).await.json()["channels"][0];
    assert_eq!(
        (&quiet["users"], &quiet["subscribers"]),
        (&json!(1), &json!(1)),
        "{quiet}"
    );
}

#[tokio::test]
async fn explain_says_which_rule_decides_and_agrees_with_what_happens() {
    let server = Server::start(Config::rooms()).await;
    let ask = async |body: Value| post(&server, &viewer(), "/api/v1/explain", &body).await;
    let question = json!({
        "claims": {"sub": "ann", "projects": ["42"]}, "action": "subscribe", "channel": "project:42",
    });
    let (status, answer) = ask(question).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["allowed"], true, "{answer}");
    assert!(answer["rule"].as_str().unwrap().contains("claims.projects"));
    assert_eq!(answer["inputs"]["id"], "42");
    assert_eq!(answer["source"], "namespace project");
    let (_, refused) =
        ask(json!({"user": "bob", "action": "subscribe", "channel": "project:42"})).await;
    assert_eq!(refused["allowed"], false, "{refused}");
    let mut bob = server.ws().token("bob", &[]).connect().await;
    let reply = bob
        .ask(json!({"type": "subscribe", "channels": ["project:42"]}))
        .await;
    assert_eq!(reply["errors"][0]["code"], "permission_denied");
    let (_, none) = ask(json!({"user": "bob", "action": "history", "channel": "plain:1"})).await;
    assert_eq!(
        (&none["allowed"], &none["reason"]),
        (&json!(false), &json!("the namespace keeps no history"))
    );
    for (body, field) in [
        (
            json!({"user": "a", "action": "delete", "channel": "a"}),
            "action",
        ),
        (
            json!({"user": "a", "action": "publish", "channel": "a b"}),
            "channel",
        ),
        (
            json!({"claims": "[]", "action": "publish", "channel": "a"}),
            "claims",
        ),
        (
            json!({"user": "a", "claims": {}, "action": "publish", "channel": "a"}),
            "claims",
        ),
    ] {
        let (status, problem) = ask(body).await;
        assert_eq!(
            (status, &problem["errors"][0]["field"]),
            (400, &json!(field)),
            "{problem}"
        );
    }
    let mut calls = server.connections_as(Some(&viewer())).await;
    let request = ExplainRequest {
        subject: Some(Subject::User("ann".into())),
        roles: vec!["editor".into()],
        action: "publish".into(),
        channel: "project:42".into(),
        ..ExplainRequest::default()
    };
    let answer = calls.explain(request).await.unwrap().into_inner();
    assert!(answer.allowed, "{answer:?}");
    assert_eq!(answer.inputs["roles"], r#"["editor"]"#);
}

#[tokio::test]
async fn refusals_are_told_with_their_reason_as_they_happen() {
    let server = Server::start(Config::rooms()).await;
    let mut calls = server.connections_as(Some(&viewer())).await;
    let request = WatchRefusalsRequest {
        recent: 0,
        once: false,
    };
    let mut stream = calls.watch_refusals(request).await.unwrap().into_inner();
    let mut bob = server.ws().token("bob", &[]).connect().await;
    bob.ask(json!({"type": "subscribe", "channels": ["project:42"]}))
        .await;
    let told = within("a refusal", stream.message())
        .await
        .unwrap()
        .unwrap();
    let refusal = &told.refusals[0];
    assert_eq!(
        (refusal.kind.as_str(), refusal.code.as_str()),
        ("subscribe_refused", "permission_denied")
    );
    assert_eq!(
        (refusal.user.as_str(), refusal.channel.as_str()),
        ("bob", "project:42")
    );
    let path = format!("/api/v1/connections/{}?reason=maintenance", bob.id());
    let token = bearer(&Token::new("root").roles(&["admin"]));
    server
        .http(Method::DELETE, &path, &[("Authorization", &token)], "")
        .await;
    let listed = eventually("the close", async || {
        let all = server
            .get_as(&viewer(), "/api/v1/refusals?limit=1")
            .await
            .json();
        (all["refusals"][0]["kind"] == "disconnect").then(|| all["refusals"][0].clone())
    })
    .await;
    assert_eq!(listed["close_code"], 4410, "{listed}");
    assert_eq!(
        (&listed["reason"], &listed["by"]),
        (&json!("maintenance"), &json!("root"))
    );
}

#[tokio::test]
async fn server_info_shows_every_value_with_its_source_and_no_secret() {
    let config = Config::rooms().env("TIDINGS_LIMITS__CONNECTIONS", "77");
    let server = Server::start(config).await;
    let mut calls = server.connections_as(Some(&viewer())).await;
    let info = calls
        .get_server_info(GetServerInfoRequest {})
        .await
        .unwrap();
    let info = info.into_inner().server.unwrap();
    let find = |key: &str| info.configuration.iter().find(|s| s.key == key).unwrap();
    assert_eq!(find("limits.connections").value, "77");
    assert_eq!(
        find("limits.connections").source,
        "TIDINGS_LIMITS__CONNECTIONS"
    );
    assert_eq!(find("limits.outbox_bytes").source, "default");
    assert!(find("auth.hs256_secret").secret);
    assert!(!format!("{info:?}").contains(crate::harness::SECRET));
    let limit = info
        .limits
        .iter()
        .find(|l| l.key == "limits.connections")
        .unwrap();
    assert_eq!((limit.limit, limit.used), (77, Some(0)));
    assert!(
        info.namespaces
            .iter()
            .any(|n| n.name == "room" && n.history_size == 5000)
    );
    let process = info.process.unwrap();
    assert!(process.resident_bytes > Some(0) && process.threads > Some(1));
    assert_eq!(info.store.unwrap().kind, "memory");
    let json = server.get_as(&viewer(), "/api/v1/server").await;
    assert!(!json.text().contains(crate::harness::SECRET));
    assert_eq!(json.json()["caller"]["admin"], false);
}

#[tokio::test]
async fn statistics_of_the_last_hour_are_kept_in_steps_of_five_seconds() {
    let server = Server::start(Config::rooms()).await;
    server
        .publisher("service")
        .await
        .count("room:1", "count.up", 1..=5)
        .await;
    let mut calls = server.connections_as(Some(&viewer())).await;
    let history = eventually("a sample with the events", async || {
        let answer = calls
            .get_stats_history(GetStatsHistoryRequest { after: None })
            .await;
        let answer = answer.unwrap().into_inner();
        (answer.samples.iter().map(|s| s.published).sum::<u64>() == 5).then_some(answer)
    })
    .await;
    assert_eq!(history.step.unwrap().seconds, 5);
    assert!(history.samples[0].resident_bytes > 0);
    let json = server
        .get_as(&viewer(), "/api/v1/stats/history")
        .await
        .json();
    let last = json["samples"].as_array().unwrap().last().unwrap()["time"].clone();
    let path = format!("/api/v1/stats/history?after={}", last.as_str().unwrap());
    let later = server.get_as(&viewer(), &path).await.json();
    let later = later["samples"].as_array().unwrap();
    assert!(later.iter().all(|sample| sample["time"] != last));
}

#[tokio::test]
async fn sampled_stream_says_how_many_events_it_left_out() {
    let server = Server::start(Config::rooms()).await;
    let token = Token::new("vera").roles(&["viewer"]).sign();
    let (mut stream, _) = server
        .sse(&format!("channel=room:*&sample=5&token={token}"), &[])
        .await;
    server
        .publisher("service")
        .await
        .count("room:1", "count.up", 1..=200)
        .await;
    let (mut events, mut skipped) = (0_u64, 0_u64);
    while events + skipped < 200 {
        let message = stream.next().await;
        match message.event.as_str() {
            "sampled" => skipped += message.json()["skipped"].as_u64().unwrap(),
            "" if !message.data.is_empty() => events += 1,
            _ => {}
        }
    }
    assert!(skipped > 0 && events >= 5, "{events} {skipped}");
}

#[tokio::test]
async fn console_is_served_with_a_strict_policy_and_asks_for_a_token() {
    let server = Server::start(Config::rooms()).await;
    let get = async |path: &str, headers: &[(&str, &str)]| {
        server
            .internal_http(Method::GET, path, headers, bytes::Bytes::new())
            .await
    };
    let page = get("/console/", &[]).await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("Tidings console"), "{}", page.text());
    let policy = page.header("content-security-policy");
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    for file in ["/console/app.js", "/console/app.css"] {
        let asset = get(file, &[("Accept-Encoding", "gzip")]).await;
        assert_eq!(
            (asset.status, asset.header("content-encoding")),
            (200, "gzip")
        );
        let tag = asset.header("etag").to_owned();
        assert_eq!(get(file, &[("If-None-Match", &tag)]).await.status, 304);
    }
    get("/api/v1/server", &[]).await.assert_problem(401);
    let token = bearer(&viewer());
    let own = format!("http://{}", server.internal);
    let good = [("Authorization", token.as_str()), ("Origin", own.as_str())];
    assert_eq!(get("/api/v1/server", &good).await.status, 200);
    let other = [
        ("Authorization", token.as_str()),
        ("Origin", "https://evil.example"),
    ];
    get("/api/v1/server", &other).await.assert_problem(403);
    let rebound = [("Authorization", token.as_str()), ("Host", "evil.example")];
    get("/api/v1/server", &rebound).await.assert_problem(421);
}

#[tokio::test]
async fn console_opens_without_a_login_in_development_only() {
    let server = Server::start(Config::dev()).await;
    let answer = server
        .internal_http(Method::GET, "/api/v1/server", &[], bytes::Bytes::new())
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["caller"]["admin"], true);
    let wrong = [("Authorization", "Bearer x")];
    let refused = server
        .internal_http(Method::GET, "/api/v1/server", &wrong, bytes::Bytes::new())
        .await;
    refused.assert_problem(401);
    server.get("/api/v1/server").await.assert_problem(401);
    let off = Server::start(Config::rooms().set("console.enabled", "false")).await;
    for path in ["/console/", "/api/v1/server"] {
        let answer = off
            .internal_http(Method::GET, path, &[], bytes::Bytes::new())
            .await;
        answer.assert_problem(404);
    }
}

#[tokio::test]
async fn command_line_shows_what_operators_ask_for() {
    let server = Server::start(Config::rooms()).await;
    server
        .publisher("service")
        .await
        .count("room:1", "count.up", 1..=3)
        .await;
    let run = async |args: &[&str]| server.cli_as(&viewer(), args).run().await;
    let channels = run(&["channels", "--json", "--order-by", "history", "--desc"])
        .await
        .exits(0);
    assert_eq!(channels.json()["history_events"], 3);
    let history = run(&["history", "room:1", "--reverse", "--limit", "1", "--json"])
        .await
        .exits(0);
    assert_eq!(history.json()["offset"], 3);
    let presence = run(&["presence", "room:1", "--json"]).await.exits(0);
    assert_eq!(presence.json()["total"], 0);
    let explain = [
        "explain",
        "subscribe",
        "project:42",
        "--user",
        "bob",
        "--json",
    ];
    assert_eq!(run(&explain).await.exits(1).json()["allowed"], false);
    let mut bob = server.ws().token("bob", &[]).connect().await;
    bob.ask(json!({"type": "subscribe", "channels": ["project:42"]}))
        .await;
    let refusals = run(&["refusals", "--json"]).await.exits(0);
    assert_eq!(refusals.json()["kind"], "subscribe_refused");
}
