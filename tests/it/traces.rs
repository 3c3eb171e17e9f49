//! One trace from the publisher to every receiver.

use http::Method;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as Code;
use serde_json::json;
use tidings::proto::PublishBatchRequest;
use tonic::Request;

use crate::harness::{Collector, Config, Server, Token, attribute, event, eventually};

/// The caller's trace and span in every test.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

/// A span id in hexadecimal.
fn hex(id: &[u8]) -> String {
    let text = |id: &u64| format!("{id:016x}");
    let words = id.chunks_exact(8).map(|word| word.try_into().unwrap());
    let words: Vec<String> = words.map(u64::from_be_bytes).map(|w| text(&w)).collect();
    words.concat()
}

/// Asserts that these spans form a chain in the caller's trace, each the parent of the next.
fn assert_chain(spans: &[&Span]) {
    let mut parent = CALLER.to_owned();
    for span in spans {
        assert_eq!(hex(&span.trace_id), TRACE, "{}", span.name);
        assert_eq!(hex(&span.parent_span_id), parent, "{}", span.name);
        parent = hex(&span.span_id);
    }
}

async fn start(more: impl FnOnce(Config) -> Config) -> (Server, Collector) {
    let collector = Collector::start().await;
    let config = Config::rooms()
        .set("telemetry.delivery_spans", "1.0")
        .set("server.shards", "1");
    let server = Server::start(more(collector.of(config))).await;
    (server, collector)
}

#[tokio::test]
async fn grpc_trace_continues_to_every_client_kind() {
    let (server, collector) = start(|config| config).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    alice.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    let mut stream = service.follow(&["room:1"]).await;
    let mut call = Request::new(event("room:1", "count.up", json!({"n": 1})));
    call.metadata_mut()
        .insert("traceparent", traceparent("01").parse().unwrap());
    call.metadata_mut()
        .insert("tracestate", "vendor=1".parse().unwrap());
    let id = service.events.publish(call).await.unwrap().into_inner().id;
    let seen = alice.expect_event("count.up").await;
    let followed = stream.event().await;

    let rpc = collector.one("tidings.v1.EventService/Publish").await;
    let publish = collector.one("publish room").await;
    let commit = collector.one("commit").await;
    let fanout = collector.one("fanout").await;
    let delivers = collector.wait("deliver", 2).await;
    for deliver in &delivers {
        assert_chain(&[&rpc, &publish, &commit, &fanout, deliver]);
        assert_eq!(deliver.links[0].span_id, fanout.span_id);
        assert_eq!(attribute(deliver, "messaging.message.id"), id);
        assert_eq!(deliver.kind(), SpanKind::Consumer);
    }
    let mut transports: Vec<String> = delivers
        .iter()
        .map(|deliver| attribute(deliver, "tidings.transport"))
        .collect();
    transports.sort();
    assert_eq!(transports, ["grpc", "websocket"]);
    assert_eq!(attribute(&fanout, "tidings.delivered"), "2");
    assert_eq!(attribute(&publish, "tidings.offset"), "1");
    assert!(commit.end_time_unix_nano <= fanout.start_time_unix_nano);
    // The event carries the context of its fan-out span.
    let carried = format!("00-{TRACE}-{}-01", hex(&fanout.span_id));
    assert_eq!(seen["traceparent"], carried);
    assert_eq!(seen["tracestate"], "vendor=1");
    assert_eq!(followed.traceparent, carried);
    // A slow bucket of the histogram has the trace as exemplar.
    let accept = [("accept", "application/openmetrics-text")];
    let answer = server
        .internal_http(Method::GET, "/metrics", &accept, bytes::Bytes::new())
        .await;
    let exemplar = format!(" # {{trace_id=\"{TRACE}\"}} ");
    let mut lines = answer.text().lines();
    let line = lines.find(|line| line.contains(&exemplar));
    assert!(line.is_some_and(|line| line.starts_with("tidings_delivery_latency_seconds_bucket")));
}

#[tokio::test]
async fn http_and_websocket_continue_trace() {
    let (server, collector) = start(|config| config).await;
    let token = Token::new("svc").roles(&["service"]).sign();
    let answer = server
        .http(
            Method::POST,
            "/api/v1/events",
            &[
                ("authorization", &format!("Bearer {token}")),
                ("content-type", "application/json"),
                ("traceparent", &traceparent("01")),
            ],
            r#"{"channels":["room:1"],"type":"a.b","data":{}}"#,
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let request = collector.one("POST /api/v1/events").await;
    let publish = collector.one("publish room").await;
    assert_chain(&[&request, &publish]);

    let mut alice = server.ws().token("alice", &[]).connect().await;
    alice
        .ask(
            json!({"type": "publish", "channel": "plain:1", "event_type": "a.b", "data": {},
            "traceparent": traceparent("01")}),
        )
        .await;
    assert_chain(&[&collector.one("publish plain").await]);
}

#[tokio::test]
async fn unsampled_caller_disables_sampling() {
    let (server, collector) = start(|config| config).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    alice.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    let mut call = Request::new(event("room:1", "count.up", json!({"n": 1})));
    call.metadata_mut()
        .insert("traceparent", traceparent("00").parse().unwrap());
    service.events.publish(call).await.unwrap();
    let seen = alice.expect_event("count.up").await;
    assert_eq!(seen["traceparent"], traceparent("00"));
    assert_eq!(seen.get("confirm"), None);
    service.publish("room:1", "fence", json!({})).await;
    collector.one("fanout").await;
    assert_eq!(collector.named("commit").len(), 1);
}

#[tokio::test]
async fn disk_batch_span_links_its_events() {
    let (server, collector) = start(|config| config.set("history.storage", r#""disk""#)).await;
    let mut service = server.publisher("service").await;
    let requests = (0..50).map(|n| event("room:1", "count.up", json!({"n": n})));
    let mut call = Request::new(PublishBatchRequest {
        requests: requests.collect(),
    });
    call.metadata_mut()
        .insert("traceparent", traceparent("01").parse().unwrap());
    service.events.publish_batch(call).await.unwrap();
    let rpc = collector.one("tidings.v1.EventService/PublishBatch").await;
    let publishes = collector.wait("publish room", 50).await;
    for publish in &publishes {
        assert_chain(&[&rpc, publish]);
    }
    // The first event may have been in a batch of its own.
    let commits = collector.wait("commit", 50).await;
    let batches = collector.wait("commit batch", 1).await;
    let linked: usize = batches.iter().map(|batch| batch.links.len()).sum();
    let pointing = commits.iter().filter(|commit| !commit.links.is_empty());
    assert_eq!(pointing.count(), linked);
    assert!(linked >= 2, "{linked}");
    for batch in &batches {
        let first = &batch.links[0];
        assert_eq!(batch.parent_span_id, first.span_id);
        let count = attribute(batch, "messaging.batch.message_count");
        assert_eq!(count, batch.links.len().to_string());
    }
}

#[tokio::test]
async fn connections_record_spans() {
    let (server, collector) = start(|config| config).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    alice.subscribe("room:1").await;
    let id = alice.id();
    alice.close().await;
    assert_eq!(
        attribute(&collector.one("connect").await, "tidings.transport"),
        "websocket"
    );
    collector.one("authenticate").await;
    for (name, key, value) in [
        ("subscribe", "tidings.channels", "1"),
        ("disconnect", "tidings.close_code", "1000"),
    ] {
        let span = collector.one(name).await;
        assert_eq!(attribute(&span, key), value);
        assert_eq!(attribute(&span, "messaging.client.id"), id);
    }
}

#[tokio::test]
async fn delivery_spans_per_event_are_limited() {
    let bounded = |config: Config| config.set("telemetry.connections_per_event", "3");
    let (server, collector) = start(bounded).await;
    let mut many = Vec::new();
    for n in 0..20 {
        let mut ws = server.ws().token(&format!("user{n}"), &[]).connect().await;
        ws.subscribe("room:1").await;
        many.push(ws);
    }
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=10).await;
    for ws in &mut many {
        assert_eq!(
            ws.numbers("count.up", 10).await,
            (1..=10).collect::<Vec<_>>()
        );
    }
    let fanouts = collector.wait("fanout", 10).await;
    let delivers = collector.wait("deliver", 30).await;
    assert_eq!(delivers.len(), 30);
    for fanout in fanouts {
        let own = delivers
            .iter()
            .filter(|d| d.parent_span_id == fanout.span_id);
        assert_eq!(own.count(), 3);
        assert_eq!(attribute(&fanout, "tidings.delivered"), "20");
    }
}

/// Waits for the spans of this many refused tokens.
async fn refusals(collector: &Collector, count: usize) -> Vec<Span> {
    eventually(&format!("{count} refusals"), async || {
        let mut spans = collector.named("authenticate");
        spans.retain(|span| {
            span.status
                .as_ref()
                .is_some_and(|s| s.code() == Code::Error)
        });
        (spans.len() == count).then_some(spans)
    })
    .await
}

#[tokio::test]
async fn refused_token_fails_its_span() {
    let collector = Collector::start().await;
    let server = Server::start(collector.of(Config::socketio())).await;
    let wrong = [("authorization", "Bearer x.y.z")];

    let status = server.ws().bearer("x.y.z").upgrade().await.map(drop);
    assert_eq!(status, Err(401));
    let of_handshake = refusals(&collector, 1).await.remove(0);
    let connect = collector.one("connect").await;
    assert_eq!(of_handshake.parent_span_id, connect.span_id);

    let mut alice = server.ws().token("alice", &[]).connect().await;
    let command = json!({"type": "authenticate", "token": "x.y.z"});
    alice.refused(command, "unauthenticated").await;
    refusals(&collector, 2).await;

    let mut client = server.engine_ws("", &wrong).await.unwrap();
    client.until("0{").await;
    refusals(&collector, 3).await;
    client.send(r#"40{"token":"x.y.z"}"#).await;
    client.until("44{").await;
    refusals(&collector, 4).await;

    let answer = server.http(Method::GET, "/api/v1/stats", &wrong, "").await;
    answer.assert_problem(401);
    refusals(&collector, 5).await;

    let stream = "/sse?channel=room:1&token=x.y.z";
    let answer = server.http(Method::GET, stream, &[], "").await;
    answer.assert_problem(401);
    refusals(&collector, 6).await;

    let forged = Token::new("svc").secret("a-secret-of-nobody-that-is-long-enough-for-hs256");
    let mut service = server.publisher_as(&forged).await;
    let refused = service.try_send(event("room:1", "a.b", json!({}))).await;
    refused.unwrap_err();
    for span in refusals(&collector, 7).await {
        assert_eq!(attribute(&span, "error.type"), "unauthenticated");
    }
}

/// Publishes CloudEvents over HTTP. `None` means an event without `traceparent`.
async fn publish_batch(server: &Server, headers: &[(&str, &str)], creators: &[String]) {
    let events = creators.iter().enumerate().map(|(n, creator)| {
        let mut event = json!({"specversion": "1.0", "id": n.to_string(), "source": "/a",
            "type": "a.b", "subject": "room:1", "data": n});
        if !creator.is_empty() {
            event["traceparent"] = json!(creator);
        }
        event
    });
    let body = json!(events.collect::<Vec<_>>()).to_string();
    let authorization = format!("Bearer {}", Token::new("svc").roles(&["service"]).sign());
    let mut all = vec![
        ("authorization", authorization.as_str()),
        ("content-type", "application/cloudevents-batch+json"),
    ];
    all.extend(headers);
    let answer = server
        .http(Method::POST, "/api/v1/events", &all, &body)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The context of the creator of the `n`-th event.
fn creator(n: usize) -> String {
    format!("00-{:032x}-{:016x}-01", n + 1, n + 1)
}

#[tokio::test]
async fn batch_span_links_event_creators() {
    let (server, collector) = start(|config| config).await;
    // One event has no context, one has an invalid one, and two have the same creator.
    let reported = [
        creator(0),
        creator(1),
        String::new(),
        "00-zz".to_owned(),
        creator(1),
    ];
    publish_batch(&server, &[("traceparent", &traceparent("01"))], &reported).await;
    let request = collector.one("POST /api/v1/events").await;
    let linked: Vec<String> = request.links.iter().map(|l| hex(&l.trace_id)).collect();
    assert_eq!(linked, [format!("{:032x}", 1), format!("{:032x}", 2)]);
    for publish in collector.wait("publish room", 5).await {
        assert_chain(&[&request, &publish]);
    }
}

#[tokio::test]
async fn batch_without_trace_links_event_traces() {
    let (server, collector) = start(|config| config).await;
    let reported: Vec<String> = (0..200).map(creator).collect();
    publish_batch(&server, &[], &reported).await;
    let request = collector.one("POST /api/v1/events").await;
    assert_eq!(request.links.len(), 128);
    let publishes = collector.wait("publish room", 200).await;
    for (n, link) in request.links.iter().enumerate() {
        assert_eq!(hex(&link.span_id), format!("{:016x}", n + 1));
        let within = |publish: &&Span| publish.parent_span_id == link.span_id;
        assert_eq!(publishes.iter().filter(within).count(), 1);
    }
}

#[tokio::test]
async fn log_lines_have_trace_and_connection_ids() {
    for format in ["json", "text"] {
        let logs = |config: Config| {
            let format = format!("{format:?}");
            let config = config.set("telemetry.log_format", &format);
            config.env("RUST_LOG", "info,tidings=debug")
        };
        let (server, collector) = start(logs).await;
        let line_with = async |part: &str| {
            eventually(part, async || {
                let log = server.log();
                log.lines().find(|l| l.contains(part)).map(str::to_owned)
            })
            .await
        };
        let field = |name: &str, value: &str| match format {
            "json" => format!("\"{name}\":\"{value}\""),
            _ => format!(" {name}={value}"),
        };

        let parent = traceparent("01");
        let headers = [("traceparent", parent.as_str())];
        server
            .http(Method::GET, "/api/v1/stats", &headers, "")
            .await;
        let request = hex(&collector.one("GET /api/v1/stats").await.span_id);
        let line = line_with("answered").await;
        assert!(line.contains(&field("trace_id", TRACE)), "{line}");
        assert!(line.contains(&field("span_id", &request)), "{line}");

        let alice = server.ws().token("alice", &[]).connect().await;
        let id = alice.id();
        alice.close().await;
        let disconnect = hex(&collector.one("disconnect").await.span_id);
        let line = line_with("disconnected").await;
        assert!(line.contains(&field("connection_id", &id)), "{line}");
        assert!(line.contains(&field("span_id", &disconnect)), "{line}");
    }
}
