//! What the public listener answers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{Request, Response};
use hyper::body::Incoming;
use tower::ServiceExt;

use super::{Assembled, host};
use crate::config::Config;
use crate::forwarded::Trust;
use crate::problem::problem;
use crate::session::Services;
use crate::ws::Endpoint;

/// The public listener's requests: upgrades go straight to the WebSocket endpoint, the rest to the
/// HTTP routes.
pub(super) struct Public {
    services: Arc<Services>,
    endpoint: Arc<Endpoint>,
    path: String,
    routes: Router,
    trust: Arc<ArcSwap<Trust>>,
}

impl Public {
    pub(super) fn new(
        assembled: &Assembled,
        config: &Config,
        dev: bool,
        draining: Arc<AtomicBool>,
    ) -> Self {
        let services = Arc::clone(&assembled.services);
        let settings = crate::http::HttpSettings {
            allowed_origins: Arc::clone(&assembled.allowed_origins),
            demo: dev,
            websocket_path: config.websocket.path.clone(),
        };
        Public {
            routes: crate::http::routes(&services, settings, draining),
            services,
            endpoint: Arc::clone(&assembled.endpoint),
            path: config.websocket.path.clone(),
            trust: Arc::clone(&assembled.trust),
        }
    }

    pub(super) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// True for a trusted proxy, whose connections are those of many clients.
    pub(super) fn is_proxy(&self, address: IpAddr) -> bool {
        self.trust.load().is_proxy(address)
    }

    pub(super) async fn answer(
        &self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Response<Body> {
        if let Err(error) = host::check(&request) {
            return problem(&error);
        }
        let address = self.trust.load().client(peer, request.headers());
        let path = request.uri().path();
        if path == self.path || self.endpoint.is_at(path) {
            return self.endpoint.upgrade(request, address).await.map(Body::new);
        }
        request.extensions_mut().insert(ConnectInfo(address));
        match self.routes.clone().oneshot(request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}
