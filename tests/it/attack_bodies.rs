//! Attacks with unfinished bodies.
//!
//! Their memory is limited by `limits.body_bytes` and related limits. Unauthenticated clients get
//! none.

use std::fs;
use std::io::Write as _;

use axum::body::Body;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use serde_json::json;
use tidings::proto::PublishRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

use crate::harness::http2::{DATA, END_HEADERS, END_STREAM, HEADERS, Outcome, call, fields, frame};
use crate::harness::{Config, Http2, Server, Token, event, eventually, within};

/// The resident memory of the process, in MiB.
fn memory(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process())).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kib.parse::<u64>().unwrap() / 1024
}

fn bearer(user: &str) -> String {
    format!("Bearer {}", Token::new(user).roles(&["service"]).sign())
}

/// An unfinished message of 15 MB, sent as fast as the server's windows allow.
fn large() -> Body {
    let mut head = vec![0];
    head.extend(15_000_000_u32.to_be_bytes());
    let piece = Bytes::from(vec![b'x'; 16 * 1024]);
    let pieces = std::iter::once(Bytes::from(head)).chain(std::iter::repeat_n(piece, 900));
    let pieces = tokio_stream::iter(pieces.map(Ok::<_, std::io::Error>));
    Body::from_stream(pieces.chain(tokio_stream::pending()))
}

/// Calls on one connection with unfinished messages. Refused calls report their status.
struct Unfinished {
    answers: mpsc::Receiver<String>,
    /// The connection, and the calls in progress.
    _tasks: JoinSet<()>,
}

impl Unfinished {
    async fn begin(server: &Server, token: Option<&str>, calls: usize) -> Self {
        let socket = TcpStream::connect(&server.internal).await.unwrap();
        let client =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
        let (sender, connection) = client.await.unwrap();
        let (answer, answers) = mpsc::channel(calls);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(connection.await) });
        for _ in 0..calls {
            let mut request = Request::post("http://localhost/tidings.v1.EventService/Publish")
                .header("content-type", "application/grpc")
                .header("te", "trailers");
            if let Some(token) = token {
                request = request.header("authorization", token);
            }
            let request = request.body(large()).unwrap();
            let (mut sender, answer) = (sender.clone(), answer.clone());
            tasks.spawn(async move {
                if let Ok(response) = sender.send_request(request).await {
                    let status = response.headers().get("grpc-status");
                    let status = status.map_or("", |status| status.to_str().unwrap());
                    let _ = answer.send(status.to_owned()).await;
                }
            });
        }
        Unfinished {
            answers,
            _tasks: tasks,
        }
    }

    /// Waits until this many calls are refused, each with this status.
    async fn refused(&mut self, count: usize, status: &str) {
        for n in 0..count {
            let answer = within("a refusal", self.answers.recv()).await;
            assert_eq!(answer.as_deref(), Some(status), "the answer {n} of {count}");
        }
    }
}

#[tokio::test]
async fn unauthenticated_calls_are_refused_before_body() {
    let server = Server::start(Config::rooms()).await;
    let calm = server.calm().await;
    let before = memory(&server);
    for token in [None, Some("Bearer garbage"), Some("Basic YTpi")] {
        let mut eve = Unfinished::begin(&server, token, 120).await;
        eve.refused(120, "16").await;
        server.serves_promptly().await;
    }
    assert!(memory(&server) < before + 64, "{} MiB", memory(&server));
    let refused = server.metric("tidings_errors_total{code=\"unauthenticated\"}");
    assert_eq!(refused.await, 360);
    calm.comes_back().await;
}

#[tokio::test]
async fn unfinished_messages_are_limited_per_user() {
    let server = Server::start(Config::rooms()).await;
    let calm = server.calm().await;
    let before = memory(&server);
    let token = bearer("eve");
    // Two of 15 MB fit the limit of a connection, and four that of a user.
    let mut attack = Vec::new();
    for _ in 0..2 {
        let mut eve = Unfinished::begin(&server, Some(&token), 30).await;
        eve.refused(28, "8").await;
        attack.push(eve);
    }
    let mut eve = Unfinished::begin(&server, Some(&token), 30).await;
    eve.refused(30, "8").await;
    for limit in ["body_bytes_per_connection", "body_bytes_per_user"] {
        let series = format!("tidings_limit_reached_total{{limit=\"{limit}\"}}");
        assert!(server.metric(&series).await > 0, "{limit}");
    }
    // Another user's large event is accepted, and so are small ones.
    let mut other = server.publisher("service").await;
    let large = json!("y".repeat(1_000_000));
    other.publish("room:1", "large.one", large).await;
    server.serves_promptly().await;
    assert!(memory(&server) < before + 96, "{} MiB", memory(&server));
    drop((eve, attack));
    eventually("the share to be free again", async || {
        let mut eve = server
            .publisher_as(&Token::new("eve").roles(&["service"]))
            .await;
        let large = json!("y".repeat(1_000_000));
        let sent = eve.try_send(event("room:2", "after.all", large)).await;
        sent.is_ok().then_some(())
    })
    .await;
    calm.comes_back().await;
}

#[tokio::test]
async fn refused_message_names_config_key() {
    let config = Config::rooms()
        .set("limits.body_bytes_per_user", "100000")
        .set("limits.body_bytes_per_connection", "90000");
    let server = Server::start(config).await;
    let token = bearer("eve");
    let mut eve = Http2::connect(&server.internal).await;
    let head = call("EventService/Publish", &[("authorization", &token)]);
    let begun = |stream: u32| {
        let mut message = vec![0];
        message.extend(80_000_u32.to_be_bytes());
        message.resize(1000, b'x');
        frame(DATA, 0, stream, &message)
    };
    for stream in [1, 3] {
        eve.send(&frame(HEADERS, END_HEADERS, stream, &head)).await;
        eve.send(&begun(stream)).await;
    }
    // One of them, whichever was second.
    while eve.next().await.expect("an answer").kind != HEADERS {}
    let series = "tidings_limit_reached_total{limit=\"body_bytes_per_connection\"}";
    assert_eq!(server.metric(series).await, 1);
    // HTTP has the same limit and reports it.
    let post = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 50000\r\n\r\n"
    );
    let mut slow = TcpStream::connect(&server.public).await.unwrap();
    slow.write_all(post.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let count = slow.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..count]);
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    assert!(answer.contains("limits.body_bytes_per_user"), "{answer}");
    assert!(
        answer.to_ascii_lowercase().contains("retry-after: 1"),
        "{answer}"
    );
    drop(eve);
}

#[tokio::test]
async fn slow_posts_are_limited_per_user() {
    let server = Server::start(Config::rooms()).await;
    let calm = server.calm().await;
    let before = memory(&server);
    let token = bearer("eve");
    let batch = "application/cloudevents-batch+json";
    let paths = [
        ("/api/v1/events", "application/json"),
        ("/api/v1/events", batch),
        ("/websocket/broadcast", "application/json"),
        ("/api/v1/websocket/broadcast", "application/json"),
    ];
    let mut held = Vec::new();
    for n in 0..400 {
        let (path, kind) = paths[n % paths.len()];
        let mut socket = TcpStream::connect(&server.public).await.unwrap();
        let mut post = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\n\
             Content-Type: {kind}\r\nContent-Length: 1000000\r\n\r\n"
        );
        post.push_str(&"x".repeat(64 * 1024));
        socket.write_all(post.as_bytes()).await.unwrap();
        held.push(socket);
    }
    let series = "tidings_limit_reached_total{limit=\"body_bytes_per_user\"}";
    eventually("the rest to be refused", async || {
        (server.metric(series).await >= 400 - 67).then_some(())
    })
    .await;
    assert!(memory(&server) < before + 128, "{} MiB", memory(&server));
    server.serves_promptly().await;
    let other = bearer("bob");
    let body = json!({"channels": ["room:1"], "type": "still.here", "data": "z".repeat(500_000)});
    let answer = server
        .http(
            Method::POST,
            "/api/v1/events",
            &[
                ("Authorization", &other),
                ("Content-Type", "application/json"),
            ],
            &body.to_string(),
        )
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    drop(held);
    calm.comes_back().await;
}

#[tokio::test]
async fn tokenless_calls_accept_small_bodies_only() {
    let server = Server::start(Config::rooms()).await;
    let before = memory(&server);
    let calls = [
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ];
    for path in calls {
        let mut eve = Http2::connect(&server.internal).await;
        let head = fields(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ]);
        let mut message = vec![0];
        message.extend(4_000_000_u32.to_be_bytes());
        for n in 0..100 {
            eve.send(&frame(HEADERS, END_HEADERS, 2 * n + 1, &head))
                .await;
            eve.send(&frame(DATA, 0, 2 * n + 1, &message)).await;
        }
        // The message is refused by its length prefix, before its body arrives.
        for _ in 0..100 {
            loop {
                let incoming = eve.next().await.expect("a refusal");
                if incoming.kind == HEADERS && incoming.flags & END_STREAM != 0 {
                    break;
                }
            }
        }
    }
    assert!(memory(&server) < before + 48, "{} MiB", memory(&server));
    server.serves_promptly().await;
}

/// A compressed gRPC message.
fn compressed(message: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(message).unwrap();
    let data = gzip.finish().unwrap();
    let mut framed = vec![1];
    framed.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    framed.extend(data);
    framed
}

/// Calls `Publish` with this message in pieces of this size. Returns whether a response arrived.
async fn publish_gzip(server: &Server, message: &[u8], piece: usize) -> bool {
    let token = bearer("backend");
    let headers = [("authorization", token.as_str()), ("grpc-encoding", "gzip")];
    let mut client = Http2::connect(&server.internal).await;
    let head = call("EventService/Publish", &headers);
    client.send(&frame(HEADERS, END_HEADERS, 1, &head)).await;
    for piece in message.chunks(piece) {
        client.send(&frame(DATA, 0, 1, piece)).await;
    }
    client.send(&frame(DATA, END_STREAM, 1, &[])).await;
    let mut answered = false;
    loop {
        let incoming = client.next().await.expect("the end of the call");
        answered |= incoming.kind == DATA && incoming.stream == 1;
        if incoming.stream == 1 && incoming.flags & END_STREAM != 0 {
            return answered;
        }
    }
}

#[tokio::test]
async fn messages_may_be_compressed_with_gzip() {
    let server = Server::start(Config::rooms()).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    alice.subscribe("room:1").await;
    let request = PublishRequest {
        channels: vec!["room:1".into()],
        r#type: "was.small".into(),
        data: Bytes::from(format!("\"{}\"", "a".repeat(200_000))),
        ..PublishRequest::default()
    };
    let message = compressed(&request.encode_to_vec());
    for piece in [16_000, 100, 3, 1] {
        let answered = publish_gzip(&server, &message, piece).await;
        assert!(answered, "in pieces of {piece}");
        let incoming = alice.expect_event("was.small").await;
        assert_eq!(incoming["data"].as_str().unwrap().len(), 200_000, "{piece}");
    }
}

#[tokio::test]
async fn gzip_bombs_are_refused() {
    let server = Server::start(Config::rooms()).await;
    let calm = server.calm().await;
    let before = memory(&server);
    let bomb = compressed(&vec![0; 512 << 20]);
    assert!(bomb.len() < 1 << 20);
    for _ in 0..5 {
        let token = bearer("backend");
        let headers = [("authorization", token.as_str()), ("grpc-encoding", "gzip")];
        let eve = Http2::connect(&server.internal).await;
        let head = call("EventService/Publish", &headers);
        let mut bytes = Vec::new();
        for n in 0..3 {
            bytes.extend(frame(HEADERS, END_HEADERS, 2 * n + 1, &head));
            bytes.extend(frame(DATA, 0, 2 * n + 1, &bomb[..16_384.min(bomb.len())]));
        }
        let outcome = eve.flood(|_| bytes.clone(), 1).await;
        assert!(matches!(outcome, Outcome::Answered), "{outcome:?}");
        server.serves_promptly().await;
    }
    assert!(memory(&server) < before + 128, "{} MiB", memory(&server));
    calm.comes_back().await;
}

#[tokio::test]
async fn services_have_reserved_body_memory() {
    let config = Config::rooms().set("limits.body_bytes", "2000000");
    let server = Server::start(config).await;
    let calm = server.calm().await;
    // Each announces a body within its own limit, and sends one byte of it.
    let mut held = Vec::new();
    for user in 0..25 {
        let mut socket = TcpStream::connect(&server.public).await.unwrap();
        let token = Token::new(&format!("eve-{user}")).sign();
        let request = format!(
            "POST /api/v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{{"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        held.push(socket);
    }
    let series = "tidings_limit_reached_total{limit=\"body_bytes\"}";
    eventually("the share of users to be full", async || {
        (server.metric(series).await > 0).then_some(())
    })
    .await;
    let token = Token::new("service").roles(&["service"]).sign();
    let event = json!({ "channels": ["room:1"], "type": "a.b", "data": "y".repeat(900_000) });
    let answer = server
        .http(
            Method::POST,
            "/api/v1/events",
            &[
                ("authorization", &format!("Bearer {token}")),
                ("content-type", "application/json"),
            ],
            &event.to_string(),
        )
        .await;
    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    drop(held);
    calm.comes_back().await;
}
