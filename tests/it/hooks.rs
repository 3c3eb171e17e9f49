//! Hooks: a real application answers over HTTP what clients may do and who they are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::{Value, json};

use crate::harness::application::{Application, Reply, allow, refuse};
use crate::harness::{Config, Server, Token, eventually};

/// Seconds since 1970, this many from now on.
fn in_seconds(seconds: u64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs() + seconds
}

/// An application that knows the session cookie of ann.
async fn with_sessions() -> Application {
    Application::start(|question| {
        if question["headers"]["cookie"] == "session=ann-1" {
            return Reply::Json(json!({
                "allow": true,
                "user": "ann",
                "roles": ["editor"],
                "claims": {"projects": ["42"]},
                "channels": ["room:ann"],
            }));
        }
        refuse("unauthenticated")
    })
    .await
}

#[tokio::test]
async fn session_cookie_logs_in_without_any_token_key() {
    let application = with_sessions().await;
    let config = application
        .config(&["connect"])
        .set("hooks.forward_headers", r#"["cookie"]"#)
        .without_key();
    let server = Server::start(config).await;
    let cookie = |value: &str| server.ws().header("Cookie", value);
    let mut ann = cookie("session=ann-1").connect().await;
    assert_eq!(ann.established["user"], "ann");
    assert_eq!(ann.established["roles"], json!(["editor"]));
    // The claims count in rules, as those of a token do.
    ann.subscribe("project:42").await;
    ann.publish("project:42", "note.added", json!({"n": 1}))
        .await;
    ann.expect_event("note.added").await;
    // The application has subscribed it.
    ann.publish("room:ann", "hello", json!({})).await;
    ann.expect_event("hello").await;
    let question = application.question("connect", 1).await;
    let connection = &question["connection"];
    assert_eq!(
        (
            &connection["id"],
            &connection["user"],
            &connection["transport"]
        ),
        (&Value::Null, &Value::Null, &json!("websocket"))
    );
    assert!(
        connection["address"]
            .as_str()
            .unwrap()
            .starts_with("127.0.0.1:")
    );
    assert_eq!(question["headers"], json!({"cookie": "session=ann-1"}));
    assert_eq!(question.get("token"), None);

    assert_eq!(cookie("session=eve").upgrade().await.err(), Some(401));
    let mut page = cookie("session=eve")
        .origin(&format!("http://{}", server.public))
        .upgrade()
        .await
        .expect("a page learns the reason on the open connection");
    assert_eq!(page.expect("error").await["message"], "no: unauthenticated");
    page.expect_close(4401).await;
    let headers = [("Cookie", "session=ann-1")];
    let (_stream, subscribed) = server.sse("channel=room:1", &headers).await;
    assert_eq!(subscribed.json()["channels"][0]["channel"], "room:1");
    assert!(!server.log().contains("ann-1"), "no cookie in the log");
}

#[tokio::test]
async fn application_refuses_a_verified_user_and_reads_its_own_tokens() {
    let application = Application::start(|question| {
        if question["token"] == "opaque-7" {
            return Reply::Json(json!({"allow": true, "user": "zoe"}));
        }
        match question["connection"]["user"].as_str() {
            Some("ann") => allow(),
            _ => refuse("permission_denied"),
        }
    })
    .await;
    let server = Server::start(application.config(&["connect"])).await;
    let ann = server.ws().token("ann", &["editor"]).connect().await;
    assert_eq!(ann.established["roles"], json!(["editor"]), "the token's");
    assert_eq!(
        server.ws().token("bob", &[]).upgrade().await.err(),
        Some(403)
    );
    let zoe = server.ws().query_token("opaque-7").connect().await;
    assert_eq!(zoe.established["user"], "zoe");
    // A token that is wrong is refused before the application is asked.
    let asked = application.questions("connect").len();
    let wrong = Token::new("ann")
        .secret("not the server's secret at all, really")
        .sign();
    assert_eq!(server.ws().bearer(&wrong).upgrade().await.err(), Some(401));
    // Services get in whatever the application says.
    server.ws().token("back", &["service"]).connect().await;
    assert_eq!(application.questions("connect").len(), asked);
}

#[tokio::test]
async fn socketio_client_is_asked_about_when_it_connects_to_a_namespace() {
    let application = with_sessions().await;
    let endpoint = format!("\"http://{}/tidings\"", application.address);
    let config = Config::socketio()
        .set("hooks.endpoint", &endpoint)
        .set("hooks.ask", r#"["connect", "rpc"]"#)
        .set("hooks.forward_headers", r#"["cookie"]"#);
    let server = Server::start(config).await;
    let mut ann = server
        .engine_ws("", &[("Cookie", "session=ann-1")])
        .await
        .unwrap();
    ann.send("40").await;
    let hello = ann.until("42[\"connection_established\"").await;
    assert!(hello.contains(r#""user":"ann""#), "{hello}");
    application.answer(|question| {
        assert_eq!(question["connection"]["transport"], "socketio");
        Reply::Text(r#"{"allow":true,"data":{"total":1.00}}"#.into())
    });
    ann.send(r#"427["rpc",{"method":"sum","data":[1]}]"#).await;
    let reply = ann.until("437").await;
    assert!(reply.contains(r#""data":{"total":1.00}"#), "{reply}");
    application.answer(|_| refuse("permission_denied"));
    let mut eve = server.engine_ws("", &[]).await.unwrap();
    eve.send("40").await;
    let refused = eve.until("44").await;
    assert!(refused.contains("no: permission_denied"), "{refused}");
}

#[tokio::test]
async fn application_narrows_subscriptions_and_what_is_read() {
    let application = Application::start(|question| match question["channel"].as_str() {
        Some("room:1") => Reply::Json(json!({"allow": true, "filter": "data.n > 1"})),
        Some("room:2") => refuse("not_found"),
        Some("room:3") => Reply::Json(json!({"allow": true, "filter": "data.n >"})),
        // It is valid only together with another one.
        Some("room:5") => Reply::Json(json!({"allow": true, "filter": "true) || (true"})),
        _ => allow(),
    })
    .await;
    let server = Server::start(application.config(&["subscribe"])).await;
    let mut service = server.publisher("service").await;
    let mut ann = server.ws().token("ann", &[]).connect().await;
    let channels = [
        "room:1",
        "room:2",
        "room:3",
        "room:4",
        "room:5",
        "project:9",
    ];
    let wanted = json!({"type": "subscribe", "channels": channels, "filter": "data.n < 5 // mine"});
    let reply = ann.ask(wanted).await;
    let begun: Vec<&Value> = reply["channels"].as_array().unwrap().iter().collect();
    assert_eq!(begun.len(), 2, "{reply}");
    let mut codes: Vec<(&str, &str)> = Vec::new();
    for error in reply["errors"].as_array().unwrap() {
        codes.push((
            error["channel"].as_str().unwrap(),
            error["code"].as_str().unwrap(),
        ));
    }
    codes.sort_unstable();
    let expected = [
        ("project:9", "permission_denied"),
        ("room:2", "not_found"),
        ("room:3", "internal"),
        ("room:5", "internal"),
    ];
    assert_eq!(codes, expected);
    let about_rules = |question: &Value| question["channel"] == "project:9";
    let asked = application.questions("subscribe");
    assert!(!asked.iter().any(about_rules), "the rules come first");
    assert_eq!(asked[0]["connection"]["id"], json!(ann.id()));

    service.count("room:1", "count.up", 1..=6).await;
    service.count("room:4", "count.up", 1..=2).await;
    // Both filters hold: 2 to 4 of `room:1`; only the client's in `room:4`.
    assert_eq!(ann.numbers("count.up", 5).await, [2, 3, 4, 1, 2]);
    let page = ann
        .ask(json!({"type": "history", "channel": "room:1"}))
        .await;
    let events = page["events"].as_array().unwrap().iter();
    let numbers: Vec<u64> = events.map(|e| e["data"]["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [2, 3, 4, 5, 6]);
    ann.refused(json!({"type": "history", "channel": "room:2"}), "not_found")
        .await;
    ann.refused(
        json!({"type": "presence", "channel": "room:2"}),
        "not_found",
    )
    .await;
}

#[tokio::test]
async fn application_replaces_and_refuses_published_data() {
    let application = Application::start(|question| match question["data"]["text"].as_str() {
        Some("spam") => refuse("permission_denied"),
        Some("large") => Reply::Json(json!({"allow": true, "data": {"text": "x".repeat(2_000)}})),
        _ => Reply::Text(r#"{"allow":true,"data":{"text":"clean","price":1.10}}"#.into()),
    })
    .await;
    let config = application
        .config(&["publish"])
        .set("limits.event_bytes", "1000");
    let server = Server::start(config).await;
    let mut ann = server.ws().token("ann", &[]).connect().await;
    ann.subscribe("room:1").await;
    let publish = |text: &str| {
        json!({"type": "publish", "channel": "room:1", "event_type": "said",
            "data": {"text": text},
            "traceparent": "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"})
    };
    ann.send(publish("hello")).await;
    let text = ann.expect_text("said").await;
    assert!(
        text.contains(r#""data":{"text":"clean","price":1.10}"#),
        "{text}"
    );
    ann.refused(publish("spam"), "permission_denied").await;
    ann.refused(publish("large"), "internal").await;
    let question = &application.asked()[0];
    assert_eq!(question.json()["event_type"], "said");
    let traceparent = question.headers["traceparent"].to_str().unwrap();
    assert!(
        traceparent.contains("0123456789abcdef0123456789abcdef"),
        "{traceparent}"
    );
    // Services publish what they like.
    let mut service = server.publisher("service").await;
    service
        .publish("room:1", "said", json!({"text": "spam"}))
        .await;
    assert_eq!(ann.expect_event("said").await["data"]["text"], "spam");
    assert_eq!(application.questions("publish").len(), 3);
}

#[tokio::test]
async fn call_reaches_the_application_and_its_result_the_client() {
    let application = Application::start(|question| match question["method"].as_str() {
        Some("add") => Reply::Text(r#"{"allow":true,"data":{"sum":3.50}}"#.into()),
        Some("nothing") => allow(),
        _ => refuse("not_found"),
    })
    .await;
    let server = Server::start(application.config(&["rpc"])).await;
    let mut ann = server.ws().token("ann", &[]).connect().await;
    ann.send_text(r#"{"type":"rpc","id":7,"method":"add","data":[1,2.5]}"#)
        .await;
    let reply = ann.expect_text("rpc").await;
    assert_eq!(reply, r#"{"type":"rpc","id":7,"data":{"sum":3.50}}"#);
    let question = application.question("rpc", 1).await;
    assert_eq!(question["data"], json!([1, 2.5]));
    assert_eq!(question["connection"]["user"], "ann");
    let nothing = ann.ask(json!({"type": "rpc", "method": "nothing"})).await;
    assert_eq!(nothing["data"], Value::Null);
    ann.refused(json!({"type": "rpc", "method": "unheard"}), "not_found")
        .await;
    let field = ann
        .refused(json!({"type": "rpc"}), "invalid_argument")
        .await;
    assert_eq!(field["details"]["field"], "method");

    let token = format!("Bearer {}", Token::new("ann").sign());
    let headers = [("Authorization", token.as_str())];
    let body = r#"{"method":"add","data":[1.50]}"#;
    let answer = server
        .http(http::Method::POST, "/api/v1/rpc", &headers, body)
        .await;
    assert_eq!(
        (answer.status, answer.text()),
        (200, r#"{"data":{"sum":3.50}}"#)
    );
    let asked = application.asked();
    let last = asked.last().unwrap();
    assert_eq!(last.json()["connection"]["transport"], "http");
    assert!(last.body.ends_with(br#""data":[1.50],"method":"add"}"#));
    let unheard = server
        .http(
            http::Method::POST,
            "/api/v1/rpc",
            &headers,
            r#"{"method":"x"}"#,
        )
        .await;
    assert_eq!(unheard.assert_problem(404)["detail"], "no: not_found");

    let without = Server::start(Config::rooms()).await;
    let mut bob = without.ws().token("bob", &[]).connect().await;
    let refused = bob.refused(
        json!({"type": "rpc", "method": "add"}),
        "failed_precondition",
    );
    assert!(
        refused.await["message"]
            .as_str()
            .unwrap()
            .contains("hooks.ask")
    );
}

#[tokio::test]
async fn equal_questions_are_asked_once_and_answers_are_kept() {
    let application = Application::start(|question| {
        let cache = u64::from(question["channel"] == "room:kept") * 60;
        Reply::Held(json!({"allow": true, "cache_seconds": cache}))
    })
    .await;
    let server = Server::start(application.config(&["subscribe"])).await;
    let subscribe =
        |id: u64, channel: &str| json!({"type": "subscribe", "id": id, "channels": [channel]});
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = server.ws().token("ann", &[]).connect().await;
        client.send(subscribe(1, "room:kept")).await;
        clients.push(client);
    }
    application.question("subscribe", 1).await;
    eventually("all clients to be read", async || {
        (server.metric("tidings_hooks_in_flight").await == 1).then_some(())
    })
    .await;
    application.release();
    for client in &mut clients {
        assert_eq!(client.expect("subscribed").await["errors"], json!([]));
    }
    // A later one gets the kept answer; another user and another channel do not.
    clients[0].subscribe("room:kept").await;
    assert_eq!(application.questions("subscribe").len(), 1);
    let spared = server.metric("tidings_hooks_cache_hits_total").await
        + server.metric("tidings_hooks_shared_total").await;
    assert_eq!(spared, 3);
    clients[0].subscribe("room:other").await;
    clients[0].subscribe("room:other").await;
    let mut bob = server.ws().token("bob", &[]).connect().await;
    bob.subscribe("room:kept").await;
    assert_eq!(application.questions("subscribe").len(), 4);
}

#[tokio::test]
async fn every_failure_of_the_application_has_its_refusal_and_its_count() {
    let application = Application::start(|question| match question["method"].as_str() {
        Some("status") => Reply::Status(500),
        Some("redirect") => Reply::Status(302),
        Some("malformed") => Reply::Text("<html>".into()),
        Some("ambiguous") => Reply::Text(r#"{"allow":false,"allow":true}"#.into()),
        Some("too_large") => Reply::Text(" ".repeat(2_000)),
        _ => Reply::Hang,
    })
    .await;
    let config = application
        .config(&["rpc"])
        .set("hooks.timeout", r#""300ms""#)
        .set("hooks.answer_bytes", "1000");
    let server = Server::start(config).await;
    let mut ann = server.ws().token("ann", &[]).connect().await;
    for method in [
        "status",
        "redirect",
        "malformed",
        "ambiguous",
        "too_large",
        "hang",
    ] {
        let call = json!({"type": "rpc", "method": method});
        let refused = ann.refused(call, "unavailable").await;
        assert!(refused["retry_after_ms"].as_u64().unwrap() > 0, "{refused}");
    }
    for (outcome, count) in [
        ("status", 2),
        ("malformed", 2),
        ("too_large", 1),
        ("timeout", 1),
    ] {
        let series = format!("tidings_hooks_outcomes_total{{outcome=\"{outcome}\"}}");
        assert_eq!(server.metric(&series).await, count, "{series}");
    }
    assert_eq!(
        server
            .metric("tidings_hooks_asked_total{type=\"rpc\"}")
            .await,
        6
    );
    assert!(server.log().contains("status 500"), "{}", server.log());
}

#[tokio::test]
async fn rules_decide_alone_where_a_failure_may_not_refuse() {
    let application = Application::start(|_| Reply::Status(500)).await;
    let config = application
        .config(&["connect", "subscribe", "publish", "rpc"])
        .set("hooks.on_failure", r#""rules""#);
    let server = Server::start(config).await;
    let mut ann = server.ws().token("ann", &[]).connect().await;
    ann.subscribe("room:1").await;
    ann.publish("room:1", "said", json!({})).await;
    ann.expect_event("said").await;
    let denied = json!({"type": "subscribe", "channels": ["project:1"]});
    assert_eq!(
        ann.ask(denied).await["errors"][0]["code"],
        "permission_denied"
    );
    ann.refused(json!({"type": "rpc", "method": "add"}), "unavailable")
        .await;
    // Without a token and without an answer, a client is nobody.
    let mut nobody = server.ws().connect().await;
    nobody
        .refused(
            json!({"type": "subscribe", "channels": ["room:1"]}),
            "unauthenticated",
        )
        .await;

    let refusing = application.config(&["connect"]);
    let server = Server::start(refusing).await;
    assert_eq!(
        server.ws().token("ann", &[]).upgrade().await.err(),
        Some(503)
    );
}

#[tokio::test]
async fn breaker_opens_while_the_application_is_down_and_closes_after() {
    let free = Application::start(|_| allow()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let config = free
        .config(&["rpc"])
        .set("hooks.endpoint", &format!("\"http://{address}/\""))
        .set("hooks.breaker_failures", "3");
    let server = Server::start(config).await;
    let mut ann = server.ws().token("ann", &[]).connect().await;
    let call = json!({"type": "rpc", "method": "add"});
    for _ in 0..4 {
        ann.refused(call.clone(), "unavailable").await;
    }
    assert_eq!(server.metric("tidings_hooks_breaker_open").await, 1);
    let series = |outcome| format!("tidings_hooks_outcomes_total{{outcome=\"{outcome}\"}}");
    assert_eq!(server.metric(&series("unreachable")).await, 3);
    assert_eq!(server.metric(&series("breaker_open")).await, 1);
    let _application = Application::start_at(&address, |_| allow()).await;
    eventually("the breaker to close", async || {
        (ann.ask(call.clone()).await["type"] == "rpc").then_some(())
    })
    .await;
    assert_eq!(server.metric("tidings_hooks_breaker_open").await, 0);
}

/// A client may choose what it publishes: slow answers to it must not keep others out.
#[tokio::test]
async fn slow_publishes_do_not_open_the_breaker() {
    let application = Application::start(|question| match question["type"].as_str() {
        Some("publish") => Reply::Held(json!({"allow": true})),
        _ => allow(),
    })
    .await;
    let config = application
        .config(&["connect", "publish"])
        .set("hooks.timeout", r#""100ms""#)
        .set("hooks.breaker_failures", "2");
    let server = Server::start(config).await;
    let mut eve = server.ws().token("eve", &[]).connect().await;
    let publish = json!({"type": "publish", "channel": "room:1", "event_type": "a.b", "data": 1});
    for _ in 0..4 {
        eve.refused(publish.clone(), "unavailable").await;
    }
    assert_eq!(server.metric("tidings_hooks_breaker_open").await, 0);
    let mut ann = server.ws().token("ann", &[]).connect().await;
    ann.lives().await;
}

#[tokio::test]
async fn questions_beyond_the_limits_fail_at_once_and_others_go_on() {
    let application = Application::start(|_| Reply::Held(json!({"allow": true}))).await;
    let config = application
        .config(&["rpc"])
        .set("hooks.concurrency", "1")
        .set("hooks.waiting", "1")
        .set("hooks.timeout", r#""1m""#);
    let server = Server::start(config).await;
    let call = |id: u64| json!({"type": "rpc", "id": id, "method": format!("{id}")});
    let mut first = server.ws().token("ann", &[]).connect().await;
    first.send(call(1)).await;
    application.question("rpc", 1).await;
    let mut second = server.ws().token("bob", &[]).connect().await;
    second.send(call(2)).await;
    eventually("the second one to wait", async || {
        (server.metric("tidings_hooks_waiting").await == 1).then_some(())
    })
    .await;
    let mut third = server.ws().token("zoe", &[]).connect().await;
    let refused = third.refused(call(3), "unavailable").await;
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("hooks.waiting")
    );
    let limit = "tidings_limit_reached_total{limit=\"hooks.waiting\"}";
    assert_eq!(server.metric(limit).await, 1);
    // Nobody else waits for the slow application.
    third.subscribe("room:1").await;
    third.publish("room:1", "said", json!({})).await;
    third.expect_event("said").await;
    application.release();
    assert_eq!(first.expect("rpc").await["id"], 1);
    assert_eq!(second.expect("rpc").await["id"], 2);
}

#[tokio::test]
async fn every_request_is_signed() {
    let application = Application::start(|_| allow()).await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let config = application
        .config(&["connect"])
        .set("hooks.secret", &format!("{secret:?}"));
    let server = Server::start(config).await;
    server.ws().token("ann", &[]).connect().await;
    let asked = application.asked().remove(0);
    let header = |name: &str| asked.headers[name].to_str().unwrap().to_owned();
    let key = STANDARD
        .decode(secret.trim_start_matches("whsec_"))
        .unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let signed = [format!("{id}.{timestamp}.").as_bytes(), &asked.body].concat();
    let signature = header("webhook-signature");
    let signature = STANDARD
        .decode(signature.strip_prefix("v1,").unwrap())
        .unwrap();
    hmac::verify(&key, &signed, &signature).expect("the signature of this body");
    assert!(timestamp.parse::<u64>().unwrap() >= in_seconds(0) - 10);
    assert_eq!(header("content-type"), "application/json");
    assert!(!server.log().contains("whsec_"));
}

#[tokio::test]
async fn application_is_told_once_of_a_closed_connection() {
    let application = with_sessions().await;
    let config = application
        .config(&["connect", "disconnected"])
        .set("hooks.forward_headers", r#"["cookie"]"#);
    let server = Server::start(config).await;
    let ann = server
        .ws()
        .header("Cookie", "session=ann-1")
        .connect()
        .await;
    let id = ann.id();
    ann.close().await;
    let told = application.question("disconnected", 1).await;
    assert_eq!(told["connection"]["id"], json!(id));
    assert_eq!(told["connection"]["user"], "ann");
    assert_eq!(told["headers"]["cookie"], "session=ann-1");
    assert_eq!(told["data"]["code"], 1000);
    assert_eq!(told["data"]["by"], "client");
}

#[tokio::test]
async fn session_is_renewed_before_it_expires_or_ends() {
    let application = Application::start(|question| match question["type"].as_str() {
        Some("connect") => {
            Reply::Json(json!({"allow": true, "user": "ann", "expires_at": in_seconds(3)}))
        }
        _ => Reply::Json(json!({"allow": true, "roles": ["editor"], "expires_at": in_seconds(3)})),
    })
    .await;
    let server = Server::start(application.config(&["connect", "refresh"])).await;
    let mut ann = server.ws().connect().await;
    let renewal = application.question("refresh", 2).await;
    assert_eq!(renewal["connection"]["user"], "ann");
    assert_eq!(
        renewal["connection"]["roles"],
        json!(["editor"]),
        "of the first renewal"
    );
    // It is an editor now.
    ann.publish("project:1", "note.added", json!({})).await;
    application.answer(|_| refuse("unauthenticated"));
    ann.expect_close(4401).await;
    let errors = ann.unread().filter(|message| message["type"] == "error");
    assert_eq!(errors.last().unwrap()["message"], "no: unauthenticated");
}

#[tokio::test]
async fn presented_token_is_refused_by_the_application() {
    let application = Application::start(|question| match question["token"].as_str() {
        Some("opaque-2") => refuse("permission_denied"),
        _ => allow(),
    })
    .await;
    let server = Server::start(application.config(&["refresh"])).await;
    let mut ann = server.ws().token("ann", &[]).connect().await;
    let renewed = json!({"type": "authenticate", "token": Token::new("ann").sign()});
    assert_eq!(ann.ask(renewed).await["type"], "authenticated");
    ann.refused(
        json!({"type": "authenticate", "token": "opaque-2"}),
        "permission_denied",
    )
    .await;
    assert_eq!(application.questions("refresh").len(), 2);
}

#[tokio::test]
async fn hooks_change_on_reload() {
    let application = Application::start(|_| refuse("permission_denied")).await;
    let server = Server::start(Config::rooms()).await;
    let mut ann = server.ws().token("ann", &[]).connect().await;
    ann.subscribe("room:1").await;
    server.reload(&application.config(&["subscribe"]));
    eventually("the new hooks", async || {
        let again = json!({"type": "subscribe", "channels": ["room:2"]});
        (ann.ask(again).await["errors"][0]["code"] == "permission_denied").then_some(())
    })
    .await;
}
