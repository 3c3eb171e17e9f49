//! Tests of the server's spans, through an exporter that records them.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use opentelemetry::Value;
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
use uuid::Uuid;

use super::exporter::{Batching, Beside, Exporting};
use super::fanout::Ids;
use super::*;
use crate::error::Error;
use crate::event::{
    AcceptedAt, ChannelName, ConnectionId, Draft, Event, EventType, Headers, Payload, Timestamp,
    TraceContext,
};

#[derive(Debug, Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// A collector that accepts the first batch and never responds.
#[derive(Debug, Clone, Default)]
struct Stuck(Arc<(Mutex<bool>, Condvar)>);

impl SpanExporter for Stuck {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
        std::future::pending().await
    }
}

fn tracing_to<E: SpanExporter + 'static>(
    exporter: E,
    sampler: Sampler,
    batching: Batching,
    metrics: &Arc<Metrics>,
) -> Tracing {
    let (queue, exporting) = Exporting::start(batching, Arc::clone(metrics), move |_| {
        let beside: Beside = Box::pin(async {});
        Ok((exporter, beside))
    })
    .unwrap();
    let provider = SdkTracerProvider::builder()
        .with_sampler(sampler)
        .with_id_generator(Ids::default())
        .with_span_processor(queue)
        .build();
    Tracing::on(&provider, exporting, true, 1.0)
}

fn sampling(sampler: Sampler) -> (Tracing, Kept) {
    let kept = Kept::default();
    let sampler = Sampler::ParentBased(Box::new(sampler));
    (
        tracing_to(
            kept.clone(),
            sampler,
            Batching::default(),
            &Metrics::new("n"),
        ),
        kept,
    )
}

/// Records every trace.
pub(super) fn always_on() -> (Tracing, Kept) {
    sampling(Sampler::AlwaysOn)
}

/// All ended spans, in order.
fn ended(tracing: &Tracing, kept: &Kept) -> Vec<SpanData> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(tracing.shutdown(Duration::from_secs(30)));
    kept.0.lock().unwrap().clone()
}

fn attribute<'a>(span: &'a SpanData, key: &str) -> Option<&'a Value> {
    span.attributes
        .iter()
        .find(|pair| pair.key.as_str() == key)
        .map(|pair| &pair.value)
}

fn text(span: &SpanData, key: &str) -> String {
    attribute(span, key)
        .unwrap_or_else(|| panic!("{key}"))
        .as_str()
        .into_owned()
}

pub(super) fn parent(sampled: bool) -> TraceContext {
    let flags = if sampled { "01" } else { "00" };
    let header = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
    TraceContext::parse(&header, "vendor=1").unwrap()
}

fn span_id(span: &SpanData) -> u64 {
    u64::from_be_bytes(span.span_context.span_id().to_bytes())
}

/// The spans of one publish that one connection receives and confirms: commit, deliver, fanout,
/// publish, rpc, receive. Also the context that the event carried.
fn publish_and_receive() -> ([SpanData; 6], TraceContext) {
    let (tracing, kept) = sampling(Sampler::AlwaysOn);
    let (channel, id) = (ChannelName::new("project:42").unwrap(), Uuid::from_u128(7));
    let event_type = EventType::new("project.updated").unwrap();
    let connection = ConnectionId::new(1, 2, 3);

    let mut rpc = tracing.rpc("tidings.v1.EventService", "Publish", Some(&parent(true)));
    let publish = tracing.publish(Some(&channel), &event_type, id, rpc.context_ref());
    let fanout = tracing
        .fanout(Some(&channel), id, publish.context_ref())
        .unwrap();
    let carried = fanout.context().clone();
    let open = tracing.register(fanout).unwrap();
    let fanout = tracing.begin_fanout(&event(Some(channel.clone()), id, &carried));
    let fanout = fanout.unwrap();
    tracing.unregister(open);
    fanout.add(2, 1, 1, 0);
    let what = Delivered {
        channel: Some(&channel),
        id,
        connection,
        event: &carried,
    };
    let at = |ms| std::time::UNIX_EPOCH + Duration::from_millis(ms);
    let deliver = tracing
        .deliver(what, Transport::WebSocket, at(1_000), at(1_001))
        .unwrap();
    std::thread::spawn(move || fanout.finish(2, 1, 0, 1))
        .join()
        .unwrap();
    drop(publish);
    rpc.grpc_status(0);
    drop(rpc);
    let arrival = Arrival {
        arrived: at(1_500),
        handled: at(1_507),
        clock_offset_ms: -3,
        round_trip: Duration::from_millis(9),
    };
    tracing.receive(what, arrival, &deliver);
    (ended(&tracing, &kept).try_into().unwrap(), carried)
}

#[test]
fn publish_is_one_trace_from_caller_to_page() {
    let (spans, carried) = publish_and_receive();
    let [commit, deliver, fanout, publish, rpc, receive] = &spans;
    let caller = parent(true).span_id;
    for (span, name, kind, parent) in [
        (
            rpc,
            "tidings.v1.EventService/Publish",
            SpanKind::Server,
            caller,
        ),
        (publish, "publish project", SpanKind::Producer, span_id(rpc)),
        (commit, "commit", SpanKind::Internal, span_id(publish)),
        (fanout, "fanout", SpanKind::Internal, span_id(commit)),
        (deliver, "deliver", SpanKind::Consumer, span_id(fanout)),
        (receive, "receive", SpanKind::Consumer, span_id(deliver)),
    ] {
        assert_eq!((&*span.name, &span.span_kind), (name, &kind));
        assert_eq!(
            u64::from_be_bytes(span.parent_span_id.to_bytes()),
            parent,
            "{name}"
        );
        let trace = u128::from_be_bytes(span.span_context.trace_id().to_bytes());
        assert_eq!(trace, carried.trace_id, "{name}");
    }
    assert!(rpc.parent_span_is_remote && !publish.parent_span_is_remote);
    assert_eq!(carried.span_id, span_id(fanout));
    assert_eq!(carried.state.as_deref(), Some("vendor=1"));
    assert!(commit.end_time <= fanout.start_time);
    for span in [deliver, receive] {
        assert_eq!(
            span.links[0].span_context.span_id(),
            fanout.span_context.span_id()
        );
    }
    let since_1970 = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH);
    let times = [deliver, receive].map(|span| [span.start_time, span.end_time]);
    assert_eq!(
        times.map(|pair| pair.map(|time| since_1970(time).unwrap().as_millis())),
        [[1_000, 1_001], [1_500, 1_507]]
    );
}

/// An event that carries this context.
fn event(channel: Option<ChannelName>, id: Uuid, trace: &TraceContext) -> Event {
    let draft = Draft {
        id,
        channel,
        event_type: EventType::new("project.updated").unwrap(),
        payload: Payload::new("1".into(), "").unwrap(),
        headers: Headers::default(),
        key: None,
        idempotency_key: None,
        audience: None,
        source: None,
        time: Timestamp::now(),
        trace: Some(trace.clone()),
        accepted: AcceptedAt::now(),
    };
    Event::new(draft, None)
}

#[test]
fn event_of_another_node_gets_a_fanout_below_the_publishers() {
    let (here, kept_here) = always_on();
    let (there, kept_there) = always_on();
    let id = Uuid::from_u128(7);
    let fanout = here.fanout(None, id, Some(&parent(true))).unwrap();
    let published = event(None, id, fanout.context());
    let open = here.register(fanout).unwrap();
    here.begin_fanout(&published).unwrap().finish(1, 1, 0, 0);
    here.unregister(open);
    let remote = there.begin_fanout(&published).unwrap();
    assert_eq!(
        remote.context().trace_id,
        published.trace.as_ref().unwrap().trace_id
    );
    remote.finish(2, 2, 0, 0);
    let here = ended(&here, &kept_here);
    let local = here.iter().find(|span| span.name == "fanout").unwrap();
    let [remote] = &ended(&there, &kept_there)[..] else {
        panic!("one span on each node");
    };
    assert_eq!(remote.name, "fanout");
    assert_eq!(remote.parent_span_id, local.span_context.span_id());
    assert!(remote.parent_span_is_remote);
    assert_eq!(attribute(remote, "tidings.delivered"), Some(&Value::I64(2)));
    assert_eq!(text(remote, "messaging.message.id"), id.to_string());
}

#[test]
fn unsampled_event_has_no_fanout() {
    let (tracing, kept) = always_on();
    let unsampled = event(None, Uuid::nil(), &parent(false));
    assert!(tracing.begin_fanout(&unsampled).is_none());
    assert!(
        Tracing::off()
            .begin_fanout(&event(None, Uuid::nil(), &parent(true)))
            .is_none()
    );
    assert!(ended(&tracing, &kept).is_empty());
}

#[test]
fn publish_that_was_not_delivered_leaves_no_span_open() {
    let (tracing, kept) = always_on();
    let fanout = tracing
        .fanout(None, Uuid::nil(), Some(&parent(true)))
        .unwrap();
    let open = tracing.register(fanout).unwrap();
    tracing.unregister(open);
    let names: Vec<_> = ended(&tracing, &kept).into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["commit"]);
}

#[test]
fn events_of_a_group_commit_are_linked() {
    let (tracing, kept) = always_on();
    let events: Vec<Event> = (0..3)
        .map(|n| {
            let fanout = tracing.fanout(None, Uuid::from_u128(n), Some(&parent(true)));
            let fanout = fanout.unwrap();
            let published = event(None, Uuid::from_u128(n), fanout.context());
            tracing.register(fanout).unwrap();
            published
        })
        .collect();
    let traces = || events.iter().filter_map(|event| event.trace.as_ref());
    drop(tracing.commit_batch(traces().take(1), 1));
    drop(tracing.commit_batch(traces(), 5));
    let begun = events.iter().map(|event| tracing.begin_fanout(event));
    drop(begun.collect::<Vec<_>>());
    let spans = ended(&tracing, &kept);
    let (batch, rest) = spans.split_first().unwrap();
    let commits = &rest[..3];
    assert_eq!(&*batch.name, "commit batch");
    assert_eq!(
        attribute(batch, "messaging.batch.message_count"),
        Some(&Value::I64(5))
    );
    assert_eq!(batch.parent_span_id, commits[0].span_context.span_id());
    let linked = |span: &SpanData| -> Vec<_> {
        let ids = span.links.iter().map(|link| link.span_context.span_id());
        ids.collect()
    };
    assert_eq!(
        linked(batch),
        commits
            .iter()
            .map(|commit| commit.span_context.span_id())
            .collect::<Vec<_>>()
    );
    for commit in commits {
        assert_eq!(&*commit.name, "commit");
        assert_eq!(linked(commit), [batch.span_context.span_id()]);
    }
}

#[test]
fn event_without_offset_has_no_fanout_span() {
    let (tracing, kept) = sampling(Sampler::AlwaysOn);
    drop(tracing.fanout(None, Uuid::nil(), Some(&parent(true))));
    let names: Vec<_> = ended(&tracing, &kept).into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["commit"]);
}

#[test]
fn attributes_follow_the_conventions_for_messaging_and_rpc() {
    let ([commit, deliver, fanout, publish, rpc, receive], _) = publish_and_receive();
    assert_eq!(text(&rpc, "rpc.system"), "grpc");
    assert_eq!(text(&rpc, "rpc.service"), "tidings.v1.EventService");
    assert_eq!(text(&rpc, "rpc.method"), "Publish");
    assert_eq!(
        attribute(&rpc, "rpc.grpc.status_code"),
        Some(&Value::I64(0))
    );
    for (span, kind, name) in [
        (&publish, "send", "publish"),
        (&commit, "send", "commit"),
        (&fanout, "send", "fanout"),
        (&deliver, "process", "deliver"),
        (&receive, "process", "receive"),
    ] {
        assert_eq!(text(span, "messaging.system"), "tidings");
        assert_eq!(text(span, "messaging.operation.type"), kind);
        assert_eq!(text(span, "messaging.operation.name"), name);
        assert_eq!(
            text(span, "messaging.message.id"),
            Uuid::from_u128(7).to_string()
        );
    }
    for span in [&publish, &commit, &fanout, &deliver, &receive] {
        assert_eq!(text(span, "messaging.destination.name"), "project:42");
    }
    assert_eq!(text(&publish, "tidings.event.type"), "project.updated");
    assert_eq!(
        text(&deliver, "messaging.client.id"),
        ConnectionId::new(1, 2, 3).to_string()
    );
    for (key, count) in [
        ("tidings.subscribers", 4),
        ("tidings.delivered", 2),
        ("tidings.filtered", 1),
        ("tidings.dropped", 1),
    ] {
        assert_eq!(attribute(&fanout, key), Some(&Value::I64(count)), "{key}");
    }
}

#[test]
fn connection_has_a_span_for_each_phase() {
    let (tracing, kept) = sampling(Sampler::AlwaysOn);
    let connection = ConnectionId::new(0, 1, 2);
    let connect = tracing.connect(Transport::WebSocket, None);
    drop(tracing.authenticate(connect.context_ref()));
    drop(tracing.subscribe(connection, 3, connect.context_ref()));
    drop(tracing.disconnect(connection, 4411, connect.context_ref()));
    drop(connect);
    drop(tracing.http("GET", "/api/v1/stats", None));
    drop(tracing.http("BREW", "/healthz", None));
    let spans = ended(&tracing, &kept);
    let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
    let expected = [
        "authenticate",
        "subscribe",
        "disconnect",
        "connect",
        "GET /api/v1/stats",
        "HTTP /healthz",
    ];
    assert_eq!(names, expected);
    assert!(
        spans[..3]
            .iter()
            .all(|span| span.parent_span_id == spans[3].span_context.span_id())
    );
    assert_eq!(
        attribute(&spans[1], "tidings.channels"),
        Some(&Value::I64(3))
    );
    assert_eq!(
        attribute(&spans[2], "tidings.close_code"),
        Some(&Value::I64(4411))
    );
    assert_eq!(text(&spans[3], "tidings.transport"), "websocket");
    assert_eq!(text(&spans[5], "http.request.method"), "_OTHER");
}

#[test]
fn only_server_faults_fail_server_spans() {
    let (tracing, kept) = sampling(Sampler::AlwaysOn);
    for error in [Error::not_found("no"), Error::internal("oh")] {
        tracing.rpc("s", "m", None).set_error(&error);
    }
    tracing
        .authenticate(None)
        .set_error(&Error::unauthenticated("expired"));
    tracing.http("GET", "/x", None).http_status(404);
    tracing.http("GET", "/x", None).http_status(503);
    let spans = ended(&tracing, &kept);
    let failed: Vec<bool> = spans
        .iter()
        .map(|span| matches!(span.status, Status::Error { .. }))
        .collect();
    assert_eq!(failed, [false, true, true, false, true]);
    assert_eq!(text(&spans[0], "error.type"), "not_found");
}

#[test]
fn unsampled_parent_is_propagated_not_recorded() {
    let (tracing, kept) = sampling(Sampler::AlwaysOn);
    let parent = parent(false);
    let channel = ChannelName::new("global").unwrap();
    let rpc = tracing.rpc("s", "m", Some(&parent));
    let fanout = tracing.fanout(Some(&channel), Uuid::nil(), rpc.context_ref());
    assert_eq!(rpc.context().as_ref(), Some(&parent));
    assert!(!rpc.is_recording() && fanout.is_none());
    drop(rpc);
    assert_eq!(ended(&tracing, &kept).len(), 0);
}

#[test]
fn unsampled_root_is_propagated_downstream() {
    let (tracing, kept) = sampling(Sampler::AlwaysOff);
    let rpc = tracing.rpc("s", "m", None);
    let root = rpc.context().unwrap();
    assert!(!root.sampled && root.trace_id != 0);
    assert_eq!(tracing.authenticate(Some(&root)).context(), Some(root));
    drop(rpc);
    assert_eq!(ended(&tracing, &kept).len(), 0);
}

#[test]
fn parent_is_propagated_when_tracing_is_off() {
    let tracing = Tracing::off();
    assert!(!tracing.enabled());
    assert_eq!(
        tracing.rpc("s", "m", Some(&parent(true))).context(),
        Some(parent(true))
    );
    let span = tracing.rpc("s", "m", None);
    assert_eq!(span.context(), None);
    assert!(span.trace_id().is_none());
}

#[test]
fn dead_collector_never_blocks_and_losses_count() {
    const SPANS: u64 = 100_000;
    let metrics = Metrics::new("n");
    let stuck = Stuck::default();
    let batching = Batching {
        queue: 1_000,
        batch: 100,
        delay: Duration::from_hours(1),
    };
    let tracing = tracing_to(stuck.clone(), Sampler::AlwaysOn, batching, &metrics);
    // The exporter has to hang first, so that only the queue absorbs spans.
    (0..100).for_each(|_| drop(tracing.authenticate(None)));
    let (begun, changed) = &*stuck.0;
    drop(
        changed
            .wait_while(begun.lock().unwrap(), |begun| !*begun)
            .unwrap(),
    );

    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..SPANS / 4).for_each(|_| drop(tracing.authenticate(None))));
        }
    });
    assert_eq!(metrics.telemetry_dropped.get(), SPANS - 1_000);

    // A shutdown gives up at its deadline, and counts queued spans.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(tracing.shutdown(Duration::ZERO));
    assert_eq!(metrics.telemetry_dropped.get(), SPANS + 100);
}

#[test]
fn extract_reads_the_two_headers() {
    let header = parent(true).to_string();
    let found = extract(|name| match name {
        "traceparent" => Some(header.as_str()),
        "tracestate" => Some("vendor=1"),
        _ => None,
    });
    assert_eq!(found, Some(parent(true)));
    assert_eq!(extract(|_| None), None);
    assert_eq!(extract(|_| Some("00-zz")), None);
}

#[test]
fn spans_that_wait_are_bounded_by_bytes_too() {
    let ([mut span, ..], _) = publish_and_receive();
    let link = opentelemetry::trace::Link::with_context(span.span_context.clone());
    span.links.links = vec![link; 128];
    let metrics = Metrics::new("n");
    let batching = Batching {
        batch: 1,
        ..Batching::default()
    };
    let (queue, _exporting) = Exporting::start(batching, Arc::clone(&metrics), |_| {
        let beside: Beside = Box::pin(async {});
        Ok((Stuck::default(), beside))
    })
    .unwrap();
    let spans = 1000;
    assert!(spans < batching.queue, "by their number all would fit");
    for _ in 0..spans {
        opentelemetry_sdk::trace::SpanProcessor::on_end(&queue, span.clone());
    }
    // Each has links of a quarter of a megabyte, and one is exported.
    let fit = u64::try_from(SPAN_BYTES >> 18).unwrap() + 1;
    let text = metrics.text(TextFormat::Prometheus);
    let name = "tidings_telemetry_dropped_total ";
    let dropped = text.lines().find_map(|text| text.strip_prefix(name));
    let dropped: u64 = dropped.unwrap().parse().unwrap();
    assert!(dropped + fit >= 1000, "{dropped}");
}
