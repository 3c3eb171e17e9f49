//! What the public listener answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{Request, Response};
use hyper::body::Incoming;
use tower::ServiceExt;

use super::Assembled;
use crate::config::Config;
use crate::session::Services;
use crate::ws::Endpoint;

/// The public listener's requests: upgrades go straight to the WebSocket endpoint, the rest to the
/// HTTP routes.
pub(super) struct Public {
    services: Arc<Services>,
    endpoint: Arc<Endpoint>,
    path: String,
    routes: Router,
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
        }
    }

    pub(super) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    pub(super) async fn answer(
        &self,
        mut request: Request<Incoming>,
        address: SocketAddr,
    ) -> Response<Body> {
        if request.uri().path() == self.path {
            return self.endpoint.upgrade(request, address).await.map(Body::new);
        }
        request.extensions_mut().insert(ConnectInfo(address));
        match self.routes.clone().oneshot(request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}
