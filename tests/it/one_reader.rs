//! All parsers accept the same JSON, and numeric identifiers keep their digits.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Config, Server, Tidings, Token, Ws, event, handmade, refused_fields};

fn service() -> String {
    format!("Bearer {}", Token::new("s").roles(&["service"]).sign())
}

async fn post(server: &Server, content_type: &str, body: &str) -> Answer {
    let token = service();
    let headers = [
        ("Authorization", token.as_str()),
        ("Content-Type", content_type),
    ];
    server
        .http(Method::POST, "/api/v1/events", &headers, body)
        .await
}

fn cloud_event(data: &str) -> String {
    let attributes = r#""specversion":"1.0","id":"1","source":"/a","type":"a.b""#;
    format!(r#"{{{attributes},"channel":"room:1","data":{data}}}"#)
}

/// Data that the JSON grammar allows but some parsers cannot read.
const UNREADABLE: [&str; 4] = [
    r#"{"severity":5,"t":"\ud83d"}"#,
    r#"{"severity":5,"\udc00":1}"#,
    r#"{"severity":5,"n":1e400}"#,
    r#"{"severity":5,"n":-1e309}"#,
];

#[tokio::test]
async fn unreadable_data_is_refused_on_all_transports() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let mut grpc = server.publisher("service").await;
    for data in UNREADABLE {
        let message = format!(
            r#"{{"type":"publish","channel":"room:1","event_type":"a.b","id":1,"data":{data}}}"#
        );
        ws.send_text(&message).await;
        let error = ws.expect("error").await;
        assert_eq!(error["code"], "invalid_argument", "{error}");
        assert!(error.to_string().contains("data"), "{error}");

        let mut request = event("room:1", "a.b", json!(null));
        request.data = data.to_owned().into();
        let status = grpc.try_send(request).await.unwrap_err();
        assert_eq!(refused_fields(&status), ["data"], "{status}");

        let own = format!(r#"{{"type":"a.b","channels":["room:1"],"data":{data}}}"#);
        let kinds = [
            ("application/json", own),
            ("application/cloudevents+json", cloud_event(data)),
        ];
        for (kind, body) in kinds {
            let problem = post(&server, kind, &body).await.assert_problem(400);
            assert!(problem.to_string().contains("data"), "{problem}");
        }
        let batch = format!("[{}]", cloud_event(data));
        let answer = post(&server, "application/cloudevents-batch+json", &batch).await;
        assert_eq!(
            answer.json()[0]["error"]["code"],
            "invalid_argument",
            "{answer:?}"
        );
    }
    ws.lives().await;
}

#[tokio::test]
async fn odd_but_valid_json_passes_unchanged() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let filter = "data.severity > 3 && data.big == 9007199254740993 \
                  && data.most == 18446744073709551615u && data.nul == 'a\\u0000b' && data.twice == 2";
    ws.subscribe_with("room:1", json!({ "filter": filter }))
        .await;
    let data = concat!(
        r#"{"severity":5,"big":9007199254740993,"most":18446744073709551615,"nul":"a\u0000b","#,
        r#""twice":1,"twice":2,"tiny":1e-400,"e":"\ud83d\ude00","#,
        r#""$serde_json::private::RawValue":"{}"}"#
    );
    let mut request = event("room:1", "a.b", json!(null));
    request.data = data.into();
    server.publisher("service").await.send(request).await;
    let text = ws.expect_text("a.b").await;
    assert!(text.contains(data), "{text}");
}

#[tokio::test]
async fn duplicate_members_are_refused_by_name() {
    let server = Server::start(Config::rooms()).await;
    let body = r#"{"type":"a.b","data":1,"audience":{"users":["ann"]},"audience":null}"#;
    let problem = post(&server, "application/json", body)
        .await
        .assert_problem(400);
    assert!(problem.to_string().contains("audience"), "{problem}");
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.send_text(r#"{"type":"subscribe","channels":["room:1"],"channels":["room:2"]}"#)
        .await;
    let error = ws.expect("error").await;
    assert!(error.to_string().contains("channels"), "{error}");
}

#[tokio::test]
async fn byte_order_mark_is_ignored_but_refused_in_data() {
    let server = Server::start(Config::rooms()).await;
    let own = "\u{feff}{\"type\":\"a.b\",\"channels\":[\"room:1\"],\"data\":1}";
    let structured = format!("\u{feff}{}", cloud_event("1"));
    let batch = format!("\u{feff}[{}]", cloud_event("1"));
    for (kind, body) in [
        ("application/json", own),
        ("application/cloudevents+json", &structured),
        ("application/cloudevents-batch+json", &batch),
    ] {
        let answer = post(&server, kind, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let mut ws = server.ws().token("alice", &[]).connect().await;
    ws.send_text("\u{feff}{\"type\":\"ping\"}").await;
    ws.expect("pong").await;

    // Embedded unchanged in other JSON, it would be invalid.
    let mut request = event("room:1", "a.b", json!(null));
    request.data = "\u{feff}{}".into();
    let status = server.publisher("service").await.try_send(request).await;
    let status = status.unwrap_err();
    assert_eq!(refused_fields(&status), ["data"]);
    assert!(status.message().contains("byte order mark"), "{status}");
}

#[tokio::test]
async fn adjacent_large_user_numbers_are_distinct() {
    let server = Server::start(Config::rooms()).await;
    let token = |sub: &str| handmade(&format!(r#"{{"sub":{sub},"exp":4102444800}}"#));
    let user = async |sub: &str| -> Value {
        let ws: Ws = server.ws().bearer(&token(sub)).connect().await;
        ws.established["user"].clone()
    };
    for number in [
        "10000000000000000000001",
        "10000000000000000000002",
        "18446744073709551616",
        "9007199254740993",
        "7",
    ] {
        assert_eq!(user(number).await, number);
    }
    for spelling in ["1.0", "1e3", "1E+22", "-0"] {
        let refused = server.ws().bearer(&token(spelling)).upgrade().await;
        assert_eq!(refused.err(), Some(401), "{spelling}");
    }
}

#[tokio::test]
async fn rules_distinguish_large_claim_numbers() {
    let rule = "subscribe = 'id in claims.accounts || id == string(claims.account)'";
    let server = Server::start(Config::rooms().namespace("account", rule)).await;
    let claims = concat!(
        r#"{"sub":"ann","exp":4102444800,"account":110169484474386276334,"#,
        r#""accounts":[10000000000000000000001]}"#
    );
    let mut ws = server.ws().bearer(&handmade(claims)).connect().await;
    for own in [
        "account:110169484474386276334",
        "account:10000000000000000000001",
    ] {
        ws.subscribe(own).await;
    }
    for other in [
        "account:110169484474386276335",
        "account:10000000000000000000002",
        "account:1e22",
    ] {
        let message = json!({"type": "subscribe", "channels": [other]});
        let reply = ws.ask(message).await;
        assert!(reply.to_string().contains("permission_denied"), "{reply}");
    }
}

#[tokio::test]
async fn numeric_request_id_is_echoed_exactly() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    for id in [
        "18446744073709551616",
        "9007199254740993",
        "-1.50",
        "1e22",
        r#""a\\b""#,
    ] {
        ws.send_text(&format!(r#"{{"type":"ping","id":{id}}}"#))
            .await;
        let reply = ws.next_text().await;
        assert!(reply.contains(&format!(r#""id":{id}"#)), "{id}: {reply}");
    }
    for id in [r#""\ud83d""#, "1e400"] {
        ws.send_text(&format!(r#"{{"type":"ping","id":{id}}}"#))
            .await;
        let error = ws.expect("error").await;
        assert!(error.to_string().contains("id: "), "{error}");
    }
}

#[tokio::test]
async fn channel_template_accepts_integers_only() {
    let dialect = r#"
        [[dialect]]
        name = "spc"
        paths = ["/spc"]
        [[dialect.command]]
        name = "follow"
        does = "subscribe"
        channels = "room:{characteristic_ids}"
        echo = ["note"]
        "#;
    let server = Server::start(Config::rooms().dialects(dialect)).await;
    let mut ws = server.ws().path("/spc").token("alice", &[]).connect().await;
    ws.send_text(r#"{"type":"follow","characteristic_ids":[1,18446744073709551616,"1.0"]}"#)
        .await;
    let reply = ws.expect("subscribed").await;
    let channels = reply["channels"].as_array().unwrap();
    let channels: Vec<&str> = channels
        .iter()
        .filter_map(|c| c["channel"].as_str())
        .collect();
    assert_eq!(
        channels,
        ["room:1", "room:18446744073709551616", "room:1.0"]
    );
    for ids in ["[1.0]", "1e3", "[1,-0]", r#"["\ud83d"]"#] {
        ws.send_text(&format!(
            r#"{{"type":"follow","characteristic_ids":{ids}}}"#
        ))
        .await;
        let error = ws.expect("error").await;
        assert!(
            error.to_string().contains("characteristic_ids"),
            "{ids}: {error}"
        );
    }
    ws.send_text(r#"{"type":"follow","characteristic_ids":2,"note":"\ud83d"}"#)
        .await;
    let error = ws.expect("error").await;
    assert!(error.to_string().contains("note"), "{error}");
}

#[tokio::test]
async fn cloudevents_position_is_accepted_as_since() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    let offered = server.ws().token("alice", &[]).protocol("cloudevents.json");
    let mut ws = offered.connect().await;
    ws.subscribe("room:1").await;
    service.count("room:1", "count.up", 1..=2).await;
    let first = ws.expect("count.up").await;
    assert!(first["offset"].is_string(), "{first}");
    let since = json!({"epoch": first["epoch"], "offset": first["offset"]});

    let mut again = server
        .ws()
        .token("bob", &[])
        .protocol("cloudevents.json")
        .connect()
        .await;
    let joined = again
        .subscribe_with("room:1", json!({"since": {"room:1": since.clone()}}))
        .await;
    assert_eq!(joined["recovered"], true, "{joined}");
    assert_eq!(again.expect("count.up").await["data"]["n"], 2);
    let page = again
        .ask(json!({"type": "history", "channel": "room:1", "since": since}))
        .await;
    assert_eq!(page["events"].as_array().unwrap().len(), 1, "{page}");
}

#[tokio::test]
async fn subscription_burst_allows_all_channels() {
    for config in [
        Config::rooms(),
        Config::preset("spc").namespace("room", "subscribe = 'true'"),
    ] {
        let many = if config.args.is_empty() { 126 } else { 990 };
        let server = Server::start(config).await;
        let plain = server.ws().token("alice", &[]).protocol("tidings.v1.json");
        let mut ws = plain.connect().await;
        for n in 0..many {
            ws.send(json!({"type": "subscribe", "channels": [format!("room:{n}")], "id": n}))
                .await;
        }
        for n in 0..many {
            let reply = ws.expect("subscribed").await;
            assert_eq!(reply["id"], n, "{reply}");
        }
    }
}

#[tokio::test]
async fn unknown_transport_error_lists_transports() {
    let server = Server::start(Config::rooms()).await;
    let admin = Token::new("olga").roles(&["admin"]);
    let answer = server
        .get_as(&admin, "/api/v1/connections?transport=tcp")
        .await;
    let problem = answer.assert_problem(400).to_string();
    assert!(
        problem.contains("websocket, socketio, sse or grpc"),
        "{problem}"
    );
    let refused = server
        .cli(&["connections", "--transport", "tcp"])
        .run()
        .await
        .exits(1);
    assert!(refused.stderr.contains("socketio"), "{refused:?}");
    server
        .cli(&["connections", "--transport", "socketio"])
        .run()
        .await
        .exits(0);
}

#[tokio::test]
async fn bench_accepts_token() {
    let server = Server::start(Config::rooms()).await;
    let token = Token::new("bench").roles(&["service"]).sign();
    let done = Tidings::new(&["bench", "--token", &token, "--mode", "connect", "-c", "2"])
        .args(&["--url", &format!("ws://{}/ws", server.public)])
        .args(&["--grpc", &server.internal])
        .run()
        .await
        .exits(0);
    assert!(!done.stderr.contains("panicked"), "{done:?}");
}
