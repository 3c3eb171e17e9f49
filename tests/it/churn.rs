//! Counters stay consistent while connections open and close under load, and return to zero.
//!
//! `CHURN=100000 cargo test --test it churn` sets the number of connections. Each comes from its
//! own address, so that ports do not run out.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tidings::proto::{GetStatsRequest, Stats, WatchStatsRequest};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::harness::{Config, Server, Token, Ws, eventually, within};

/// The default number of connections.
const CONNECTIONS: u64 = 1_500;
/// The number of concurrent short-lived connections.
const AT_ONCE: u64 = 32;
/// The number of permanent connections, which receive every event.
const STEADY: usize = 8;

async fn stats(server: &Server) -> Stats {
    let answer = server
        .admin()
        .await
        .get_stats(GetStatsRequest::default())
        .await;
    answer.unwrap().into_inner().stats.unwrap()
}

/// A socket from a rarely used loopback address.
async fn socket(server: &Server, n: u64) -> TcpStream {
    let [.., third, fourth] = (n % 60_000).to_be_bytes();
    let from = Ipv4Addr::new(127, 1, third, fourth.max(1));
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    let address = server.public.parse().unwrap();
    within("TCP", socket.connect(address)).await.unwrap()
}

/// A connection that subscribes to two channels, may receive an event, and ends in one of four
/// ways.
async fn come_and_go(server: &Server, token: &str, n: u64) {
    let stream = socket(server, n).await;
    let url = format!("ws://{}/ws", server.public);
    let mut request = url.into_client_request().unwrap();
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("Authorization", bearer);
    let upgraded = within(
        "the upgrade",
        tokio_tungstenite::client_async(request, stream),
    );
    let (mut ws, _) = upgraded.await.unwrap();
    let kind = format!("kind{}", n % 5);
    let own = format!("plain:{}", n % 1_000);
    for message in [
        json!({"type": "register", "client_type": kind, "client_name": ""}),
        json!({"type": "subscribe", "channels": ["plain:load", own], "id": n}),
    ] {
        ws.send(Message::text(message.to_string())).await.unwrap();
    }
    let subscribed = async {
        while let Some(Ok(message)) = ws.next().await {
            if message
                .to_text()
                .is_ok_and(|text| text.contains("\"subscribed\""))
            {
                return;
            }
        }
        panic!("no answer to subscribe");
    };
    within("subscribed", subscribed).await;
    match n % 4 {
        0 => ws.close(None).await.unwrap(),
        // With unread data, so that the kernel resets the connection.
        1 => drop(ws),
        2 => {
            let mut stream = ws.into_inner();
            // A partial frame.
            stream.write_all(&[0x81, 0xfe, 0x01]).await.unwrap();
        }
        _ => {
            let message = json!({"type": "unsubscribe", "channels": ["plain:load"]});
            ws.send(Message::text(message.to_string())).await.unwrap();
        }
    }
}

/// Polls until told to stop, and checks that no counter has an impossible value. Returns the number
/// of polls.
async fn watch(server: Arc<Server>, over: Arc<AtomicBool>) -> u64 {
    let interval = Some(prost_types::Duration {
        seconds: 0,
        nanos: 100_000_000,
    });
    let mut admin = server.admin().await;
    let mut stream = admin
        .watch_stats(WatchStatsRequest { interval })
        .await
        .unwrap()
        .into_inner();
    let (mut looks, mut before) = (0, Stats::default());
    while !over.load(Ordering::SeqCst) {
        let next = within("stats", stream.message()).await.unwrap().unwrap();
        let now = next.stats.unwrap();
        let connections = now.connections.clone().unwrap();
        assert!(connections.now >= u64::try_from(STEADY).unwrap());
        assert!(connections.now <= connections.peak && connections.peak <= connections.total);
        // Connections that are not yet admitted, and closed ones that are not yet removed.
        assert!(connections.now <= 20 * AT_ONCE, "{connections:?}");
        let last = before.connections.unwrap_or_default();
        assert!(connections.total >= last.total && connections.peak >= last.peak);
        let (events, last) = (
            now.events.clone().unwrap(),
            before.events.unwrap_or_default(),
        );
        assert!(events.published >= last.published && events.delivered >= last.delivered);
        before = now;
        looks += 1;
    }
    looks
}

/// Publishes until told to stop. Returns the number of events.
async fn publish(server: Arc<Server>, over: Arc<AtomicBool>) -> u64 {
    let mut service = server.publisher("service").await;
    let mut count = 0;
    while !over.load(Ordering::SeqCst) {
        count += 1;
        let data = json!({ "n": count });
        service.publish("plain:load", "count.up", data).await;
    }
    count
}

/// Reads until the event with this number arrives, each number once and in order. 0 means that it
/// is not known yet.
async fn stay(mut ws: Ws, last: Arc<AtomicU64>) {
    let mut n = 0;
    loop {
        let end = last.load(Ordering::SeqCst);
        if end > 0 && n >= end {
            break;
        }
        n += 1;
        assert_eq!(ws.expect_event("count.up").await["data"]["n"], n);
    }
    ws.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_churn_under_load_leaks_nothing() {
    let wanted = std::env::var("CHURN").ok();
    let all: u64 = wanted.map_or(CONNECTIONS, |n| n.parse().unwrap());
    let mut config = Config::rooms().set("telemetry.confirmations", "0.1");
    for key in ["connections", "connections_per_user", "connections_per_ip"] {
        config = config.set(&format!("limits.{key}"), "5000");
    }
    let server = Arc::new(Server::start(config).await);
    let empty = stats(&server).await.connections.unwrap();
    assert_eq!((empty.now, empty.total), (0, 0));
    let last = Arc::new(AtomicU64::new(0));
    let mut steady = JoinSet::new();
    for n in 0..STEADY {
        let mut ws = server
            .ws()
            .token(&format!("steady{n}"), &[])
            .connect()
            .await;
        ws.subscribe("plain:load").await;
        steady.spawn(stay(ws, Arc::clone(&last)));
    }
    let over = Arc::new(AtomicBool::new(false));
    let (mut watching, mut publishing) = (JoinSet::new(), JoinSet::new());
    watching.spawn(watch(Arc::clone(&server), Arc::clone(&over)));
    publishing.spawn(publish(Arc::clone(&server), Arc::clone(&over)));

    let (next, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let token = Arc::new(Token::new("churn").sign());
    let mut coming = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (server, next, token) = (server.clone(), next.clone(), token.clone());
        coming.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::SeqCst);
                if n >= all {
                    return;
                }
                come_and_go(&server, &token, n).await;
            }
        });
    }
    coming.join_all().await;
    let took = began.elapsed();
    over.store(true, Ordering::SeqCst);
    let published = publishing.join_next().await.unwrap().unwrap();
    let looks = watching.join_next().await.unwrap().unwrap();
    // One more, so that the permanent connections learn that the previous one was the last.
    last.store(published + 1, Ordering::SeqCst);
    let mut service = server.publisher("service").await;
    let data = json!({"n": published + 1});
    service.publish("plain:load", "count.up", data).await;
    steady.join_all().await;

    let end = eventually("all to be gone", async || {
        let now = stats(&server).await;
        (now.connections.clone()?.now == 0 && now.subscriptions == 0).then_some(now)
    })
    .await;
    let (connections, events) = (end.connections.unwrap(), end.events.unwrap());
    assert_eq!(connections.total, all + u64::try_from(STEADY).unwrap());
    assert!(connections.by_transport.values().all(|now| *now == 0));
    assert_eq!(connections.by_client_type.len(), 0, "{connections:?}");
    assert_eq!(end.channels, 0);
    assert_eq!(events.published, published + 1);
    assert!(events.delivered >= (published + 1) * u64::try_from(STEADY).unwrap());
    for gauge in [
        "tidings_connections{transport=\"websocket\"}",
        "tidings_clients{client_type=\"unknown\"}",
        "tidings_clients{client_type=\"kind1\"}",
        "tidings_subscriptions",
        "tidings_channels",
        "tidings_outbox_bytes",
    ] {
        assert_eq!(server.metric(gauge).await, 0, "{gauge}");
    }
    eprintln!(
        "{all} connections in {:.1} s, {published} events, {} deliveries, {looks} looks, peak {}, \
         {} files and {} MiB at the end",
        took.as_secs_f64(),
        events.delivered,
        connections.peak,
        server.metric("process_open_fds").await,
        server.metric("process_resident_memory_bytes").await / (1 << 20),
    );
}
