//! What the internal listener answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use http::header::{ACCEPT, CONTENT_TYPE, ORIGIN};
use http::{HeaderName, HeaderValue, Method, Request, Response, Version};
use hyper::body::Incoming;
use tower::ServiceExt;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::Assembled;
use super::speak::end_after;
use super::streams::{Answer, Streams};
use crate::error::Error;
use crate::grpc::{PeerAddress, PeerIdentity};
use crate::lifecycle::Lifecycle;
use crate::problem::problem;
use crate::session::Services;
use crate::telemetry::TextFormat;

/// How long a browser may remember the answer to a preflight request.
const REMEMBER: Duration = Duration::from_mins(10);
/// How a call ended, where no message came.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// True for one of these origins, or where any may call. There are no pages here, so an origin is
/// never the server's own: what names itself so came by a name that was bent to this address.
fn is_listed(origin: &HeaderValue, allowed: &[String]) -> bool {
    let is = |listed: &String| listed == "*" || listed.as_bytes() == origin.as_bytes();
    allowed.iter().any(is)
}

/// The internal listener's requests: gRPC and gRPC-Web by their content type, `/metrics`, and
/// nothing else.
pub(super) struct Internal {
    services: Arc<Services>,
    grpc: Router,
    /// Origins whose pages may call gRPC-Web.
    origins: Arc<ArcSwap<Vec<String>>>,
    streams: Streams,
    lifecycle: Arc<Lifecycle>,
}

impl Internal {
    pub(super) fn new(assembled: &Assembled, lifecycle: Arc<Lifecycle>) -> Self {
        let origins = Arc::clone(&assembled.internal_origins);
        let allowed = Arc::clone(&origins);
        let grpc_web = [
            GRPC_STATUS,
            HeaderName::from_static("grpc-message"),
            HeaderName::from_static("grpc-status-details-bin"),
        ];
        let cors = CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(move |origin, _| {
                is_listed(origin, &allowed.load())
            }))
            .allow_methods([Method::POST])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(grpc_web)
            .max_age(REMEMBER);
        Internal {
            origins,
            lifecycle,
            streams: Streams::new(&assembled.services.metrics),
            services: Arc::clone(&assembled.services),
            grpc: assembled.grpc.clone().layer(cors),
        }
    }

    pub(super) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// What the listener knows of the server's end.
    pub(super) fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// What runs the streams of HTTP/2.
    pub(super) fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Answers a request.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        address: SocketAddr,
        certified: Option<PeerIdentity>,
    ) -> Response<Body> {
        // Who follows may be slow: what waits for it has bounds of its own.
        let follows = request.uri().path().ends_with("/Subscribe");
        let version = request.version();
        let mut response = self.route(request, address, certified).await;
        if version < Version::HTTP_2 {
            end_after(&mut response, &self.lifecycle);
        }
        if follows {
            return response;
        }
        response.map(|body| Body::new(Answer::new(body)))
    }

    async fn route(
        &self,
        mut request: Request<Incoming>,
        address: SocketAddr,
        certified: Option<PeerIdentity>,
    ) -> Response<Body> {
        let page = request.headers().get(ORIGIN);
        if let Some(origin) = page
            && !is_listed(origin, &self.origins.load())
        {
            let text = "pages of this origin may not call (internal.allowed_origins)";
            let error = Error::denied(text);
            self.services.metrics.error(error.code());
            self.services.not_let_in(address, None, &error);
            return problem(&error);
        }
        let preflight = page.is_some() && request.method() == Method::OPTIONS;
        let content_type = request
            .headers()
            .get(CONTENT_TYPE)
            .map(HeaderValue::as_bytes);
        let grpc = content_type.is_some_and(|kind| kind.starts_with(b"application/grpc"));
        if grpc || preflight {
            request.extensions_mut().insert(PeerAddress(address));
            if let Some(certified) = certified {
                request.extensions_mut().insert(certified);
            }
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
