//! Idle HTTP/1.1 connections, as proxies and load balancers keep them.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::harness::{Config, Server, eventually, within};
use crate::heartbeat::stall;

/// Sends one request and reads the whole response.
async fn ask(socket: &mut TcpStream) -> Option<()> {
    ask_for(socket, "/healthz").await
}

/// The same for this path.
async fn ask_for(socket: &mut TcpStream, path: &str) -> Option<()> {
    let request = format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    socket.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(socket.read_u8().await.ok()?);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    Some(())
}

/// Waits for the end of an idle connection. Returns how long it took.
async fn end_of(socket: &mut TcpStream) -> Duration {
    let began = Instant::now();
    let ended = tokio::time::timeout(Duration::from_mins(2), socket.read(&mut [0; 1])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    began.elapsed()
}

#[tokio::test]
async fn idle_connection_outlives_header_timeout() {
    let server = Server::start(Config::rooms()).await;
    let mut public = TcpStream::connect(&server.public).await.unwrap();
    let mut internal = TcpStream::connect(&server.internal).await.unwrap();
    for pause in [12, 0] {
        within("an answer", ask(&mut public))
            .await
            .expect("the public connection is open");
        within("an answer", ask_for(&mut internal, "/metrics"))
            .await
            .expect("the internal connection is open");
        // A head may take 10 s. An idle period may be longer.
        tokio::time::sleep(Duration::from_secs(pause)).await;
    }
}

#[tokio::test]
async fn idle_connection_closes_after_keep_alive() {
    let config = Config::rooms().set("server.keep_alive", r#""1500ms""#);
    let server = Server::start(config).await;
    let mut socket = TcpStream::connect(&server.public).await.unwrap();
    ask(&mut socket).await.unwrap();
    assert!(end_of(&mut socket).await >= Duration::from_secs(1));
    // A head in progress has its own timeout.
    let mut socket = TcpStream::connect(&server.public).await.unwrap();
    ask(&mut socket).await.unwrap();
    socket.write_all(b"GET ").await.unwrap();
    assert!(end_of(&mut socket).await >= Duration::from_secs(1));
}

#[tokio::test]
async fn request_started_before_idle_timeout_is_served() {
    let config = Config::rooms().set("server.keep_alive", r#""1500ms""#);
    let server = Server::start(config).await;
    let mut socket = TcpStream::connect(&server.public).await.unwrap();
    ask(&mut socket).await.unwrap();
    socket
        .write_all(b"HEAD /healthz HTTP/1.1\r\n")
        .await
        .unwrap();
    // The idle timeout elapses, the head's own does not.
    tokio::time::sleep(Duration::from_secs(3)).await;
    socket.write_all(b"Host: a\r\n\r\n").await.unwrap();
    let status = within("an answer", socket.read_u8()).await;
    assert_eq!(status.ok(), Some(b'H'));
}

#[tokio::test]
async fn request_received_during_stall_is_served() {
    let config = Config::rooms().set("server.keep_alive", r#""3s""#);
    let server = Server::start(config).await;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let mut socket = TcpStream::connect(&server.public).await.unwrap();
        ask(&mut socket).await.unwrap();
        sockets.push(socket);
    }
    let asked = async {
        for socket in &mut sockets {
            let request = b"HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
            socket.write_all(request).await.unwrap();
        }
    };
    tokio::join!(stall(&server, Duration::from_secs(5)), asked);
    for socket in &mut sockets {
        let status = within("an answer", socket.read_u8()).await;
        assert_eq!(status.ok(), Some(b'H'), "closed without an answer");
    }
}

#[tokio::test]
async fn idle_connection_is_evicted_for_new_one() {
    let config = Config::rooms().set("limits.connections_per_ip", "10");
    let server = Server::start(config).await;
    // 138 from one address at once.
    let mut idle = Vec::new();
    for _ in 0..138 {
        let mut socket = TcpStream::connect(&server.public).await.unwrap();
        within("an answer", ask(&mut socket)).await.unwrap();
        idle.push(socket);
    }
    eventually("a place for another", async || {
        let mut socket = TcpStream::connect(&server.public).await.ok()?;
        ask(&mut socket).await
    })
    .await;
    let series = "tidings_limit_reached_total{limit=\"idle_sockets\"}";
    assert!(server.metric(series).await > 0);
    // The longest idle one was evicted.
    assert!(end_of(&mut idle[0]).await < Duration::from_secs(30));
    within("an answer", ask(&mut idle[137]))
        .await
        .expect("the newest stays");
}
