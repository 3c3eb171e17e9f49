//! Attacks by clients that never read responses.
//!
//! A reader has thirty seconds for the next 16 KiB, so these tests take that long.

use std::time::Duration;

use serde_json::json;
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::http2::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, call, fields, frame,
};
use crate::harness::{Config, Http2, Server, Token, eventually};

/// When stalled readers must have been disconnected.
const TIMEOUT: Duration = Duration::from_mins(1);
const GIVEN_UP: &str = "tidings_limit_reached_total{limit=\"unread_answers\"}";
/// An HTTP/2 client's SETTINGS with an initial window of zero (RFC 9113 §6.5.2).
const SHUT: [u8; 6] = [0, 4, 0, 0, 0, 0];

fn service() -> String {
    let token = Token::new("backend").roles(&["service", "admin"]);
    format!("Bearer {}", token.sign())
}

/// A server with a page of history of more than half a megabyte.
async fn with_history() -> Server {
    let server = Server::start(Config::rooms()).await;
    let mut publisher = server.publisher("service").await;
    let text = "a".repeat(60_000);
    for _ in 0..10 {
        publisher
            .publish("room:1", "large.text", json!({ "text": text }))
            .await;
    }
    server
}

/// A socket with a tiny receive buffer.
fn narrow(address: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address: std::net::SocketAddr = address.parse().unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    TcpStream::from_std(socket.into()).unwrap()
}

/// Waits until this many readers have been disconnected.
async fn given_up(server: &Server, expected: u64) {
    let waiting = async {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        while server.metric(GIVEN_UP).await < expected {
            second.tick().await;
        }
    };
    let waited = tokio::time::timeout(TIMEOUT, waiting).await;
    let count = server.metric(GIVEN_UP).await;
    assert!(waited.is_ok(), "{count} of {expected} were given up");
}

#[tokio::test]
async fn unread_http1_responses_time_out() {
    let server = with_history().await;
    let calm = server.calm().await;
    let token = service();
    let asks = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\n\r\n").repeat(300)
    };
    let history = asks("/api/v1/channels/room:1/history?limit=1000");
    let metrics = asks("/metrics");
    let mut held = Vec::new();
    for (address, asked) in [(&server.public, &history), (&server.internal, &metrics)] {
        for _ in 0..5 {
            let mut socket = narrow(address);
            // As many requests as needed: they are read while responses are sent.
            let _ = tokio::time::timeout(
                Duration::from_millis(500),
                socket.write_all(asked.as_bytes()),
            )
            .await;
            held.push(socket);
        }
    }
    server.serves_promptly().await;
    given_up(&server, 10).await;
    calm.comes_back().await;
    drop(held);
}

#[tokio::test]
async fn unread_http2_streams_are_reset() {
    const STREAMS: u32 = 300;
    let server = with_history().await;
    let calm = server.calm().await;
    let token = service();
    let mut eve = Http2::connect(&server.internal).await;
    eve.send(&frame(SETTINGS, 0, 0, &SHUT)).await;
    // GetHistoryRequest { channel: "room:1", limit: 1000 }, with the prefix of gRPC.
    let message = [
        &[0, 0, 0, 0, 11, 0x0a, 6][..],
        b"room:1",
        &[0x18, 0xe8, 0x07],
    ]
    .concat();
    let head = call("EventService/GetHistory", &[("authorization", &token)]);
    let metrics = fields(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/metrics"),
        (":authority", "localhost"),
    ]);
    for n in 0..STREAMS {
        let stream = 2 * n + 1;
        let request = if n % 2 == 0 {
            let head = frame(HEADERS, END_HEADERS, stream, &head);
            [head, frame(DATA, END_STREAM, stream, &message)].concat()
        } else {
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &metrics)
        };
        eve.send(&request).await;
    }
    let mut ended = 0;
    let all = async {
        while ended < STREAMS {
            let frame_of = eve.later().await.expect("the connection goes on");
            match frame_of.kind {
                PING if frame_of.flags == 0 => {
                    eve.send(&frame(PING, 1, 0, &frame_of.payload)).await;
                }
                RST_STREAM => ended += 1,
                DATA => assert!(frame_of.payload.is_empty(), "the windows are shut"),
                _ => {}
            }
        }
    };
    assert!(tokio::time::timeout(TIMEOUT, all).await.is_ok(), "{ended}");
    assert_eq!(server.metric(GIVEN_UP).await, u64::from(STREAMS));
    // A client that reads is served, on this connection too.
    eve.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])).await;
    let stream = 2 * STREAMS + 1;
    eve.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &metrics))
        .await;
    assert_ne!(eve.end_of(stream).await, RST_STREAM);
    calm.comes_back().await;
}

#[tokio::test]
async fn unread_event_stream_is_closed() {
    let server = Server::start(Config::rooms()).await;
    let calm = server.calm().await;
    let mut socket = narrow(&server.public);
    let token = service();
    let ask =
        format!("GET /sse?channel=plain:1 HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\n\r\n");
    socket.write_all(ask.as_bytes()).await.unwrap();
    eventually("the stream", async || {
        let open = server
            .metric("tidings_connections{transport=\"sse\"}")
            .await;
        (open == 1).then_some(())
    })
    .await;
    let mut publisher = server.publisher("service").await;
    // History is off. More than the kernel's buffers and the outbox hold, in pieces of which the
    // outbox holds many.
    let text = "a".repeat(10_000);
    for _ in 0..1500 {
        publisher
            .publish("plain:1", "large.text", json!({ "text": text }))
            .await;
    }
    given_up(&server, 1).await;
    calm.comes_back().await;
    drop(socket);
}
