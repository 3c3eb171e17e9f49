//! The public listener: WebSocket, Socket.IO and HTTP routes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::{Extension, Router};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tower::ServiceExt;

use super::Assembled;
use crate::api::problem::problem;
use crate::config::Config;
use crate::hub::Link;
use crate::lifecycle::Lifecycle;
use crate::net::forwarded::Trust;
use crate::net::host;
use crate::net::origin;
use crate::session::Services;
use crate::transport::http::DevGuide;
use crate::transport::socketio::Endpoint as SocketIo;
use crate::transport::ws::{Admitted, Endpoint};

/// Serves the public listener. Upgrades go directly to the WebSocket endpoint, everything else to
/// the HTTP routes.
pub(super) struct Public {
    services: Arc<Services>,
    endpoint: Arc<Endpoint>,
    path: String,
    socketio: Arc<SocketIo>,
    routes: Router,
    socketio_routes: Router,
    trust: Arc<ArcSwap<Trust>>,
    lifecycle: Arc<Lifecycle>,
    /// Whether the warning about an untrusted proxy was logged.
    warned: AtomicBool,
    keep_alive: Duration,
}

/// The result of offering a raw request to the WebSocket endpoint.
pub(super) enum Admission {
    /// It is not for the WebSocket endpoint, which has not handled it.
    Elsewhere,
    /// It was refused with this response.
    Refused(Response<Body>),
    /// It becomes a connection.
    Admitted(Box<Admitted>),
}

impl Public {
    pub(super) fn new(
        assembled: &Assembled,
        config: &Config,
        guide: Option<Arc<DevGuide>>,
        lifecycle: Arc<Lifecycle>,
    ) -> Self {
        let services = Arc::clone(&assembled.services);
        let settings = crate::transport::http::HttpSettings {
            allowed_origins: Arc::clone(&assembled.allowed_origins),
            guide,
            asyncapi: Arc::clone(&assembled.asyncapi),
        };
        Public {
            routes: crate::transport::http::routes(&services, settings, Arc::clone(&lifecycle)),
            lifecycle,
            socketio_routes: socketio_routes(assembled),
            socketio: Arc::clone(&assembled.socketio),
            services,
            endpoint: Arc::clone(&assembled.endpoint),
            path: config.websocket.path.clone(),
            trust: Arc::clone(&assembled.trust),
            warned: AtomicBool::new(false),
            keep_alive: config.server.keep_alive,
        }
    }

    pub(super) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// True for a trusted proxy, whose connections carry requests of many clients.
    pub(super) fn is_proxy(&self, address: IpAddr) -> bool {
        self.trust.load().is_proxy(address)
    }

    /// How long a connection may be idle between two requests.
    pub(super) fn keep_alive(&self) -> Duration {
        self.keep_alive
    }

    /// Whether a request is a health probe.
    pub(super) fn is_probe<B>(request: &Request<B>) -> bool {
        matches!(request.uri().path(), "/healthz" | "/readyz")
    }

    /// The client's address. Warns once if an untrusted peer sends a forwarding header, because all
    /// of its clients then count as one address.
    fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        let trust = self.trust.load();
        if !self.warned.load(Ordering::Relaxed)
            && let Some(header) = trust.untrusted_header(peer.ip(), headers)
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                peer = %peer.ip(),
                %header,
                "a peer that is not in public.trusted_proxies sends a forwarding header: if it is a \
                 proxy, all of its clients count as one address"
            );
        }
        trust.client(peer, headers)
    }

    /// Handles a request that was parsed before hyper, if it is for the WebSocket endpoint.
    pub(super) async fn admit(&self, request: &Request<()>, peer: SocketAddr) -> Admission {
        let (path, query) = (request.uri().path(), request.uri().query());
        let is_ours = path == self.path || self.endpoint.is_at(path);
        if !is_ours || self.socketio.takes(path, query, true) || host::check(request).is_err() {
            return Admission::Elsewhere;
        }
        let address = self.client(peer, request.headers());
        match self.endpoint.admit(request, address).await {
            Ok(admitted) => Admission::Admitted(Box::new(admitted)),
            Err(refusal) => Admission::Refused(refusal.map(Body::new)),
        }
    }

    /// Passes the connection of an admitted request to the hub.
    pub(super) fn enter(&self, admitted: Admitted, link: Link, early: Vec<u8>) {
        self.endpoint.enter(admitted, link, early);
    }

    /// The server's lifecycle.
    pub(super) fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    pub(super) async fn answer(
        &self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Response<Body> {
        if let Err(error) = host::check(&request) {
            return problem(&error);
        }
        let address = self.client(peer, request.headers());
        let (path, query) = (request.uri().path(), request.uri().query());
        let plain = path == self.path || self.endpoint.is_at(path);
        if self.socketio.takes(path, query, plain) {
            request.extensions_mut().insert(ConnectInfo(address));
            return call(&self.socketio_routes, request).await;
        }
        if plain {
            return self.endpoint.upgrade(request, address).await.map(Body::new);
        }
        request.extensions_mut().insert(ConnectInfo(address));
        call(&self.routes, request).await
    }
}

async fn call(routes: &Router, request: Request<Incoming>) -> Response<Body> {
    match routes.clone().oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The routes of Socket.IO, which have their own allowed origins.
fn socketio_routes(assembled: &Assembled) -> Router {
    let answer =
        |State(endpoint): State<Arc<SocketIo>>,
         Extension(ConnectInfo(address)): Extension<ConnectInfo<SocketAddr>>,
         request: Request<Body>| async move { endpoint.answer(request, address).await };
    let allowed = Arc::clone(&assembled.allowed_origins);
    Router::new()
        .fallback(answer)
        .layer(origin::cors_with_credentials(allowed))
        .with_state(Arc::clone(&assembled.socketio))
}
