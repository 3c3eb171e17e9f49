//! What is noted of every request: its span, and the error that it was told.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use super::Shared;
use crate::error::Code;
use crate::event::TraceContext;
use crate::telemetry::extract;

/// The trace context of a request's span, as a request extension.
#[derive(Debug, Clone, Default)]
pub(super) struct Trace {
    own: Option<TraceContext>,
    brought: bool,
}

impl Trace {
    /// The context, where there is one.
    pub(super) fn context(&self) -> Option<&TraceContext> {
        self.own.as_ref()
    }

    /// The context, where the caller brought the trace; where it did not, an event in the request
    /// may have one of its own.
    pub(super) fn brought(&self) -> Option<&TraceContext> {
        self.own.as_ref().filter(|_| self.brought)
    }
}

/// A route, as it is named in spans: the pattern, never a path.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) shared: Shared,
    pub(super) name: &'static str,
}

/// Puts a span around a request and counts its refusal.
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
    request.extensions_mut().insert(Trace {
        own: span.context(),
        brought: parent.is_some(),
    });
    let response = next.run(request).await;
    let status = response.status().as_u16();
    span.http_status(status);
    tracing::debug!(
        trace_id = span.trace_id(),
        route = route.name,
        status,
        "answered"
    );
    if let Some(code) = response.extensions().get::<Code>() {
        services.metrics.error(*code);
    }
    response
}
