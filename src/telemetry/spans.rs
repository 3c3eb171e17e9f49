//! The server's spans, with one method for each kind.

use std::borrow::Cow;
use std::time::Duration;

use opentelemetry::trace::{SpanKind, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use uuid::Uuid;

use super::exporter::Exporting;
use super::open_fanouts::OpenFanouts;
use super::span::{Span, to_sdk};
use crate::event::{ChannelName, ConnectionId, EventType, TraceContext};

/// The version of OpenTelemetry's semantic conventions that names and attributes follow.
const CONVENTIONS: &str = "https://opentelemetry.io/schemas/1.37.0";

/// The trace context of a request, from its `traceparent` and `tracestate` (W3C Trace Context §3).
/// `None` if it is missing or malformed.
pub fn extract<'a>(headers: impl Fn(&str) -> Option<&'a str>) -> Option<TraceContext> {
    TraceContext::parse(headers("traceparent")?, headers("tracestate").unwrap_or(""))
}

/// Creates the server's spans, or does nothing if tracing is off.
#[derive(Debug, Default)]
pub struct Tracing {
    /// `None` if tracing is off.
    pub(super) on: Option<On>,
}

#[derive(Debug)]
pub(super) struct On {
    pub(super) tracer: SdkTracer,
    /// Whether an unsampled parent determines the decision for its children.
    parent_based: bool,
    /// The ratio of deliveries that get their own span, 0–1.
    delivery_spans: f64,
    exporting: Exporting,
    /// The spans of events that are published and not delivered yet.
    pub(super) open: OpenFanouts,
}

impl Tracing {
    /// Tracing off: contexts are propagated, nothing is recorded.
    #[must_use]
    pub const fn off() -> Self {
        Tracing { on: None }
    }

    /// Creates spans with this provider, whose spans go to `exporting`.
    pub(super) fn on(
        provider: &SdkTracerProvider,
        exporting: Exporting,
        parent_based: bool,
        delivery_spans: f64,
    ) -> Self {
        let scope = InstrumentationScope::builder("tidings")
            .with_version(env!("CARGO_PKG_VERSION"))
            .with_schema_url(CONVENTIONS);
        let tracer = provider.tracer_with_scope(scope.build());
        Tracing {
            on: Some(On {
                tracer,
                parent_based,
                delivery_spans,
                exporting,
                open: OpenFanouts::new(),
            }),
        }
    }

    /// False if tracing is off.
    #[must_use]
    pub const fn enabled(&self) -> bool {
        self.on.is_some()
    }

    /// Exports queued spans, for at most `timeout`. The rest is dropped and counted, and so are
    /// spans that end later.
    pub async fn shutdown(&self, timeout: Duration) {
        if let Some(on) = &self.on {
            on.exporting.finish(timeout).await;
        }
    }

    /// A served remote procedure call: `rpc("tidings.v1.EventService", "Publish", …)`.
    #[must_use]
    pub fn rpc(
        &self,
        service: &'static str,
        method: &'static str,
        parent: Option<&TraceContext>,
    ) -> Span {
        self.start(SpanKind::Server, Parent::Remote(parent), || {
            let attributes = vec![
                KeyValue::new("rpc.system", "grpc"),
                KeyValue::new("rpc.service", service),
                KeyValue::new("rpc.method", method),
            ];
            (format!("{service}/{method}").into(), attributes)
        })
    }

    /// A served HTTP request. `route` is the pattern (`/api/v1/connections/{id}`), never the path.
    #[must_use]
    pub fn http(&self, method: &str, route: &'static str, parent: Option<&TraceContext>) -> Span {
        self.start(SpanKind::Server, Parent::Remote(parent), || {
            let method = known_method(method);
            let attributes = vec![
                KeyValue::new("http.request.method", method),
                KeyValue::new("http.route", route),
            ];
            let shown = if method == "_OTHER" { "HTTP" } else { method };
            (format!("{shown} {route}").into(), attributes)
        })
    }

    /// The publish of an event. The parent is the span of the request.
    #[must_use]
    pub fn publish(
        &self,
        channel: Option<&ChannelName>,
        event_type: &EventType,
        id: Uuid,
        parent: Option<&TraceContext>,
    ) -> Span {
        self.start(SpanKind::Producer, Parent::Local(parent), || {
            let mut attributes = message("send", "publish", channel, id);
            attributes.push(KeyValue::new(
                "tidings.event.type",
                event_type.as_str().to_owned(),
            ));
            let namespace = channel.map_or("direct", ChannelName::namespace);
            attributes.push(KeyValue::new("tidings.namespace", namespace.to_owned()));
            (format!("publish {namespace}").into(), attributes)
        })
    }

    /// A client connects.
    #[must_use]
    pub fn connect(&self, transport: super::Transport, parent: Option<&TraceContext>) -> Span {
        self.start(SpanKind::Server, Parent::Remote(parent), || {
            (
                "connect".into(),
                vec![KeyValue::new("tidings.transport", transport.as_str())],
            )
        })
    }

    /// A token is verified.
    #[must_use]
    pub fn authenticate(&self, parent: Option<&TraceContext>) -> Span {
        self.start(SpanKind::Internal, Parent::Local(parent), || {
            ("authenticate".into(), Vec::new())
        })
    }

    /// A connection subscribes to this many channels.
    #[must_use]
    pub fn subscribe(
        &self,
        connection: ConnectionId,
        channels: usize,
        parent: Option<&TraceContext>,
    ) -> Span {
        self.start(SpanKind::Internal, Parent::Local(parent), || {
            let count = i64::try_from(channels).unwrap_or(i64::MAX);
            (
                "subscribe".into(),
                vec![
                    connection_id(connection),
                    KeyValue::new("tidings.channels", count),
                ],
            )
        })
    }

    /// The application is asked a question, over HTTP or gRPC.
    #[must_use]
    pub fn hook(&self, kind: super::HookType, parent: Option<&TraceContext>) -> Span {
        self.start(SpanKind::Client, Parent::Local(parent), || {
            let kind = kind.as_str();
            let attributes = vec![KeyValue::new("tidings.hook.type", kind)];
            (format!("hook {kind}").into(), attributes)
        })
    }

    /// A connection closes with a close code (0 if its transport has none).
    #[must_use]
    pub fn disconnect(
        &self,
        connection: ConnectionId,
        close_code: u16,
        parent: Option<&TraceContext>,
    ) -> Span {
        self.start(SpanKind::Internal, Parent::Local(parent), || {
            let code = KeyValue::new("tidings.close_code", i64::from(close_code));
            ("disconnect".into(), vec![connection_id(connection), code])
        })
    }

    /// The ratio of deliveries in sampled traces that get their own span, 0–1.
    #[must_use]
    pub fn delivery_spans(&self) -> f64 {
        self.on.as_ref().map_or(0.0, |on| on.delivery_spans)
    }

    /// Starts a span. Its name and attributes are only computed if it may be recorded.
    pub(super) fn start(
        &self,
        kind: SpanKind,
        parent: Parent<'_>,
        describe: impl FnOnce() -> (Cow<'static, str>, Vec<KeyValue>),
    ) -> Span {
        let Some(on) = &self.on else {
            return Span::passing_on(parent.context());
        };
        if on.parent_based && parent.context().is_some_and(|parent| !parent.sampled) {
            return Span::passing_on(parent.context());
        }
        let server = matches!(kind, SpanKind::Server);
        let (name, attributes) = describe();
        let builder = on
            .tracer
            .span_builder(name)
            .with_kind(kind)
            .with_attributes(attributes);
        on.begin(builder, server, parent)
    }
}

impl On {
    pub(super) fn begin(
        &self,
        builder: opentelemetry::trace::SpanBuilder,
        server: bool,
        parent: Parent<'_>,
    ) -> Span {
        let mut context = Context::new();
        if let Some(sdk) = parent.to_sdk() {
            context = context.with_remote_span_context(sdk);
        }
        let span = self.tracer.build_with_context(builder, &context);
        let started = Span::started(span, server, parent.context().and_then(|p| p.state.clone()));
        if started.is_recording() || parent.context().is_none() {
            return started;
        }
        // It is not recorded, so children get the last context that may be recorded.
        Span::passing_on(parent.context())
    }
}

/// The origin of the parent's context.
#[derive(Clone, Copy)]
pub(super) enum Parent<'a> {
    /// Another process.
    Remote(Option<&'a TraceContext>),
    /// This one.
    Local(Option<&'a TraceContext>),
}

impl<'a> Parent<'a> {
    fn context(self) -> Option<&'a TraceContext> {
        let (Parent::Remote(context) | Parent::Local(context)) = self;
        context
    }

    fn to_sdk(self) -> Option<opentelemetry::trace::SpanContext> {
        match self {
            Parent::Remote(context) => context.map(|context| to_sdk(context, true)),
            Parent::Local(context) => context.map(|context| to_sdk(context, false)),
        }
    }
}

/// The attributes of every messaging span (OpenTelemetry's messaging conventions).
pub(super) fn message(
    kind: &'static str,
    name: &'static str,
    channel: Option<&ChannelName>,
    id: Uuid,
) -> Vec<KeyValue> {
    let mut attributes = operation(kind, name);
    attributes.extend(
        channel.map(|channel| {
            KeyValue::new("messaging.destination.name", channel.as_str().to_owned())
        }),
    );
    attributes.push(KeyValue::new("messaging.message.id", id.to_string()));
    attributes
}

fn operation(kind: &'static str, name: &'static str) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(8);
    attributes.push(KeyValue::new("messaging.system", "tidings"));
    attributes.push(KeyValue::new("messaging.operation.type", kind));
    attributes.push(KeyValue::new("messaging.operation.name", name));
    attributes
}

pub(super) fn connection_id(connection: ConnectionId) -> KeyValue {
    KeyValue::new("messaging.client.id", connection.to_string())
}

/// The methods of RFC 9110 and RFC 5789. Any other name is client text, and is replaced.
fn known_method(method: &str) -> &'static str {
    const KNOWN: [&str; 9] = [
        "GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "HEAD", "CONNECT", "TRACE",
    ];
    KNOWN
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("_OTHER")
}
