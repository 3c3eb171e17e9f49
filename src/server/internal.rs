//! The internal listener: gRPC, gRPC-Web and metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::ConnectInfo;
use http::header::{ACCEPT, ALLOW, CONTENT_LENGTH, CONTENT_TYPE, ORIGIN};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tower::ServiceExt;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::Assembled;
use super::serve::end_after;
use crate::api::problem::{problem, problem_with_status};
use crate::auth::Identity;
use crate::config::{Config, InternalAuth};
use crate::error::Error;
use crate::lifecycle::Lifecycle;
use crate::net::host;
use crate::net::origin;
use crate::net::stall_timeout::{PacedBody, StallTimeoutExecutor};
use crate::session::Services;
use crate::telemetry::TextFormat;
use crate::transport::grpc::{PeerAddress, PeerIdentity};
use crate::transport::http::{Access, CertifiedCaller, console_routes, is_for_console};

/// How long a browser may cache the response to a preflight request.
const REMEMBER: Duration = Duration::from_mins(10);
/// The status of a call in a response without messages.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// True if this origin is listed, or if any may call. The internal listener serves no pages, so an
/// origin equal to its own address indicates DNS rebinding.
fn is_listed(origin: &HeaderValue, allowed: &[String]) -> bool {
    origin
        .to_str()
        .is_ok_and(|origin| origin::is_listed(origin, allowed))
}

/// Serves the internal listener: gRPC and gRPC-Web, recognized by content type, `/metrics`, and
/// nothing else.
pub(super) struct Internal {
    services: Arc<Services>,
    grpc: Router,
    /// The console and its calls; `None` where it is not enabled.
    console: Option<Router>,
    /// Origins whose pages may call gRPC-Web.
    origins: Arc<ArcSwap<Vec<String>>>,
    /// Host names that are accepted.
    hosts: Arc<ArcSwap<Vec<String>>>,
    /// With TLS, only the owner of the certificate can answer for a name.
    tls: bool,
    streams: StallTimeoutExecutor,
    lifecycle: Arc<Lifecycle>,
    connections_per_ip: usize,
    keep_alive: Duration,
}

impl Internal {
    pub(super) fn new(assembled: &Assembled, config: &Config, lifecycle: Arc<Lifecycle>) -> Self {
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
        let console = config.console.enabled.then(|| {
            let access = console_access(assembled, config);
            console_routes(&assembled.services, access, Arc::clone(&lifecycle))
        });
        Internal {
            origins,
            console,
            lifecycle,
            hosts: Arc::clone(&assembled.internal_hosts),
            tls: config.internal.cert.is_some(),
            connections_per_ip: config.internal.connections_per_ip,
            keep_alive: config.server.keep_alive,
            streams: StallTimeoutExecutor::new(&assembled.services.metrics),
            services: Arc::clone(&assembled.services),
            grpc: assembled.grpc.clone().layer(cors),
        }
    }

    pub(super) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// The server's lifecycle.
    pub(super) fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// The executor of HTTP/2 streams.
    pub(super) fn streams(&self) -> &StallTimeoutExecutor {
        &self.streams
    }

    /// The most sockets per address.
    pub(super) fn connections_per_ip(&self) -> usize {
        self.connections_per_ip
    }

    /// How long a connection may be idle between two requests.
    pub(super) fn keep_alive(&self) -> Duration {
        self.keep_alive
    }

    /// Whether a request is a health or metrics probe.
    pub(super) fn is_probe<B>(request: &Request<B>) -> bool {
        let path = request.uri().path();
        path == "/metrics" || path.starts_with("/grpc.health.v1.Health/")
    }

    /// Whether a request may result from DNS rebinding. Browsers speak neither HTTP/2 without TLS,
    /// nor TLS with a server whose certificate does not match the name. Pages of allowed origins
    /// are recognized by their origin.
    fn is_rebound<B>(&self, request: &Request<B>, page: bool) -> bool {
        let browser = request.version() <= Version::HTTP_11 && !self.tls && !page;
        browser && !host::is_for_own(request, &self.hosts.load())
    }

    /// Handles a request.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        address: SocketAddr,
        certified: Option<PeerIdentity>,
    ) -> Response<Body> {
        // A subscription may wait for events for long. Its buffers have their own bounds.
        let is_subscription = request.uri().path().ends_with("/Subscribe");
        let version = request.version();
        let mut response = self.route(request, address, certified).await;
        if version < Version::HTTP_2 {
            end_after(&mut response, &self.lifecycle);
        }
        let kind = response.headers().get(CONTENT_TYPE);
        if is_subscription || kind.is_some_and(|kind| kind == "text/event-stream") {
            return response;
        }
        response.map(|body| Body::new(PacedBody::new(body)))
    }

    async fn route(
        &self,
        mut request: Request<Incoming>,
        address: SocketAddr,
        certified: Option<PeerIdentity>,
    ) -> Response<Body> {
        let page = request.headers().get(ORIGIN);
        let console = self
            .console
            .as_ref()
            .filter(|_| is_for_console(request.uri().path()));
        // The console's own page. Its name is checked below, as for requests that no page makes.
        let own = console.is_some() && origin::is_allowed(request.headers(), &[]);
        if let Some(origin) = page
            && !own
            && !is_listed(origin, &self.origins.load())
        {
            let text = "pages of this origin may not call (internal.allowed_origins)";
            let error = Error::denied(text);
            self.services.metrics.error(error.code());
            self.services.note_rejection(address, None, &error);
            return problem(&error);
        }
        if self.is_rebound(&request, page.is_some() && !own) {
            let text = "nobody may call by this name (internal.allowed_hosts)";
            let error = Error::denied(text);
            self.services.metrics.error(error.code());
            self.services.note_rejection(address, None, &error);
            return problem_with_status(&error, StatusCode::MISDIRECTED_REQUEST);
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
        if let Some(console) = console {
            request.extensions_mut().insert(ConnectInfo(address));
            if let Some(PeerIdentity(identity)) = certified {
                request.extensions_mut().insert(CertifiedCaller(identity));
            }
            return match console.clone().oneshot(request.map(Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
        }
        if request.uri().path() == "/metrics" {
            return match *request.method() {
                Method::GET => self.metrics(&request),
                Method::HEAD => head_of(self.metrics(&request)),
                _ => not_allowed(),
            };
        }
        problem(&Error::not_found(
            "here are gRPC services, /metrics and /console/",
        ))
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

/// Who may use the console without a token: whoever may call over gRPC without one, and with `--dev`
/// everyone on this machine.
fn console_access(assembled: &Assembled, config: &Config) -> Access {
    match config.internal.auth {
        InternalAuth::Mtls | InternalAuth::None => {
            Access::Trusted(Arc::new(Identity::trusted("internal")))
        }
        InternalAuth::Jwt if assembled.is_dev() => {
            Access::Loopback(Arc::new(Identity::trusted("dev")))
        }
        InternalAuth::Jwt => Access::Token,
    }
}

/// The same response without its body.
fn head_of(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = HttpBody::size_hint(&body).exact() {
        head.headers.insert(CONTENT_LENGTH, length.into());
    }
    Response::from_parts(head, Body::empty())
}

/// The path exists, but not for this method (RFC 9110 §15.5.6).
fn not_allowed() -> Response<Body> {
    let error = Error::invalid("expected GET or HEAD");
    let mut response = problem_with_status(&error, StatusCode::METHOD_NOT_ALLOWED);
    let methods = HeaderValue::from_static("GET, HEAD");
    response.headers_mut().insert(ALLOW, methods);
    response
}
