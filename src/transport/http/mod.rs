//! The HTTP routes of the public listener, except for the WebSocket.

mod asyncapi;
mod body;
mod broadcast;
mod caller;
mod catalog;
mod channels;
mod cloud_events;
mod connections;
mod console;
mod events;
mod observe;
mod older;
mod openapi;
mod operations;
mod pages;
mod parameters;
mod query;
mod reply;
mod rpc;
mod sse;
mod stream;
mod ticks;
mod webhooks;

pub use asyncapi::{AsyncApiServer, AsyncApiSettings, document as asyncapi_document};
#[cfg(feature = "fuzzing")]
pub use events::read_all as read_events;

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, get, post};

use crate::auth::Identity;
use crate::lifecycle::Lifecycle;
use crate::net::origin;
use crate::session::Services;
use observe::{Route, observe};
pub use pages::DevGuide;

#[cfg(feature = "parts")]
pub use sse::dialect as sse_dialect;

/// The settings of the routes.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Origins whose pages may call the API (CORS) and open event streams; a stored replacement
    /// applies to later requests.
    pub allowed_origins: Arc<ArcSwap<Vec<String>>>,
    /// What the page for newcomers at `/` says; `None` without `--dev`.
    pub guide: Option<Arc<DevGuide>>,
    /// The dialects of each path, for the AsyncAPI document; a stored replacement applies from then
    /// on.
    pub asyncapi: Arc<ArcSwap<AsyncApiSettings>>,
}

/// Who may call without a token.
#[derive(Debug, Clone)]
pub enum Access {
    /// Nobody.
    Token,
    /// Everyone, with this identity; a client's certificate names another one.
    Trusted(Arc<Identity>),
    /// Everyone on this machine, with this identity.
    Loopback(Arc<Identity>),
}

/// Who calls, as its certificate says. Whoever accepts connections puts it into each request's
/// extensions.
#[derive(Debug, Clone)]
pub struct CertifiedCaller(pub Arc<Identity>);

impl Access {
    /// Who calls without a token, if that is allowed.
    fn without_token(&self, extensions: &http::Extensions) -> Option<Arc<Identity>> {
        match self {
            Access::Token => None,
            Access::Trusted(identity) => {
                let certified = extensions.get::<CertifiedCaller>();
                Some(Arc::clone(certified.map_or(identity, |caller| &caller.0)))
            }
            Access::Loopback(identity) => {
                let ConnectInfo(address) = extensions.get::<ConnectInfo<SocketAddr>>()?;
                let here = address.ip().to_canonical().is_loopback();
                here.then(|| Arc::clone(identity))
            }
        }
    }
}

/// State shared by the handlers.
#[derive(Clone)]
struct Shared {
    access: Access,
    /// Whether these are the routes of the internal listener.
    is_internal: bool,
    services: Arc<Services>,
    lifecycle: Arc<Lifecycle>,
    allowed_origins: Arc<ArcSwap<Vec<String>>>,
    asyncapi: Arc<ArcSwap<AsyncApiSettings>>,
}

/// The routes. `/readyz` answers 503 once the server is about to stop.
pub fn routes(
    services: &Arc<Services>,
    settings: HttpSettings,
    lifecycle: Arc<Lifecycle>,
) -> Router {
    let shared = Shared {
        access: Access::Token,
        is_internal: false,
        services: Arc::clone(services),
        lifecycle,
        allowed_origins: settings.allowed_origins,
        asyncapi: settings.asyncapi,
    };
    let mut routes = Router::new()
        .route("/healthz", get(pages::healthy))
        .route("/readyz", get(pages::ready));
    if let Some(guide) = settings.guide {
        let answer = move |request: Request| {
            let guide = Arc::clone(&guide);
            async move { pages::guide(&guide, &request) }
        };
        routes = routes
            .route("/", get(pages::demo))
            .route("/dev.json", get(answer));
    }
    for (path, methods) in api() {
        routes = routes.route(path, observed(&shared, path, methods));
    }
    routes
        .fallback(pages::nothing_here)
        .method_not_allowed_fallback(reply::not_allowed)
        .layer(origin::cors(Arc::clone(&shared.allowed_origins)))
        .layer(from_fn(channels::allow))
        .with_state(shared)
}

/// The routes of the internal listener: the console, and what it asks for. Origins are checked by the
/// listener.
pub fn console_routes(
    services: &Arc<Services>,
    access: Access,
    lifecycle: Arc<Lifecycle>,
) -> Router {
    let shared = Shared {
        access,
        is_internal: true,
        services: Arc::clone(services),
        lifecycle,
        allowed_origins: Arc::default(),
        asyncapi: Arc::default(),
    };
    let mut routes = console::routes();
    for (path, methods) in api() {
        if is_for_console(path) {
            routes = routes.route(path, observed(&shared, path, methods));
        }
    }
    routes
        .fallback(pages::nothing_here)
        .method_not_allowed_fallback(reply::not_allowed)
        .layer(from_fn(channels::allow))
        .with_state(shared)
}

/// True for the paths of [`console_routes`].
#[must_use]
pub fn is_for_console(path: &str) -> bool {
    path == "/console"
        || path.starts_with("/console/")
        || path == "/sse"
        || (path.starts_with("/api/v1/") && !path.starts_with("/api/v1/websocket/"))
}

/// Every path of the API with its handlers.
fn api() -> Vec<(&'static str, MethodRouter<Shared>)> {
    vec![
        ("/openapi.json", get(openapi::show)),
        ("/asyncapi.json", get(asyncapi::show)),
        ("/sse", get(sse::open)),
        ("/stream", get(stream::open)),
        ("/api/v1/events", post(events::publish)),
        ("/api/v1/cloudevents", post(events::publish_cloud_event)),
        (
            "/api/v1/cloudevents/batch",
            post(events::publish_cloud_event_batch),
        ),
        ("/api/v1/stats", get(operations::stats)),
        ("/api/v1/stats/history", get(operations::stats_history)),
        ("/api/v1/server", get(operations::server)),
        ("/api/v1/rpc", post(rpc::call)),
        ("/api/v1/explain", post(operations::explain)),
        ("/api/v1/refusals", get(operations::refusals)),
        ("/api/v1/sources", get(operations::sources)),
        ("/api/v1/webhooks", get(webhooks::list)),
        ("/api/v1/webhooks/resend", post(webhooks::resend)),
        (
            "/api/v1/connections",
            get(connections::list).delete(connections::end_all),
        ),
        (
            "/api/v1/connections/{id}",
            get(connections::show).delete(connections::end),
        ),
        ("/api/v1/channels", get(channels::list)),
        (
            "/api/v1/channels/{*channel}",
            get(channels::show).delete(channels::purge),
        ),
        ("/api/v1/catalog", get(catalog::list)),
        ("/api/v1/catalog/{type}", get(catalog::show)),
        ("/api/v1/catalog/{type}/validate", post(catalog::validate)),
        ("/api/v1/websocket/connections", get(older::connections)),
        ("/api/v1/websocket/broadcast", post(older::broadcast)),
        ("/api/v1/websocket/stats", get(older::stats)),
        ("/websocket/clients", get(older::clients)),
        ("/websocket/broadcast", post(older::broadcast)),
        ("/websocket/disconnect/{id}", post(older::disconnect)),
        ("/websocket/stats", get(older::stats)),
    ]
}

fn observed(
    shared: &Shared,
    name: &'static str,
    methods: MethodRouter<Shared>,
) -> MethodRouter<Shared> {
    let route = Route {
        shared: shared.clone(),
        name,
    };
    let layer = from_fn_with_state(route, observe);
    methods.fallback(reply::not_allowed).layer(layer)
}
