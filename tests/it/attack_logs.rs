//! Attacks on logs: forging lines and extracting secrets.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Config, Server, Token, eventually, raw_request};

/// Ends the line, starts another one, changes colour, and rings the bell.
const FORGERY: &str = "x\r\n2026-11-21T10:00:00Z INFO forged=1\u{1b}[31m\u{7}\u{0}\u{85}\u{2028}";

/// What no log may contain, whoever sent it.
const PIN: &str = "pin-4711";

#[tokio::test]
async fn log_lines_cannot_be_forged_or_leak_secrets() {
    for format in ["text", "json"] {
        let config = Config::rooms()
            .set("audit.file", r#""audit.log""#)
            .set("telemetry.log_format", &format!("{format:?}"))
            .env("RUST_LOG", "info,tidings=trace");
        let server = Server::start(config).await;
        let calm = server.calm().await;
        over_http(&server).await;
        over_websocket(&server).await;
        by_signed_names(&server).await;
        let audit = eventually("the audit log", async || {
            let text = std::fs::read_to_string(server.path("audit.log")).unwrap();
            text.ends_with('\n').then_some(text)
        })
        .await;
        for line in audit.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert!(line["event"].is_string(), "{line}");
        }
        for reported in [server.log(), server.printed(), audit] {
            let forged = reported
                .lines()
                .find(|line| line.starts_with("2026-11-21T10:00:00Z INFO"));
            assert_eq!(forged, None);
            assert!(
                !reported.contains(PIN),
                "{format}: a payload or a token is in the log"
            );
        }
        calm.comes_back().await;
    }
}

async fn over_http(server: &Server) {
    let admin = Token::new("root").roles(&["admin", "service"]);
    for path in [
        "/%0d%0a2026-11-21T10:00:00Z%20INFO%20forged=1",
        "/%1b%5b31m",
        "/api/v1/connections?user=%0a2026-11-21T10:00:00Z%20INFO&role=%1b[31m",
        "/api/v1/connections/%0a2026-11-21T10:00:00Z%20INFO",
        "/api/v1/channels/room:%0a/history",
        "/api/v1/catalog/%0a%1b[31m",
        "/sse?channel=room:%0a&filter=%0a%1b[31m&token=pin-4711.pin-4711.pin-4711",
        "/ws?token=pin-4711",
        "/openapi.json?token=pin-4711",
    ] {
        let answer = server.get_as(&admin, path).await;
        assert!(answer.status < 500, "{path}: {answer:?}");
    }
    for header in [
        "User-Agent: \u{1b}[31mred",
        "X-Forwarded-For: \u{1b}[31m, 1.2.3.4",
        "Origin: http://\u{1b}[31m",
        "Sec-WebSocket-Protocol: \u{1b}[31m, bearer.pin-4711",
        "Authorization: Bearer \u{1b}[31mpin-4711",
        "Authorization: Basic pin-4711",
        "Traceparent: 00-\u{1b}[31m",
        "Content-Type: \u{1b}[31m",
        "X: a\r\n2026-11-21T10:00:00Z INFO: forged",
        "X: a\n2026-11-21T10:00:00Z INFO: forged",
        "X: a\rb",
        "X\u{0}: a",
    ] {
        for path in ["/ws", "/sse?channel=room:1", "/api/v1/stats"] {
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\n{header}\r\n\r\n"
            );
            let answer = raw_request(&server.public, &request).await;
            assert!(answer.starts_with("HTTP/1.1 4"), "{header:?}: {answer}");
            assert!(!answer.contains('\u{1b}'), "{header:?}: {answer}");
        }
    }
    // Not HTTP at all.
    for noise in [
        "\u{1b}[31m\r\n\r\n",
        "GET\r\n\r\n",
        "\u{16}\u{3}\u{1}\r\n\r\n",
    ] {
        raw_request(&server.public, noise).await;
    }
    let token = format!("Bearer {}", admin.sign());
    let headers = [
        ("Authorization", token.as_str()),
        ("Content-Type", "application/json"),
    ];
    let body = json!({"type": FORGERY, "channels": [FORGERY], "data": PIN}).to_string();
    let answer = server
        .http(Method::POST, "/api/v1/events", &headers, &body)
        .await;
    answer.assert_problem(400);
}

async fn over_websocket(server: &Server) {
    let mut eve = server.ws().token("eve", &[]).connect().await;
    for message in [
        json!({"type": FORGERY}),
        json!({"type": "ping", "id": FORGERY}),
        json!({"type": "register", "client_type": FORGERY}),
        json!({"type": "register", "client_type": "\u{9b}31m"}),
        json!({"type": "subscribe", "channels": [FORGERY, "room:1"], "since": {FORGERY: {"epoch": FORGERY, "offset": 1}}}),
        json!({"type": "subscribe", "channels": ["project:1", FORGERY], "filter": FORGERY}),
        json!({"type": "subscribe", "channels": ["room:1"], "event_types": [FORGERY]}),
        json!({"type": "publish", "channel": FORGERY, "event_type": FORGERY, "data": PIN}),
        json!({"type": "publish", "channel": "project:1", "event_type": "a.b", "data": PIN, "key": FORGERY,
            "traceparent": FORGERY}),
        json!({"type": "authenticate", "token": PIN}),
        json!({"type": "authenticate", "token": format!("{PIN}.{FORGERY}.{PIN}")}),
    ] {
        eve.send(message).await;
        eve.lives().await;
    }
    eve.close().await;
}

async fn by_signed_names(server: &Server) {
    // The token's issuer may sign any name. One with control characters counts as no user.
    let name = format!("mallory{FORGERY}");
    let refused = server
        .ws()
        .bearer(&Token::new(&name).sign())
        .upgrade()
        .await;
    assert_eq!(refused.err(), Some(401));
    // The rest may be any text, and is logged.
    let odd = Token::new("\u{2028}mallory \"=\\ ä")
        .claim(FORGERY, json!(FORGERY))
        .claim("pin", json!(PIN));
    let mut ws = server.ws().bearer(&odd.sign()).connect().await;
    ws.ask(json!({"type": "subscribe", "channels": ["project:1"]}))
        .await;
    let mut service = server.publisher_as(&odd).await;
    let event = crate::harness::event("project:1", "a.b", json!(PIN));
    assert!(service.try_send(event).await.is_err());
    let admin = format!("Bearer {}", Token::new("root").roles(&["admin"]).sign());
    let path = format!("/api/v1/connections/{}?reason=a%0d%0a%1b[31m", ws.id());
    let headers = [("Authorization", admin.as_str())];
    let answer = server.http(Method::DELETE, &path, &headers, "").await;
    assert!(matches!(answer.status, 204 | 400), "{answer:?}");
}

#[tokio::test]
async fn logs_have_user_and_reason_of_connections() {
    for format in ["text", "json"] {
        let config = Config::rooms()
            .set("telemetry.log_format", &format!("{format:?}"))
            .env("RUST_LOG", "info,tidings=debug");
        let server = Server::start(config).await;
        server.ws().connect().await.close().await;
        server
            .ws()
            .token("alice", &[])
            .connect()
            .await
            .close()
            .await;
        let expired = Token::new("alice").expires_in(-3600).sign();
        let refused = server.ws().bearer(&expired).upgrade().await;
        assert_eq!(refused.err(), Some(401));
        let mut ws = server.ws().connect().await;
        let message = json!({"type": "authenticate", "token": expired});
        ws.refused(message, "unauthenticated").await;
        let log = eventually("the lines", async || {
            let log = server.log();
            let count = |part: &str| log.matches(part).count();
            (count("disconnected") == 2 && count("was rejected") == 2).then(|| log.clone())
        })
        .await;
        assert!(!log.contains("None"), "{log}");
        if format == "text" {
            assert!(log.contains(r#"user="alice""#), "{log}");
            assert!(log.contains(r#"reason="the token has expired""#), "{log}");
            continue;
        }
        let lines: Vec<Value> = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let reported = |message: &str| {
            let of = lines.iter().filter(|line| line["message"] == message);
            of.collect::<Vec<_>>()
        };
        for line in reported("connected")
            .into_iter()
            .chain(reported("disconnected"))
        {
            assert!(line["user"].is_null() || line["user"] == "alice", "{line}");
            assert_eq!(line["transport"], "websocket", "{line}");
        }
        let [nobody, alice] = reported("disconnected")[..] else {
            panic!("{log}")
        };
        assert!(nobody["user"].is_null(), "{nobody}");
        assert_eq!(
            (&alice["user"], &alice["by"]),
            (&json!("alice"), &json!("client"))
        );
        for line in reported("a client was rejected") {
            assert_eq!(line["code"], "unauthenticated", "{line}");
            assert_eq!(line["reason"], "the token has expired", "{line}");
        }
    }
}
