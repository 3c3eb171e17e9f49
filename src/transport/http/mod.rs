//! The HTTP routes of the public listener, except for the WebSocket.

mod asyncapi;
mod body;
mod broadcast;
mod caller;
mod catalog;
mod channels;
mod cloud_events;
mod connections;
mod events;
mod observe;
mod older;
mod openapi;
mod pages;
mod parameters;
mod query;
mod reply;
mod sse;

pub use asyncapi::{AsyncApiServer, AsyncApiSettings, document as asyncapi_document};
#[cfg(feature = "fuzzing")]
pub use events::read_all as read_events;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post};

use crate::lifecycle::Lifecycle;
use crate::net::origin;
use crate::session::Services;
use observe::{Route, observe};

#[cfg(feature = "parts")]
pub use sse::dialect as sse_dialect;

/// The settings of the routes.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Origins whose pages may call the API (CORS) and open event streams; a stored replacement
    /// applies to later requests.
    pub allowed_origins: Arc<ArcSwap<Vec<String>>>,
    /// Whether the demo page is served at `/`.
    pub demo: bool,
    /// The dialects of each path, for the AsyncAPI document; a stored replacement applies from then
    /// on.
    pub asyncapi: Arc<ArcSwap<AsyncApiSettings>>,
}

/// State shared by the handlers.
#[derive(Clone)]
struct Shared {
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
        services: Arc::clone(services),
        lifecycle,
        allowed_origins: settings.allowed_origins,
        asyncapi: settings.asyncapi,
    };
    let mut routes = Router::new()
        .route("/healthz", get(pages::healthy))
        .route("/readyz", get(pages::ready));
    if settings.demo {
        routes = routes.route("/", get(pages::demo));
    }
    for (path, methods) in api() {
        routes = routes.route(path, observed(&shared, path, methods));
    }
    routes
        .fallback(pages::nothing_here)
        .method_not_allowed_fallback(reply::not_allowed)
        .layer(origin::cors(Arc::clone(&shared.allowed_origins)))
        .with_state(shared)
}

/// Every path of the API with its handlers.
fn api() -> Vec<(&'static str, MethodRouter<Shared>)> {
    vec![
        ("/openapi.json", get(openapi::show)),
        ("/asyncapi.json", get(asyncapi::show)),
        ("/sse", get(sse::open)),
        ("/api/v1/events", post(events::publish)),
        ("/api/v1/cloudevents", post(events::publish_cloud_event)),
        (
            "/api/v1/cloudevents/batch",
            post(events::publish_cloud_event_batch),
        ),
        ("/api/v1/stats", get(connections::stats)),
        (
            "/api/v1/connections",
            get(connections::list).delete(connections::end_all),
        ),
        (
            "/api/v1/connections/{id}",
            get(connections::show).delete(connections::end),
        ),
        ("/api/v1/channels", get(channels::list)),
        ("/api/v1/channels/{*channel}", get(channels::show)),
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
