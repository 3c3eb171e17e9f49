//! Events for many sockets arrive intact on each, written by one system call or by many.

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{Config, Server, Ws};

const SOCKETS: usize = 40;
/// Every eighth client reads nothing until all is published.
const IDLER: usize = 8;
const EVENTS: u64 = 160;

async fn subscriber(server: &Server, index: usize) -> Ws {
    // Some subscribe to the same events twice. Services may do so.
    let two_ways = index % IDLER == 3;
    let roles: &[&str] = if two_ways { &["service"] } else { &[] };
    let ws = server.ws().token(&format!("user-{index}"), roles);
    let ws = if index.is_multiple_of(IDLER) {
        ws.small_window()
    } else {
        ws
    };
    let mut ws = ws.connect().await;
    if two_ways {
        ws.subscribe_with("room:*", json!({"event_types": ["odd"]}))
            .await;
        ws.subscribe_with("room:1", json!({"event_types": ["even"]}))
            .await;
    } else {
        ws.subscribe("room:1").await;
    }
    ws
}

/// Reads all events: each once, in order, with all of its data.
async fn reads_all(ws: &mut Ws, index: usize) {
    let mut expected = 1;
    while expected <= EVENTS {
        let message = ws.next_or_close().await.expect("no close");
        assert_ne!(message["type"], "gap", "history holds everything");
        let Some(n) = message["data"]["n"].as_u64() else {
            continue;
        };
        assert_eq!(n, expected, "socket {index}");
        let pad = message["data"]["pad"].as_str().unwrap();
        assert_eq!(pad.len(), length(n), "socket {index}, event {n}");
        assert!(pad.bytes().all(|byte| byte == letter(n)), "socket {index}");
        expected += 1;
    }
}

/// Small and large ones, so that sockets fill up in the middle of a frame.
fn length(n: u64) -> usize {
    [20, 40_000, 300, 9_000][usize::try_from(n % 4).unwrap()]
}

fn letter(n: u64) -> u8 {
    b'a' + u8::try_from(n % 26).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_socket_receives_every_event_intact() {
    for io_uring in ["true", "false"] {
        let config = Config::new()
            .namespace(
                "room",
                "history = { size = 1000, ttl = \"1h\" }\nsubscribe = 'true'\nslow_consumer = \"resync\"",
            )
            .set("limits.outbox_bytes", "131072")
            .set("server.io_uring", io_uring);
        let server = Server::start(config).await;
        let mut all = Vec::new();
        for index in 0..SOCKETS {
            all.push(subscriber(&server, index).await);
        }
        let mut service = server.publisher("service").await;
        let (idle, busy): (Vec<_>, Vec<_>) = all
            .into_iter()
            .enumerate()
            .partition(|(index, _)| index.is_multiple_of(IDLER));
        let publish = async {
            for n in 1..=EVENTS {
                let kind = if n.is_multiple_of(2) { "even" } else { "odd" };
                let pad = char::from(letter(n)).to_string().repeat(length(n));
                let data = json!({"n": n, "pad": pad});
                service.publish("room:1", kind, data).await;
            }
        };
        let read = join_all(busy.into_iter().map(async |(index, mut ws)| {
            reads_all(&mut ws, index).await;
            ws
        }));
        let ((), busy) = tokio::join!(publish, read);
        let idle = join_all(idle.into_iter().map(async |(index, mut ws)| {
            reads_all(&mut ws, index).await;
            ws
        }));
        drop((busy, idle.await));
    }
}
