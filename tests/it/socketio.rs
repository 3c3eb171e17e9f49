//! Socket.IO with raw requests: the handshake, long polling, and refusals of both protocols.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Config, Server, Token, eventually};

async fn publish(server: &Server, channel: &str, data: &Value) {
    let token = Token::new("backend").roles(&["service"]).sign();
    let token = format!("Bearer {token}");
    let body = json!({ "channels": [channel], "type": "a.b", "data": data }).to_string();
    let headers = [("Authorization", token.as_str())];
    let answer = server
        .http(Method::POST, "/api/v1/events", &headers, &body)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn handshake_announces_limits() {
    let config = Config::socketio()
        .set("heartbeat.interval", r#""20s""#)
        .set("heartbeat.timeout", r#""50s""#)
        .set("limits.message_bytes", "5000");
    let server = Server::start(config).await;
    let client = server.polling().await;
    let expected = json!({
        "sid": client.sid, "upgrades": ["websocket"],
        "pingInterval": 20_000, "pingTimeout": 30_000, "maxPayload": 5000,
    });
    assert_eq!(client.handshake, expected);
    assert_ne!(client.sid, server.polling().await.sid);
    let mut direct = server.engine_ws("", &[]).await.unwrap();
    let open: Value = serde_json::from_str(&direct.text().await[1..]).unwrap();
    assert_eq!(open["upgrades"], json!([]));
    assert_eq!(open["pingInterval"], 20_000);
}

#[tokio::test]
async fn engineio_refusals_have_protocol_codes() {
    let server = Server::start(Config::socketio()).await;
    let known = server.polling().await;
    let of_known = format!("EIO=4&transport=polling&sid={}", known.sid);
    for (method, query, code, message) in [
        (Method::GET, "", 0, "Transport unknown"),
        (Method::GET, "EIO=4&transport=abc", 0, "Transport unknown"),
        (
            Method::GET,
            "EIO=4&transport=polling&sid=abc",
            1,
            "Session ID unknown",
        ),
        (
            Method::POST,
            "EIO=4&transport=polling&sid=abc",
            1,
            "Session ID unknown",
        ),
        (
            Method::POST,
            "EIO=4&transport=polling",
            2,
            "Bad handshake method",
        ),
        (
            Method::PUT,
            "EIO=4&transport=polling",
            2,
            "Bad handshake method",
        ),
        (Method::DELETE, of_known.as_str(), 3, "Bad request"),
        (
            Method::GET,
            "EIO=3&transport=polling",
            5,
            "Unsupported protocol version",
        ),
        (
            Method::GET,
            "transport=websocket",
            5,
            "Unsupported protocol version",
        ),
    ] {
        let answer = server.engine(method, query, "").await;
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        let expected = json!({ "code": code, "message": message });
        assert_eq!(answer.json(), expected, "{query}");
    }
    let plain = server.engine(Method::GET, "EIO=4&transport=websocket", "");
    assert_eq!(plain.await.status, 426, "a WebSocket needs its handshake");
    assert_eq!(server.engine_ws("&sid=abc", &[]).await.err(), Some(400));
    known.connect(&Token::new("ada")).await;
}

#[tokio::test]
async fn rooms_events_and_acks_work_by_polling() {
    let server = Server::start(Config::socketio()).await;
    let client = server.polling().await;
    client.connect(&Token::new("ada")).await;
    client
        .send(&[r#"427["subscribe",{"room":"room:1"}]"#, "3"])
        .await;
    let ack = client.until("437[").await;
    let body: Value = serde_json::from_str(&ack[3..]).unwrap();
    assert_eq!(body[0]["channels"][0]["channel"], "room:1");
    assert_eq!(body[0]["room"], "room:1");
    for n in 1..=3 {
        publish(&server, "room:1", &json!({ "n": n })).await;
    }
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(client.packets().await);
    }
    for (packet, n) in seen.iter().zip(1..) {
        let event: Value = serde_json::from_str(&packet[2..]).unwrap();
        assert_eq!(event[0], "a.b");
        assert_eq!(event[1]["data"], json!({ "n": n }));
        assert_eq!(event[1]["offset"], n);
    }
    let mut other = server.socketio(&Token::new("eve")).await;
    other.send(r#"420["subscribe",{"room":"room:1"}]"#).await;
    other.until("430[").await;
    publish(&server, "room:1", &json!({ "n": 4 })).await;
    let framed = other.until("42[\"a.b\"").await;
    assert_eq!(
        client.packets().await,
        [framed],
        "the packets are the same by every transport"
    );
}

#[tokio::test]
async fn packets_of_one_payload_are_answered_in_order() {
    let config = Config::socketio()
        .set("history.storage", r#""disk""#)
        .set("limits.messages_burst", "1000");
    let server = Server::start(config).await;
    let client = server.polling().await;
    client.connect(&Token::new("ada")).await;
    // Each publish is answered when it is on disk, and the rest of the payload waits for it.
    let packets: Vec<String> = (0..200)
        .map(|n| {
            format!(
                r#"42{n}["publish",{{"channel":"room:1","event_type":"a.b","data":{{"n":{n}}}}}]"#
            )
        })
        .collect();
    let packets: Vec<&str> = packets.iter().map(String::as_str).collect();
    client.send(&packets).await;
    let mut acks = Vec::new();
    while acks.len() < 200 {
        acks.extend(client.packets().await);
    }
    for (n, ack) in acks.iter().enumerate() {
        assert!(ack.starts_with(&format!("43{n}[{{")), "{n}: {ack}");
        assert!(ack.contains(&format!("\"offset\":{}", n + 1)), "{ack}");
    }
}

#[tokio::test]
async fn missing_namespace_or_token_is_named() {
    let server = Server::start(Config::socketio()).await;
    let token = Token::new("ada").sign();
    let mut client = server.engine_ws("", &[]).await.unwrap();
    client.until("0{").await;
    for (packet, namespace, code) in [
        ("40".to_owned(), "", "unauthenticated"),
        (
            r#"40/ws,{"token":"x.y.z"}"#.to_owned(),
            "/ws,",
            "unauthenticated",
        ),
        (r#"40{"token":7}"#.to_owned(), "", "invalid_argument"),
        (
            format!(r#"40/else,{{"token":"{token}"}}"#),
            "/else,",
            "not_found",
        ),
    ] {
        client.send(&packet).await;
        let refusal = client.text().await;
        let body = refusal
            .strip_prefix(&format!("44{namespace}"))
            .expect("a refusal in that namespace");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["data"]["code"], code, "{body}");
        assert!(body["message"].is_string());
    }
    // The same connection may retry.
    client
        .send(&format!(r#"40/ws,{{"token":"{token}"}}"#))
        .await;
    assert!(client.text().await.starts_with("40/ws,{\"sid\":"));
    let greeting = client.text().await;
    assert!(greeting.starts_with("42/ws,[\"connection_established\","));
    client.send(r#"42/ws,1["ping"]"#).await;
    client.until("43/ws,1[{").await;
    // Messages to a namespace that the client has not joined are ignored.
    client.send(r#"422["ping"]"#).await;
    client.send(&format!(r#"40{{"token":"{token}"}}"#)).await;
    let refusal = client.text().await;
    assert!(refusal.starts_with("44{"), "{refusal}");
    assert!(refusal.contains("forceNew"), "{refusal}");
    client.send(r#"42/ws,3["ping"]"#).await;
    client.until("43/ws,3[{").await;
}

#[tokio::test]
async fn anonymous_socketio_connects_if_allowed() {
    let config = Config::socketio().set("auth.required", "false");
    let server = Server::start(config).await;
    let mut client = server.engine_ws("", &[]).await.unwrap();
    client.until("0{").await;
    client.send("40").await;
    client.until("40{").await;
    let greeting = client.until("42[\"connection_established\"").await;
    assert!(greeting.contains("\"user\":null"), "{greeting}");
}

#[tokio::test]
async fn socketio_leaves_other_websocket_path_unchanged() {
    let server = Server::start(Config::socketio()).await;
    server.ws().token("ada", &[]).connect().await.lives().await;
    let handshake = server.get("/ws?EIO=4&transport=polling").await;
    assert_eq!(handshake.status, 200);
    assert!(handshake.text().starts_with("0{"));
    for path in ["/ws/socket.io", "/ws/socket.io/", "/ws/", "/socket.io"] {
        let path = format!("{path}?EIO=4&transport=polling");
        assert_eq!(server.get(&path).await.status, 200, "{path}");
    }
    server.get("/ws").await.assert_problem(426);
    let none = Server::start(Config::rooms()).await;
    none.get("/socket.io/?EIO=4&transport=polling")
        .await
        .assert_problem(404);
}

#[tokio::test]
async fn socketio_checks_origin_list() {
    let listed = "https://app.example.com";
    let config = Config::socketio().set("public.allowed_origins", &format!("[{listed:?}]"));
    let server = Server::start(config).await;
    let query = "EIO=4&transport=polling";
    let ask = async |method: Method, headers: &[(&str, &str)]| {
        server.engine_with(method, query, headers, "").await
    };
    let allowed = ask(Method::GET, &[("Origin", listed)]).await;
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.header("access-control-allow-origin"), listed);
    assert_eq!(allowed.header("access-control-allow-credentials"), "true");
    let other = ask(Method::GET, &[("Origin", "https://evil.example")]).await;
    assert_eq!(other.status, 403);
    assert_eq!(other.json(), json!({ "code": 4, "message": "Forbidden" }));
    assert_eq!(other.header("access-control-allow-origin"), "");
    let preflight = [
        ("Origin", listed),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,x-own"),
    ];
    let answer = ask(Method::OPTIONS, &preflight).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("access-control-allow-headers"),
        "authorization,x-own"
    );
    let socket = server
        .engine_ws("", &[("Origin", "https://evil.example")])
        .await;
    assert_eq!(socket.err(), Some(403));
    assert!(server.engine_ws("", &[("Origin", listed)]).await.is_ok());
}

#[tokio::test]
async fn wildcard_origin_allows_no_credentials() {
    let config = Config::socketio().set("public.allowed_origins", r#"["*"]"#);
    let server = Server::start(config).await;
    let headers = [("Origin", "https://any.example")];
    let answer = server
        .engine_with(Method::GET, "EIO=4&transport=polling", &headers, "")
        .await;
    let allowed = answer.header("access-control-allow-origin");
    assert_eq!(allowed, "https://any.example");
    assert_eq!(answer.header("access-control-allow-credentials"), "");
}

#[tokio::test]
async fn transport_is_reported_as_socketio() {
    let server = Server::start(Config::socketio()).await;
    let client = server.polling().await;
    client.connect(&Token::new("ada")).await;
    let connections = r#"tidings_connections{transport="socketio"}"#;
    assert_eq!(server.metric(connections).await, 1);
    assert_eq!(server.metric("tidings_polling_sessions").await, 1);
    let admin = Token::new("root").roles(&["admin"]);
    let path = "/api/v1/connections?transport=socketio";
    let listed = server.get_as(&admin, path).await.json();
    assert_eq!(listed["connections"][0]["user"], "ada", "{listed}");
    client.send(&["1"]).await;
    eventually("it is gone", async || {
        let now =
            server.metric(connections).await + server.metric("tidings_polling_sessions").await;
        (now == 0).then_some(())
    })
    .await;
}
