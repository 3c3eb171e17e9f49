//! A span that is recorded, only propagated, or disabled.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use opentelemetry::trace::{Span as _, SpanContext, Status, TraceFlags, TraceState};
use opentelemetry::{Key, KeyValue, Value};
use opentelemetry_sdk::trace::Span as SdkSpan;
use tracing::field::DisplayValue;

use crate::error::{Code, Error};
use crate::event::{Position, TraceContext};

/// A trace id as 32 hexadecimal digits, for log lines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId(pub u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A span id as 16 hexadecimal digits, for log lines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SpanId(pub u64);

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An operation with a duration. Ends on drop.
///
/// If tracing is off or the trace is not sampled, nothing is recorded, and the parent's context is
/// propagated.
#[derive(Debug, Default)]
pub struct Span {
    recording: Option<Box<SdkSpan>>,
    context: Option<TraceContext>,
    /// True for the kind server, where a client's error is not an error of the span.
    server: bool,
}

impl Span {
    /// Disabled: no recording, no context.
    #[must_use]
    pub const fn none() -> Self {
        Span {
            recording: None,
            context: None,
            server: false,
        }
    }

    /// No recording. Propagates the parent's context.
    pub(super) fn passing_on(parent: Option<&TraceContext>) -> Self {
        Span {
            recording: None,
            context: parent.cloned(),
            server: false,
        }
    }

    /// A span that the SDK started. `parent_state` is the inherited tracestate.
    pub(super) fn started(span: SdkSpan, server: bool, parent_state: Option<Arc<str>>) -> Self {
        let own = span.span_context();
        let context = own.is_valid().then(|| TraceContext {
            trace_id: u128::from_be_bytes(own.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(own.span_id().to_bytes()),
            sampled: own.is_sampled(),
            state: parent_state,
        });
        let recording = span.is_recording().then(|| Box::new(span));
        Span {
            recording,
            context,
            server,
        }
    }

    /// The context for children and events: this span's if it is recorded, else the parent's.
    #[must_use]
    pub fn context(&self) -> Option<TraceContext> {
        self.context.clone()
    }

    /// The same without a copy.
    #[must_use]
    pub fn context_ref(&self) -> Option<&TraceContext> {
        self.context.as_ref()
    }

    /// For the field `trace_id` of a log line, which is omitted without a trace.
    #[must_use]
    pub fn trace_id(&self) -> Option<DisplayValue<TraceId>> {
        self.context
            .as_ref()
            .map(|context| tracing::field::display(TraceId(context.trace_id)))
    }

    /// For the field `span_id` of a log line, which is omitted if the span is not recorded.
    #[must_use]
    pub fn span_id(&self) -> Option<DisplayValue<SpanId>> {
        let context = self.context.as_ref().filter(|_| self.is_recording());
        context.map(|context| tracing::field::display(SpanId(context.span_id)))
    }

    /// True if the span is recorded. Check before computing costly attributes.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.recording.is_some()
    }

    /// Adds or replaces an attribute.
    pub fn attribute(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.recording {
            span.set_attribute(KeyValue::new(Key::from_static_str(key), value));
        }
    }

    /// Marks the span as failed. In a span of the kind server, a client's error leaves the status
    /// unset, as the conventions require. The code is always in `error.type`.
    pub fn set_error(&mut self, error: &Error) {
        if let Some(span) = &mut self.recording {
            span.set_attribute(KeyValue::new("error.type", error.code().as_str()));
            if !self.server || is_servers_fault(error.code()) {
                span.set_status(Status::error(error.message()));
            }
        }
    }

    /// Sets the event's position, if it has one, and whether it is a duplicate.
    pub fn committed(&mut self, position: Option<Position>, duplicate: bool) {
        if let Some(position) = position {
            let offset = i64::try_from(position.offset).unwrap_or(i64::MAX);
            self.attribute("tidings.offset", offset);
        }
        if duplicate {
            self.attribute("tidings.duplicate", true);
        }
    }

    /// Sets the status of a remote procedure call, by its number in `google.rpc.Code` (0 is OK).
    pub fn grpc_status(&mut self, code: i32) {
        self.attribute("rpc.grpc.status_code", i64::from(code));
    }

    /// Sets the status of an HTTP response.
    pub fn http_status(&mut self, status: u16) {
        self.attribute("http.response.status_code", i64::from(status));
        if status >= 500
            && let Some(span) = &mut self.recording
        {
            span.set_attribute(KeyValue::new("error.type", status.to_string()));
            span.set_status(Status::error(""));
        }
    }

    /// Links to the span, of any process, that created an event of this operation (OpenTelemetry's
    /// conventions for messaging). Limited by the SDK, to 128 by default.
    pub fn link_to_creator(&mut self, creator: &TraceContext) {
        if let Some(span) = &mut self.recording {
            span.add_link(to_sdk(creator, true), Vec::new());
        }
    }

    /// Links to a related span.
    pub(super) fn link(&mut self, other: &TraceContext) {
        if let Some(span) = &mut self.recording {
            span.add_link(to_sdk(other, false), Vec::new());
        }
    }

    /// Ends it now, with an explicit end time.
    pub(super) fn end_at(mut self, time: std::time::SystemTime) {
        if let Some(mut span) = self.recording.take() {
            span.end_with_timestamp(time);
        }
    }
}

/// The codes that fail a server's span (OpenTelemetry's conventions for gRPC).
fn is_servers_fault(code: Code) -> bool {
    match code {
        Code::Internal | Code::Unavailable => true,
        Code::InvalidArgument
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::ResourceExhausted
        | Code::OutOfRange => false,
    }
}

/// A trace context as the SDK has it.
pub(super) fn to_sdk(context: &TraceContext, remote: bool) -> SpanContext {
    let flags = if context.sampled {
        TraceFlags::SAMPLED
    } else {
        TraceFlags::default()
    };
    let state = context
        .state
        .as_deref()
        .and_then(|state| TraceState::from_str(state).ok());
    SpanContext::new(
        context.trace_id.into(),
        context.span_id.into(),
        flags,
        remote,
        state.unwrap_or_default(),
    )
}
