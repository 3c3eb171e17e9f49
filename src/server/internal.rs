//! What the internal listener answers.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use tower::ServiceExt;

use super::Assembled;
use crate::config::Config;
use crate::error::Error;
use crate::grpc::PeerAddress;
use crate::problem::problem;
use crate::session::Services;
use crate::telemetry::TextFormat;

/// The internal listener's requests: gRPC and gRPC-Web by their content type, `/metrics`, and
/// nothing else.
pub(super) struct Internal {
    services: Arc<Services>,
    grpc: Router,
}

impl Internal {
    pub(super) fn new(assembled: &Assembled, _: &Config) -> Self {
        Internal {
            services: Arc::clone(&assembled.services),
            grpc: assembled.grpc.clone(),
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
        let content_type = request
            .headers()
            .get(CONTENT_TYPE)
            .map(HeaderValue::as_bytes);
        if content_type.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
            request.extensions_mut().insert(PeerAddress(address));
            return match self.grpc.clone().oneshot(request.map(Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
        }
        if request.method() == Method::GET && request.uri().path() == "/metrics" {
            return self.metrics(&request);
        }
        problem(&Error::not_found("here are gRPC services and /metrics"))
    }

    fn metrics(&self, request: &Request<Incoming>) -> Response<Body> {
        let accept = request
            .headers()
            .get(ACCEPT)
            .and_then(|accept| accept.to_str().ok());
        let format = TextFormat::accepted(accept);
        let mut response = Response::new(Body::from(self.services.metrics.text(format)));
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static(format.content_type()),
        );
        response
    }
}
