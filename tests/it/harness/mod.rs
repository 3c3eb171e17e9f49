//! The test harness: a server to start, and clients whose calls read as sentences.

pub mod application;
mod calm;
mod cli;
mod collector;
mod config;
mod engine;
mod grpc;
mod http;
pub mod http2;
mod ports;
mod postgres;
mod raw;
mod receiver;
mod redis;
mod server;
pub mod socketio;
mod sse;
mod token;
mod ws;

use std::time::Duration;

pub use self::http::{Answer, open};
pub use cli::{Finished, Tidings};
pub use collector::{Collector, attribute};
pub use config::Config;
pub use engine::Nats;
pub use grpc::{Publisher, event, refused_fields};
pub use http2::Http2;
pub use ports::free_port;
pub use postgres::Postgres;
pub use raw::{RawWs, masked, raw_request};
pub use receiver::{Received, Receiver, Reply, WEBHOOK_SECRET};
pub use redis::Redis;
pub use server::Server;
pub use token::{SECRET, Token, handmade};
pub use ws::{Ws, WsBuilder};

/// How long a condition may take before the test fails.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Waits for `future`, at most [`DEADLINE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {DEADLINE:?} for {what}"),
    }
}

/// Polls `probe` until it returns `Some`, at most [`DEADLINE`].
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let mut pause = tokio::time::interval(Duration::from_millis(10));
    within(what, async {
        loop {
            // Boxed: a probe with a publish in it has a large future.
            if let Some(value) = Box::pin(probe()).await {
                return value;
            }
            pause.tick().await;
        }
    })
    .await
}
