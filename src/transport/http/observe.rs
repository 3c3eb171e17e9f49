//! Records every request: its span, and the error of its response.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::Shared;
use super::parameters::Parameters;
use super::reply::Refusal;
use crate::error::{Code, Error};
use crate::event::TraceContext;
use crate::telemetry::{Span, extract};

/// The most creator links of a request's span: the link limit of the SDK's spans.
const MAX_CREATORS: usize = 128;

/// The trace context of a request's span, as a request extension.
#[derive(Debug, Clone, Default)]
pub(super) struct Trace {
    own: Option<TraceContext>,
    brought: bool,
    /// The trace contexts that the events of the request name; `None` if the span is not recorded.
    creators: Option<Arc<Mutex<Vec<TraceContext>>>>,
}

impl Trace {
    /// The context, if there is one.
    pub(super) fn context(&self) -> Option<&TraceContext> {
        self.own.as_ref()
    }

    /// The context for an event of the request that has `own`: that of the request if the caller
    /// sent a trace, or the event has none. The request's span is linked with `own`.
    pub(super) fn of_event(&self, own: Option<TraceContext>) -> Option<TraceContext> {
        let Some(own) = own else {
            return self.own.clone();
        };
        if let Some(creators) = &self.creators {
            let mut creators = creators.lock().unwrap_or_else(PoisonError::into_inner);
            if creators.len() < MAX_CREATORS && !creators.contains(&own) {
                creators.push(own.clone());
            }
        }
        match &self.own {
            Some(request) if self.brought => Some(request.clone()),
            Some(_) | None => Some(own),
        }
    }

    /// Links a request's span with the creators of its events.
    fn link(&self, span: &mut Span) {
        if let Some(creators) = &self.creators {
            let creators = creators.lock().unwrap_or_else(PoisonError::into_inner);
            creators
                .iter()
                .for_each(|creator| span.link_to_creator(creator));
        }
    }
}

/// A route's name in spans: the pattern, never a path.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) shared: Shared,
    pub(super) name: &'static str,
}

/// The refusal of a body with a content coding (RFC 9110 §15.5.16), which would be read as
/// different content. gRPC has its own compression.
fn coded(headers: &HeaderMap) -> Option<Response> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if codings.all(plain) {
        return None;
    }
    let error = Error::field("content-encoding", "expected a body that is not compressed");
    let refusal = Refusal::with_status(error, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    Some(([(ACCEPT_ENCODING, "identity")], refusal).into_response())
}

/// Wraps a request in a span and counts its error.
pub(super) async fn observe(
    State(route): State<Route>,
    mut request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let parent = extract(|name| headers.get(name)?.to_str().ok());
    let services = &route.shared.services;
    let mut span = services
        .tracing
        .http(request.method().as_str(), route.name, parent.as_ref());
    let trace = Trace {
        own: span.context(),
        brought: parent.is_some(),
        creators: span.is_recording().then(Arc::default),
    };
    let parameters = Parameters::of(route.name, request.method(), request.uri().path());
    request.extensions_mut().insert(trace.clone());
    request.extensions_mut().insert(parameters);
    let response = match coded(request.headers()) {
        Some(refused) => refused,
        None => next.run(request).await,
    };
    trace.link(&mut span);
    let status = response.status().as_u16();
    span.http_status(status);
    tracing::debug!(
        trace_id = span.trace_id(),
        span_id = span.span_id(),
        route = route.name,
        status,
        "answered"
    );
    if let Some(code) = response.extensions().get::<Code>() {
        services.metrics.error(*code);
    }
    response
}
