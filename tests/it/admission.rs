//! Admission on the fast path and through hyper: upgrade requests that arrive in one piece are
//! parsed directly, others by hyper, and the answers are the same. A request is rejected with the
//! same code on every transport.

use http::Method;
use serde_json::Value;
use tidings::proto::SubscribeRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{
    Answer, Config, Server, Token, masked, raw_request, socketio::connect_packet, within,
};

/// Makes the head too long for the fast path, so that hyper reads it.
fn padding() -> String {
    format!("X-Padding: {}\r\n", "a".repeat(5000))
}

/// The head of an upgrade without its end.
const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A request after which hyper closes the connection.
const LAST: &str = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn bearer(token: &Token) -> String {
    format!("Authorization: Bearer {}\r\n", token.sign())
}

/// A response without the parts that vary.
fn timeless(answer: &str) -> String {
    let lines = answer.split("\r\n");
    let lines = lines.filter(|line| !line.starts_with("date: "));
    lines.collect::<Vec<_>>().join("\r\n")
}

/// The head of the response, and the stream after it.
async fn answered(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    within("an answer", async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
    })
    .await;
    String::from_utf8(head).unwrap()
}

/// Reads text frames until one contains this.
async fn until(stream: &mut TcpStream, text: &str) {
    let mut received = Vec::new();
    within(text, async {
        while !String::from_utf8_lossy(&received).contains(text) {
            let count = stream.read_buf(&mut received).await.unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&received));
        }
    })
    .await;
}

#[tokio::test]
async fn fast_path_and_hyper_answer_alike() {
    let server = Server::start(Config::rooms()).await;
    let good = bearer(&Token::new("alice"));
    let bad = bearer(&Token::new("alice").secret("another secret of thirty-two bytes"));
    let evil = "Origin: https://evil.example.com\r\n";
    let same = "Origin: http://a\r\n";
    let without = |line: &str| UPGRADE.replace(line, "");
    let with = |line: &str, other: &str| UPGRADE.replace(line, other);
    for (request, status) in [
        (
            without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
            400,
        ),
        (with("Key: dGhl", "Key: dGhlcnM"), 400),
        (format!("{UPGRADE}Sec-WebSocket-Protocol: a b\r\n"), 400),
        (with("Host: a", "Host: a\r\nHost: b"), 400),
        (with("Host: a", "Host: user@a"), 400),
        (without("Host: a\r\n"), 400),
        (with("/ws", "/ws?token=x"), 401),
        (format!("{UPGRADE}{bad}"), 401),
        (format!("{UPGRADE}{good}{good}"), 401),
        (format!("{UPGRADE}{good}{evil}"), 403),
        (with("/ws", "/ws/else"), 404),
        (with("/ws", "/ws/"), 404),
        (with("GET", "POST"), 405),
        (with("Version: 13", "Version: 8"), 426),
        (without("Upgrade: websocket\r\n"), 426),
        (with("Upgrade: websocket", "Upgrade: h2c"), 426),
        (with("Connection: Upgrade", "Connection: keep-alive"), 426),
        (with("Connection: Upgrade", "Connection: close"), 426),
        (with("HTTP/1.1", "HTTP/1.0"), 426),
        (format!("{UPGRADE}No header\r\n"), 400),
        // A page is upgraded so that it can read the close code.
        (format!("{UPGRADE}{bad}{same}"), 101),
    ] {
        let last = if status == 101 { "" } else { LAST };
        let whole = raw_request(&server.public, &format!("{request}\r\n{last}")).await;
        let padded = format!("{request}{}\r\n{last}", padding());
        let by_http = raw_request(&server.public, &padded).await;
        assert_eq!(
            whole.get(9..12),
            Some(&*status.to_string()),
            "{request}: {whole}"
        );
        assert_eq!(timeless(&whole), timeless(&by_http), "{request}");
    }
}

#[tokio::test]
async fn fast_path_and_hyper_refuse_alike_at_capacity() {
    for (key, status) in [
        ("limits.connections", "503"),
        ("limits.connections_per_ip", "429"),
        ("limits.connections_per_user", "429"),
    ] {
        let server = Server::start(Config::rooms().set(key, "1")).await;
        let _held = server.raw_ws(&Token::new("alice")).await;
        let request = format!("{UPGRADE}{}", bearer(&Token::new("alice")));
        let whole = raw_request(&server.public, &format!("{request}\r\n{LAST}")).await;
        let padded = format!("{request}{}\r\n{LAST}", padding());
        let by_http = raw_request(&server.public, &padded).await;
        assert_eq!(whole.get(9..12), Some(status), "{key}: {whole}");
        assert!(whole.contains("application/problem+json"), "{whole}");
        assert_eq!(timeless(&whole), timeless(&by_http), "{key}");
    }
}

#[tokio::test]
async fn split_upgrade_head_is_answered_alike() {
    let server = Server::start(Config::rooms()).await;
    let upgrade = UPGRADE.replace("Connection: Upgrade", "Connection: keep-alive, Upgrade");
    let request = format!(
        "{upgrade}{}Sec-WebSocket-Protocol: other, tidings.v1.json\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12\r\n",
        bearer(&Token::new("alice"))
    );
    let whole = format!("{request}\r\n");
    let padded = format!("{request}{}\r\n", padding());
    let middle = whole.len() / 2;
    let (first, second) = whole.split_at(middle);
    let bytes: Vec<&str> = whole.split_inclusive(|_: char| true).collect();
    let mut answers = Vec::new();
    for pieces in [vec![&*whole], vec![&*padded], vec![first, second], bytes] {
        let mut stream = TcpStream::connect(&server.public).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            stream.write_all(piece.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
        answers.push(timeless(&answered(&mut stream).await));
        // The welcome message is compressed. A ping is still answered.
        stream.write_all(&masked(0x89, b"there?")).await.unwrap();
        until(&mut stream, "there?").await;
    }
    let first = &answers[0];
    assert!(
        first.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{first}"
    );
    assert!(
        first.contains("\r\nsec-websocket-protocol: tidings.v1.json\r\n"),
        "{first}"
    );
    assert!(first.contains("server_max_window_bits=12"), "{first}");
    for other in &answers {
        assert_eq!(first, other);
    }
}

#[tokio::test]
async fn frames_sent_with_head_are_read() {
    let server = Server::start(Config::rooms()).await;
    let token = bearer(&Token::new("alice"));
    let subscribe = masked(
        0x81,
        br#"{"type":"subscribe","id":1,"channels":["room:1"]}"#,
    );
    let ping = masked(0x81, br#"{"type":"ping","id":2}"#);
    let (half, rest) = ping.split_at(7);
    for padding in [String::new(), padding()] {
        let mut stream = TcpStream::connect(&server.public).await.unwrap();
        let head = format!("{UPGRADE}{token}{padding}\r\n");
        // One and a half frames with the head, the other half once those are handled.
        let all = [head.as_bytes(), &subscribe, half].concat();
        stream.write_all(&all).await.unwrap();
        assert!(answered(&mut stream).await.starts_with("HTTP/1.1 101 "));
        until(&mut stream, "subscribed").await;
        stream.write_all(rest).await.unwrap();
        until(&mut stream, "pong").await;
    }
}

#[tokio::test]
async fn connection_survives_refused_upgrade() {
    let server = Server::start(Config::rooms()).await;
    let refused = format!("{UPGRADE}Origin: https://evil.example.com\r\n");
    for padding in [String::new(), padding()] {
        let both = format!("{refused}{padding}\r\n{LAST}");
        let answer = raw_request(&server.public, &both).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 1, "{answer}");
        // Another attempt on the same connection is admitted.
        let again = format!("{}{}", UPGRADE, bearer(&Token::new("alice")));
        let mut stream = TcpStream::connect(&server.public).await.unwrap();
        let both = format!("{refused}{padding}\r\n{again}\r\n");
        stream.write_all(both.as_bytes()).await.unwrap();
        assert!(answered(&mut stream).await.starts_with("HTTP/1.1 403 "));
        until(&mut stream, "connection_established").await;
    }
    // Each was counted and logged once.
    let denied = "tidings_errors_total{code=\"permission_denied\"}";
    assert_eq!(server.metric(denied).await, 4);
}

#[tokio::test]
async fn oversized_head_is_refused_on_websocket() {
    let server = Server::start(Config::rooms()).await;
    let many = "X: y\r\n".repeat(100);
    let long = format!("X: {}\r\n", "a".repeat(100_000));
    for headers in [many, long] {
        let answer = raw_request(&server.public, &format!("{UPGRADE}{headers}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    server.raw_ws(&Token::new("alice")).await;
}

/// The code with which each transport rejects a client with this token and these headers.
async fn rejections(server: &Server, token: &Token, headers: &[(&str, &str)]) -> Vec<Rejected> {
    let bearer = format!("Bearer {}", token.sign());
    let mut headers = headers.to_vec();
    headers.push(("Authorization", &bearer));
    let code = |answer: &Answer| match answer.json()["code"].as_str() {
        Some(code) => code.to_owned(),
        // Engine.IO numbers its refusals itself: 4 is "Forbidden".
        None if answer.json()["code"] == 4 => "permission_denied".to_owned(),
        None => panic!("{answer:?}"),
    };
    let websocket = server.refused_upgrade("/ws", &headers).await;
    let path = "/sse?channel=room:1";
    let sse = server.http(Method::GET, path, &headers, "").await;
    let query = "EIO=4&transport=polling";
    let polling = server.engine_with(Method::GET, query, &headers, "").await;
    let socketio = if polling.status == 200 {
        // Pages can't read a status: the client is told as it connects to the namespace.
        ("socketio", told_on_connect(server, token).await, None)
    } else {
        ("socketio", code(&polling), Some(polling.status))
    };
    let follow = SubscribeRequest::default();
    let status = server.events(Some(token)).await.subscribe(follow).await;
    let grpc = match status.map_err(|status| status.code()) {
        Ok(_) => "ok",
        Err(tonic::Code::ResourceExhausted) => "resource_exhausted",
        Err(tonic::Code::Unauthenticated) => "unauthenticated",
        Err(tonic::Code::Unavailable) => "unavailable",
        Err(other) => panic!("{other:?}"),
    };
    vec![
        ("websocket", code(&websocket), Some(websocket.status)),
        ("sse", code(&sse), Some(sse.status)),
        socketio,
        ("grpc", grpc.to_owned(), None),
    ]
}

/// The transport, the code, and the HTTP status where the transport answers with one.
type Rejected = (&'static str, String, Option<u16>);

/// The code of the `CONNECT_ERROR` that a Socket.IO client gets.
async fn told_on_connect(server: &Server, token: &Token) -> String {
    let client = server.polling().await;
    client.send(&[&connect_packet(token)]).await;
    let refusal = client.until("44").await;
    let refusal: Value = serde_json::from_str(&refusal[2..]).unwrap();
    refusal["data"]["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_rejection_has_one_code_on_every_transport() {
    let good = || Token::new("alice");
    let wrong = Token::new("alice").secret("another secret of thirty-two bytes");
    for (key, most, token, code, status) in [
        ("connections", "1", good(), "resource_exhausted", 503),
        ("connections_per_ip", "1", good(), "resource_exhausted", 429),
        (
            "connections_per_user",
            "1",
            good(),
            "resource_exhausted",
            429,
        ),
        ("connections", "9", wrong, "unauthenticated", 401),
    ] {
        let key = format!("limits.{key}");
        let server = Server::start(Config::socketio().set(&key, most)).await;
        let _held = server.raw_ws(&good()).await;
        for (transport, found, found_status) in rejections(&server, &token, &[]).await {
            assert_eq!(found, code, "{key} on {transport}");
            assert_eq!(
                found_status.unwrap_or(status),
                status,
                "{key} on {transport}"
            );
        }
    }
}

#[tokio::test]
async fn foreign_origin_is_rejected_before_token_check() {
    let server = Server::start(Config::socketio()).await;
    let wrong = Token::new("alice").secret("another secret of thirty-two bytes");
    let evil = [("Origin", "https://evil.example.com")];
    for (transport, code, status) in rejections(&server, &wrong, &evil).await {
        // The gRPC client sends no `Origin`.
        if transport != "grpc" {
            assert_eq!(code, "permission_denied", "{transport}");
            assert_eq!(status, Some(403), "{transport}");
        }
    }
}

#[tokio::test]
async fn draining_server_rejects_before_other_checks() {
    let config = Config::socketio().set("limits.connections", "1");
    let server = Server::start(config.arg("--drain").arg("60s")).await;
    // It never answers the close: the server waits for it.
    let mut lingers = server.raw_ws(&Token::new("bob")).await;
    server.signal("TERM");
    assert_eq!(lingers.close_code().await, 1012);
    let evil = [("Origin", "https://evil.example.com")];
    for (transport, code, status) in rejections(&server, &Token::new("alice"), &evil).await {
        assert_eq!(code, "unavailable", "{transport}");
        assert_eq!(status.unwrap_or(503), 503, "{transport}");
    }
}

#[tokio::test]
async fn full_server_rejects_without_token_check() {
    let server = Server::start(Config::socketio().set("limits.connections", "1")).await;
    let _held = server.raw_ws(&Token::new("alice")).await;
    let wrong = Token::new("alice").secret("another secret of thirty-two bytes");
    for (transport, code, _) in rejections(&server, &wrong, &[]).await {
        // gRPC verifies the token of each call before it reads the message.
        let expected = if transport == "grpc" {
            "unauthenticated"
        } else {
            "resource_exhausted"
        };
        assert_eq!(code, expected, "{transport}");
    }
}
