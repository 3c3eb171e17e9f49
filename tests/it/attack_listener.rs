//! Attacks on the internal listener: unauthenticated sockets and DNS rebinding.

use bytes::Bytes;
use http::Method;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::harness::http2::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, fields, frame};
use crate::harness::{Config, Http2, Server, eventually, raw_request};

/// A socket to the internal listener from another loopback address.
async fn from(address: &str, server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(format!("{address}:0").parse().unwrap())
        .unwrap();
    let to = server.internal.parse().unwrap();
    socket.connect(to).await.unwrap()
}

async fn metrics_answer(server: &Server) {
    let answer = server
        .internal_http(Method::GET, "/metrics", &[], Bytes::new())
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn idle_sockets_do_not_block_probes() {
    let config = Config::rooms()
        .set("internal.connections", "300")
        .set("internal.connections_per_ip", "200");
    let server = Server::start(config).await;
    let calm = server.calm().await;
    let mut service = server.publisher("service").await;
    service.publish("room:1", "first.one", 1.into()).await;
    // From the address of the probes, and from others.
    let mut held = Vec::new();
    for _ in 0..400 {
        held.push(Http2::connect(&server.internal).await);
    }
    let mut others = Vec::new();
    for n in 0..400 {
        others.push(from(&format!("127.0.0.{}", 2 + n % 3), &server).await);
    }
    eventually("probes to be answered", async || {
        let stream = TcpStream::connect(&server.internal).await.ok()?;
        drop(stream);
        let (status, _) = try_get(&server, "/metrics").await?;
        (status == 200).then_some(())
    })
    .await;
    for _ in 0..5 {
        metrics_answer(&server).await;
    }
    // An authenticated connection stays, although it was idle.
    service.publish("room:1", "second.one", 2.into()).await;
    assert!(
        server
            .metric("tidings_limit_reached_total{limit=\"sockets_per_ip\"}")
            .await
            > 0
            || server
                .metric("tidings_limit_reached_total{limit=\"sockets\"}")
                .await
                > 0
    );
    drop((held, others));
    calm.comes_back().await;
}

/// A GET that may fail: its status and body.
async fn try_get(server: &Server, path: &str) -> Option<(u16, String)> {
    use tokio::io::AsyncWriteExt as _;
    let mut stream = TcpStream::connect(&server.internal).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text))
}

#[tokio::test]
async fn internal_sockets_are_limited_per_address() {
    let config = Config::rooms().set("internal.connections_per_ip", "20");
    let server = Server::start(config).await;
    // Watch streams are in progress, so none of these is evicted at once.
    let mut watching = Vec::new();
    for _ in 0..20 {
        watching.push(watch(&server.internal, "").await);
    }
    let mut more = TcpStream::connect(&server.internal).await.unwrap();
    let closed = more.read(&mut [0; 1]).await;
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    // Another address is served, and a probe from the same one after a while.
    let mut other = from("127.0.0.2", &server).await;
    let reported = raw_get(&mut other, "/metrics").await;
    assert!(reported.starts_with("HTTP/1.1 200"), "{reported}");
    assert!(
        reported.contains("tidings_limit_reached_total{limit=\"sockets_per_ip\"} 1"),
        "{reported}"
    );
    // An unauthenticated request may be in progress for 10 s.
    let made_room = async {
        while !matches!(try_get(&server, "/metrics").await, Some((200, _))) {
            tokio::task::yield_now().await;
        }
    };
    timeout(std::time::Duration::from_secs(40), made_room)
        .await
        .expect("a watcher makes room for a probe");
}

async fn raw_get(stream: &mut TcpStream, path: &str) -> String {
    use tokio::io::AsyncWriteExt as _;
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// Watches the health of a service on its own connection.
async fn watch(address: &str, service: &str) -> Http2 {
    let mut client = Http2::connect(address).await;
    let head = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Watch"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]);
    let mut message = vec![0];
    let name = service.as_bytes();
    let inner = if name.is_empty() {
        Vec::new()
    } else {
        [&[0x0a, u8::try_from(name.len()).unwrap()][..], name].concat()
    };
    message.extend(u32::try_from(inner.len()).unwrap().to_be_bytes());
    message.extend(inner);
    client.send(&frame(HEADERS, END_HEADERS, 1, &head)).await;
    client.send(&frame(DATA, END_STREAM, 1, &message)).await;
    client
}

#[tokio::test]
async fn health_watch_of_unknown_service_stays_open() {
    let server = Server::start(Config::rooms()).await;
    let mut client = watch(&server.internal, "no.such.Service").await;
    let status = loop {
        let incoming = client.next().await.expect("an answer");
        assert!(
            incoming.stream != 1 || incoming.flags & END_STREAM == 0,
            "it has ended: {incoming:?}"
        );
        if incoming.kind == DATA && incoming.stream == 1 {
            break incoming.payload;
        }
    };
    // `SERVICE_UNKNOWN` is 3 (grpc/health/v1/health.proto).
    assert_eq!(status, [0, 0, 0, 0, 2, 0x08, 3]);
    // No further message and no end follow, while another call on the connection is answered.
    client.send(&frame(6, 0, 0, b"still on")).await;
    loop {
        let incoming = client.next().await.expect("the answer to the PING");
        assert!(incoming.stream != 1, "{incoming:?}");
        if incoming.kind == 6 && incoming.payload == b"still on" {
            break;
        }
    }
}

#[tokio::test]
async fn connection_without_requests_is_closed() {
    let config = Config::rooms().set("server.keep_alive", r#""1s""#);
    let server = Server::start(config).await;
    let mut service = server.publisher("service").await;
    service.publish("room:1", "first.one", 1.into()).await;
    let mut idle = Http2::connect(&server.internal).await;
    let ended = timeout(std::time::Duration::from_secs(40), async {
        let mut notified = false;
        while let Some(incoming) = idle.later().await {
            notified |= incoming.kind == GOAWAY;
        }
        notified
    });
    assert!(ended.await.expect("closed"), "it gets a GOAWAY");
    // An authenticated connection has stayed meanwhile.
    service.publish("room:1", "second.one", 2.into()).await;
}

#[tokio::test]
async fn unlisted_host_names_are_refused() {
    let config = Config::rooms().set("internal.allowed_hosts", r#"["push.example.com"]"#);
    let server = Server::start(config).await;
    let get = async |host: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = raw_request(&server.internal, &request).await;
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let port = server.internal.rsplit(':').next().unwrap();
    for own in [
        &server.internal,
        &format!("localhost:{port}"),
        "[::1]",
        "tidings",
        "tidings.prod.svc.cluster.local:50051",
        "push.example.com:50051",
    ] {
        assert_eq!(get(own).await, "200", "{own}");
    }
    for foreign in [
        &format!("evil.example:{port}"),
        "127.0.0.1.nip.io",
        "evil.example.",
    ] {
        assert_eq!(get(foreign).await, "421", "{foreign}");
    }
    // In absolute form, the target names the host (RFC 9112 §3.2.2).
    for (target, expected) in [("evil.example", "421"), ("localhost", "200")] {
        let request = format!(
            "GET http://{target}/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        let answer = raw_request(&server.internal, &request).await;
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{target}");
    }
    // gRPC accepts any name, because no page can speak it.
    let mut client = Http2::connect(&server.internal).await;
    let head = fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", "tidings.example.com:50051"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]);
    client.send(&frame(HEADERS, END_HEADERS, 1, &head)).await;
    client.send(&frame(DATA, END_STREAM, 1, &[0; 5])).await;
    let health = loop {
        let incoming = client.next().await.expect("an answer");
        if incoming.stream == 1 && incoming.kind == DATA {
            break incoming.payload;
        }
        assert!(
            incoming.stream != 1 || incoming.flags & END_STREAM == 0,
            "refused"
        );
    };
    assert_eq!(health, [0, 0, 0, 0, 2, 0x08, 1], "SERVING");
}

#[tokio::test]
async fn head_works_wherever_get_does() {
    let server = Server::start(Config::rooms()).await;
    let head = async |address: &str, path: &str, token: &str| {
        let request =
            format!("HEAD {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{token}\r\n");
        let answer = raw_request(address, &request).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert_eq!(body, "", "{path}");
        head.split(' ').nth(1).unwrap().to_owned()
    };
    let token = crate::harness::Token::new("root").roles(&["admin"]).sign();
    let token = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(head(&server.internal, "/metrics", "").await, "200");
    for path in ["/healthz", "/readyz", "/openapi.json", "/asyncapi.json"] {
        assert_eq!(head(&server.public, path, "").await, "200", "{path}");
    }
    for path in [
        "/api/v1/stats",
        "/api/v1/connections",
        "/api/v1/channels",
        "/api/v1/catalog",
        "/api/v1/websocket/connections",
        "/websocket/stats",
        "/sse?channel=room:1",
    ] {
        assert_eq!(head(&server.public, path, &token).await, "200", "{path}");
    }
    assert_ne!(head(&server.public, "/ws", &token).await, "101");
    assert_eq!(head(&server.public, "/api/v1/events", &token).await, "405");
    assert_eq!(
        server
            .metric("tidings_connections{transport=\"sse\"}")
            .await,
        0
    );
}
