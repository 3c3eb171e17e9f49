//! The HTTP routes of the public listener, but for the WebSocket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, Response};

use crate::error::Error;
use crate::problem::problem;
use crate::session::Services;

/// The page that shows a newcomer what happens.
const DEMO: &str = include_str!("demo.html");

/// What the routes are set up with.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Origins whose pages may call the API (CORS).
    pub allowed_origins: Vec<String>,
    /// Whether the demo page is at `/`.
    pub demo: bool,
    /// The largest payload of an event, in bytes.
    pub event_bytes: usize,
}

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    draining: Arc<AtomicBool>,
}

/// The routes. `/readyz` says no while `draining` is set.
pub fn routes(
    _services: &Arc<Services>,
    settings: HttpSettings,
    draining: Arc<AtomicBool>,
) -> Router {
    let mut routes = Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready));
    if settings.demo {
        routes = routes.route("/", get(demo));
    }
    routes
        .fallback(nothing_here)
        .with_state(Shared { draining })
}

/// The process runs.
async fn healthy() -> &'static str {
    "ok\n"
}

/// The server takes connections.
async fn ready(State(shared): State<Shared>) -> Response<Body> {
    if shared.draining.load(Ordering::Relaxed) {
        problem(&Error::unavailable("the server is about to stop"))
    } else {
        Response::new(Body::from("ok\n"))
    }
}

async fn demo() -> Response<Body> {
    let mut response = Response::new(Body::from(DEMO));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
        img-src data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}

async fn nothing_here() -> Response<Body> {
    problem(&Error::not_found("nothing is here"))
}
