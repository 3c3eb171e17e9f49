//! Slowloris attacks: sockets that are held open and send too little.
//!
//! A request head, the first bytes and a TLS handshake have ten seconds, so these tests take that
//! long.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::{Config, Server, Token, eventually};

/// When all slow connections must have been closed. A body has the longest timeout, 30 s.
const TIMEOUT: Duration = Duration::from_secs(45);

/// How often a slow client sends one more byte.
const DRIP: Duration = Duration::from_millis(200);

/// Sends `first`, then repeats `drip`, until the server closes. Returns the response.
pub async fn drips(address: String, first: String, drip: &'static str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(first.as_bytes()).await.unwrap();
    let (mut read, mut write) = socket.split();
    let mut answer = Vec::new();
    let sending = async {
        let mut pause = tokio::time::interval(DRIP);
        loop {
            pause.tick().await;
            if drip.is_empty() || write.write_all(drip.as_bytes()).await.is_err() {
                return std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        // A reset counts too.
        _ = read.read_to_end(&mut answer) => {}
        () = sending => {}
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn slow_senders_are_disconnected() {
    let config = Config::rooms().set("server.keep_alive", r#""15s""#);
    let server = Server::start(config).await;
    let calm = server.calm().await;
    let token = format!(
        "Bearer {}",
        Token::new("backend").roles(&["service"]).sign()
    );
    let post = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\n\
         Content-Type: application/json\r\n"
    );
    let get = "GET /healthz HTTP/1.1\r\nHost: a\r\n".to_owned();
    let (public, internal) = (&server.public, &server.internal);
    // The first bytes, the repeated bytes, and how the response begins.
    let slow = [
        (public, String::new(), "", ""),
        (public, "G".to_owned(), "", ""),
        (public, get.clone(), "", ""),
        (public, get.clone(), "X: y\r\n", ""),
        (public, format!("{get}X: "), "a", ""),
        // After the first response, nothing more on a connection that could be reused.
        (public, format!("{get}\r\n"), "", "HTTP/1.1 200"),
        (
            public,
            format!("{post}Content-Length: 1000\r\n\r\n"),
            "a",
            "HTTP/1.1 408",
        ),
        (
            public,
            format!("{post}Content-Length: 1000\r\n\r\n"),
            "",
            "HTTP/1.1 408",
        ),
        (
            public,
            format!("{post}Transfer-Encoding: chunked\r\n\r\n"),
            "1\r\na\r\n",
            "HTTP/1.1 408",
        ),
        // A chunk size that never ends.
        (
            public,
            format!("{post}Transfer-Encoding: chunked\r\n\r\n"),
            "0",
            "HTTP/1.1 4",
        ),
        (internal, String::new(), "", ""),
        (internal, "PRI * HTTP/2.0\r\n".to_owned(), "", ""),
        (
            internal,
            "GET /metrics HTTP/1.1\r\nHost: a\r\n".to_owned(),
            "X: y\r\n",
            "",
        ),
    ];
    let mut ends = JoinSet::new();
    for (address, first, drip, expected) in slow {
        for _ in 0..10 {
            let dripping = drips(address.clone(), first.clone(), drip);
            let first = first.clone();
            ends.spawn(async move { (first, drip, expected, dripping.await) });
        }
    }
    server.serves_promptly().await;
    tokio::time::timeout(TIMEOUT, async {
        while let Some(ended) = ends.join_next().await {
            let (first, drip, expected, answer) = ended.unwrap();
            assert!(answer.starts_with(expected), "{first:?} {drip:?}: {answer}");
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{} are held open", ends.len()));
    calm.comes_back().await;
}

#[tokio::test]
async fn unauthenticated_sockets_time_out() {
    let config = Config::rooms()
        .set("limits.connections", "2500")
        .set("limits.connections_per_ip", "2500")
        .set("auth.deadline", r#""2s""#);
    let server = Server::start(config).await;
    let calm = server.calm().await;
    let upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut ends = JoinSet::new();
    // Half are upgraded, the others are not.
    for n in 0..2000 {
        let first = match n % 4 {
            0 | 1 => format!("{upgrade}\r\n"),
            2 => upgrade.to_owned(),
            // One byte, because the kernel may not report a socket that sends nothing.
            _ => "G".to_owned(),
        };
        ends.spawn(drips(server.public.clone(), first, ""));
    }
    let open = "tidings_connections{transport=\"websocket\"}";
    eventually("the upgraded ones", async || {
        (server.metric(open).await >= 500).then_some(())
    })
    .await;
    server.serves_promptly().await;
    tokio::time::timeout(TIMEOUT, async {
        let mut notified = 0;
        while let Some(answer) = ends.join_next().await {
            notified += usize::from(answer.unwrap().contains("unauthenticated"));
        }
        assert_eq!(notified, 1000, "all upgraded clients are told why");
    })
    .await
    .unwrap_or_else(|_| panic!("{} are held open", ends.len()));
    calm.comes_back().await;
}

#[tokio::test]
async fn sockets_are_limited_per_address() {
    let config = Config::rooms()
        .set("limits.connections", "2000")
        .set("limits.connections_per_ip", "20");
    let server = Server::start(config).await;
    let calm = server.calm().await;
    let mut held = Vec::new();
    // Of the 3024 sockets in total.
    for _ in 0..600 {
        held.push(TcpStream::connect(&server.public).await.unwrap());
    }
    let refused = "tidings_limit_reached_total{limit=\"sockets_per_ip\"}";
    eventually("the rest to be refused", async || {
        (server.metric(refused).await >= 300).then_some(())
    })
    .await;
    drop(held);
    eventually("free slots", async || {
        Some(server.try_status("/healthz").await? == 200).filter(|served| *served)
    })
    .await;
    calm.comes_back().await;
}
