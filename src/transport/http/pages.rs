//! Routes that need no token: health, the demo page, and the 404.

use std::fmt;
use std::net::SocketAddr;
use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use ring::digest::{SHA256, digest};
use serde::Serialize;

use super::Shared;
use super::reply::{self, Refusal};
use crate::api::refusals::Unavailable;
use crate::error::Error;
use crate::net::host;

/// The demo page.
const DEMO: &str = include_str!("demo.html");

/// The content security policy of the page: its own script and style, by their digests, and nothing
/// injected.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let style = sources(DEMO, "<style>", "</style>");
    let script = sources(DEMO, "<script>", "</script>");
    let policy = format!(
        "default-src 'none'; style-src {style}; script-src {script}; img-src data:; \
         connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// The digests of all inline elements of one kind (Content Security Policy 3 §2.3.1).
fn sources(page: &str, open: &str, close: &str) -> String {
    let elements = page.split(open).skip(1);
    let texts = elements.filter_map(|rest| rest.split_once(close));
    let digests = texts.map(|(text, _)| {
        let digest = digest(&SHA256, text.as_bytes());
        format!("'sha256-{}'", BASE64.encode(digest))
    });
    digests.collect::<Vec<_>>().join(" ")
}

/// Whether the process runs
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "server",
    operation_id = "healthy",
    security(()),
    responses((status = 200, description = "Yes.", body = String)),
)]
pub(super) async fn healthy() -> &'static str {
    "ok\n"
}

/// Whether the server takes connections
///
/// It can also verify their tokens, and store published events.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "server",
    operation_id = "ready",
    security(()),
    responses((status = 200, description = "Yes.", body = String), Unavailable),
)]
pub(super) async fn ready(State(shared): State<Shared>) -> Response {
    if !shared.lifecycle.is_ready() {
        let error = Error::unavailable("the server is about to stop");
        return Refusal::from(error).into_response();
    }
    if !shared.services.broker.is_ready() {
        let error = Error::unavailable("the store can't write");
        return Refusal::from(error).into_response();
    }
    if shared.services.verifier.lacks_keys() {
        let error = Error::unavailable("the keys behind auth.jwks_url were never fetched");
        return Refusal::from(error).into_response();
    }
    "ok\n".into_response()
}

/// The demo page.
pub(super) async fn demo() -> Response {
    let mut response = Response::new(Body::from(DEMO));
    let headers = response.headers_mut();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(CONTENT_TYPE, html);
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Every other path.
pub(super) async fn nothing_here(State(shared): State<Shared>) -> Refusal {
    let error = Error::not_found("nothing is here");
    shared.services.metrics.error(error.code());
    error.into()
}

/// What the page for newcomers says: an event to try, and lines to paste.
#[derive(Clone, Serialize)]
pub struct DevGuide {
    /// The path of the running program.
    pub binary: String,
    /// The address of the internal listener.
    pub internal: String,
    /// The channel of the event to try.
    pub channel: String,
    /// Its type.
    pub event_type: String,
    /// Its data, as JSON.
    pub data: String,
    /// The path of the WebSocket.
    pub path: String,
    /// Whether connections without a token are admitted.
    pub anonymous: bool,
    /// Whether `/console/` is on the internal listener.
    pub console: bool,
    /// A token with the roles `service` and `admin`; only for pages on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Without the token.
impl fmt::Debug for DevGuide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevGuide")
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

/// Answers with the guide. The token is only for a page on this machine, called by an address or a
/// name that nobody else can own: a page of another site must not get it by DNS rebinding.
pub(super) fn guide(guide: &DevGuide, request: &Request) -> Response {
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let is_here = address.is_some_and(|ConnectInfo(at)| at.ip().to_canonical().is_loopback());
    let is_own_page = request.headers().get(ORIGIN).is_none();
    let may_know = is_here && is_own_page && host::is_for_own(request, &[]);
    let guide = DevGuide {
        token: guide.token.clone().filter(|_| may_know),
        ..guide.clone()
    };
    reply::json(&guide).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demo_page_complies_with_its_policy() {
        assert_eq!(
            DEMO.matches("<script").count(),
            DEMO.matches("<script>").count()
        );
        assert_eq!(
            DEMO.matches("<style").count(),
            DEMO.matches("<style>").count()
        );
        for inline in [" style=\"", " onclick=", " onload=", "javascript:"] {
            assert!(!DEMO.contains(inline), "{inline}");
        }
        let policy = POLICY.to_str().unwrap();
        assert!(policy.contains("script-src 'sha256-") && !policy.contains("unsafe"));
    }
}
