//! Unreachable, slow or faulty OTLP collectors: they delay no event, and lost spans are counted.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::{Collector, Config, Server, eventually};

/// How the collector treats each connection.
#[derive(Clone, Copy)]
enum Manner {
    /// Reads everything and never responds.
    Silent,
    /// Responds with bytes that are not HTTP.
    Garbage,
    /// Responds at once with a body that never ends.
    Endless,
    /// Closes.
    Rude,
}

/// Starts a collector. Returns its address, and what keeps it alive.
async fn collector(manner: Manner) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut running = JoinSet::new();
    running.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            connections.spawn(serve(socket, manner));
        }
    });
    (address, running)
}

async fn serve(mut socket: TcpStream, manner: Manner) {
    let mut buffer = vec![0; 64 * 1024];
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = [b"10000\r\n".as_slice(), &vec![b'x'; 0x10000], b"\r\n"].concat();
    while socket.read(&mut buffer).await.is_ok_and(|count| count > 0) {
        match manner {
            Manner::Silent => {}
            Manner::Garbage => drop(socket.write_all(&[0xa5; 4096]).await),
            Manner::Rude => return,
            Manner::Endless => {
                drop(socket.write_all(head).await);
                while socket.write_all(&chunk).await.is_ok() {}
                return;
            }
        }
    }
}

/// Publishes with this collector. Every event arrives regardless, the spans are dropped and
/// counted, and the server stops in time.
async fn endures(endpoint: &str, protocol: &str) {
    let config = Config::rooms()
        .set("telemetry.otlp_endpoint", &format!("{endpoint:?}"))
        .set("telemetry.otlp_protocol", &format!("{protocol:?}"))
        .set("telemetry.delivery_spans", "1.0")
        .env("OTEL_BSP_SCHEDULE_DELAY", "20")
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "64")
        .env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "32")
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "500")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "100");
    let server = Server::start(config).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    alice.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    let began = Instant::now();
    service.count("room:1", "count.up", 1..=100).await;
    let expected: Vec<u64> = (1..=100).collect();
    assert_eq!(alice.numbers("count.up", 100).await, expected, "{endpoint}");
    // A single export takes half a second to fail.
    assert!(began.elapsed() < Duration::from_secs(5), "{endpoint}");
    eventually("spans to be dropped", async || {
        let dropped = server.metric("tidings_telemetry_dropped_total").await;
        (dropped > 100).then_some(())
    })
    .await;
    service.publish("room:1", "after.it", json!({})).await;
    alice.expect_event("after.it").await;
    let stopping = Instant::now();
    let directory = server.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(10), "{endpoint}");
    drop(directory);
}

#[tokio::test]
async fn unreachable_collector_blocks_nobody() {
    endures("http://127.0.0.1:1", "grpc").await;
    endures("http://127.0.0.1:1", "http/protobuf").await;
}

#[tokio::test]
async fn silent_collector_blocks_nobody() {
    for protocol in ["grpc", "http/protobuf"] {
        let (address, _running) = collector(Manner::Silent).await;
        endures(&format!("http://{address}"), protocol).await;
        endures(&format!("https://{address}"), protocol).await;
    }
}

#[tokio::test]
async fn malformed_collector_response_blocks_nobody() {
    for protocol in ["grpc", "http/protobuf"] {
        let (address, _running) = collector(Manner::Garbage).await;
        endures(&format!("http://{address}"), protocol).await;
        endures(&format!("https://{address}"), protocol).await;
    }
}

#[tokio::test]
async fn closing_collector_blocks_nobody() {
    for protocol in ["grpc", "http/protobuf"] {
        let (address, _running) = collector(Manner::Rude).await;
        endures(&format!("http://{address}"), protocol).await;
    }
}

#[tokio::test]
async fn endless_collector_response_takes_no_memory() {
    let (address, _running) = collector(Manner::Endless).await;
    endures(&format!("http://{address}"), "http/protobuf").await;
}

#[tokio::test]
async fn spans_rejected_by_collector_are_counted() {
    let collector = Collector::rejecting().await;
    let config = collector.of(Config::rooms());
    let config = config.env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=1");
    let server = Server::start(config).await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=20).await;
    collector.wait("fanout", 20).await;
    eventually("every rejected span to be counted", async || {
        let dropped = server.metric("tidings_telemetry_dropped_total").await;
        (dropped >= 80 && dropped == collector.count()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn invalid_otel_variables_do_not_prevent_start() {
    let names = [
        "SDK_DISABLED",
        "RESOURCE_ATTRIBUTES",
        "SERVICE_NAME",
        "LOG_LEVEL",
        "PROPAGATORS",
        "TRACES_SAMPLER",
        "TRACES_SAMPLER_ARG",
        "TRACES_EXPORTER",
        "METRICS_EXPORTER",
        "LOGS_EXPORTER",
        "BSP_SCHEDULE_DELAY",
        "BSP_EXPORT_TIMEOUT",
        "BSP_MAX_QUEUE_SIZE",
        "BSP_MAX_EXPORT_BATCH_SIZE",
        "ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "ATTRIBUTE_COUNT_LIMIT",
        "SPAN_ATTRIBUTE_COUNT_LIMIT",
        "SPAN_EVENT_COUNT_LIMIT",
        "SPAN_LINK_COUNT_LIMIT",
        "METRIC_EXPORT_INTERVAL",
        "METRIC_EXPORT_TIMEOUT",
        "METRICS_EXEMPLAR_FILTER",
        "EXPORTER_OTLP_ENDPOINT",
        "EXPORTER_OTLP_TRACES_ENDPOINT",
        "EXPORTER_OTLP_METRICS_ENDPOINT",
        "EXPORTER_OTLP_PROTOCOL",
        "EXPORTER_OTLP_TRACES_PROTOCOL",
        "EXPORTER_OTLP_COMPRESSION",
        "EXPORTER_OTLP_TRACES_COMPRESSION",
        "EXPORTER_OTLP_TIMEOUT",
        "EXPORTER_OTLP_HEADERS",
        "EXPORTER_OTLP_TRACES_HEADERS",
        "EXPORTER_OTLP_CERTIFICATE",
        "EXPORTER_OTLP_INSECURE",
        "EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    ];
    let endless = "x".repeat(20_000);
    for value in [
        "gzip",
        "http/json",
        "xray",
        "0",
        "-1",
        " ",
        "maybe",
        "1e999",
        "a=%zz,,=b",
        "ftp://[::",
        "console",
        "ü\n\u{1b}[31m",
        endless.as_str(),
    ] {
        let mut config = Config::rooms().set("telemetry.otlp_endpoint", r#""http://127.0.0.1:1""#);
        for name in names {
            config = config.env(&format!("OTEL_{name}"), value);
        }
        let server = Server::start(config).await;
        assert_eq!(server.get("/readyz").await.status, 200, "{value:?}");
        if value == "xray" {
            let log = server.log();
            assert!(log.contains("OTEL_TRACES_SAMPLER: expected"), "{log}");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn spans_are_compressed_if_configured() {
    let collector = Collector::start().await;
    let config = collector.of(Config::rooms());
    let config = config.env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
    let server = Server::start(config).await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=5).await;
    collector.wait("fanout", 5).await;
    assert!(collector.was_compressed());
}
