//! Who may open a connection, and how much they have shown of who they are.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, Response, StatusCode};

use super::endpoint::Endpoint;
use super::failure::Failure;
use super::state::Shown;
use crate::api::problem::{problem, problem_with_status};
use crate::auth::{Identity, bearer};
use crate::error::{Error, Result};
use crate::event::TraceContext;
use crate::hub::ConnectionPermit;
use crate::net::origin;
use crate::telemetry::{Span, Transport, extract};

/// A request that becomes a connection.
pub(super) struct Admitted {
    /// The span of the request.
    pub(super) span: Span,
    pub(super) permit: ConnectionPermit,
    /// A token that is wrong refuses nothing here: the client is told as it connects to a
    /// namespace, where pages can read it.
    pub(super) shown: Shown,
}

impl Endpoint {
    /// Checks everything that can be refused with an HTTP status.
    pub(super) async fn admit(
        &self,
        headers: &HeaderMap,
        token: Option<&str>,
        address: SocketAddr,
    ) -> Result<Admitted, Box<Response<Body>>> {
        let services = &self.services;
        let parent = extract(|name| headers.get(name)?.to_str().ok());
        let mut span = services
            .tracing
            .connect(Transport::SocketIo, parent.as_ref());
        let connecting = span.context();
        let mut refuse = |error: &Error| {
            services.metrics.error(error.code());
            services.not_let_in(address, Some(Transport::SocketIo), error);
            span.set_error(error);
        };
        if let Some(departure) = self.lifecycle.departure() {
            let error = Error::unavailable("the server is about to stop");
            let error = error.retry_after(departure.come_back());
            refuse(&error);
            return Err(Box::new(problem(&error)));
        }
        let permit = services.hub.permit(address.ip()).map_err(|error| {
            refuse(&error);
            Box::new(if services.hub.is_crowded() {
                // Not this client's doing.
                problem_with_status(&error, StatusCode::SERVICE_UNAVAILABLE)
            } else {
                problem(&error)
            })
        })?;
        let shown = Arc::new(self.identify(headers, token, connecting.as_ref()).await);
        Ok(Admitted {
            span,
            permit,
            shown,
        })
    }

    /// Holds every request to the allowed origins.
    pub(super) fn check_origin(
        &self,
        headers: &HeaderMap,
        address: SocketAddr,
    ) -> Result<(), Failure> {
        if origin::is_allowed(headers, &self.allowed_origins.load()) {
            return Ok(());
        }
        let error = Error::denied("this origin may not connect (public.allowed_origins)");
        self.services
            .not_let_in(address, Some(Transport::SocketIo), &error);
        Err(Failure::Forbidden)
    }

    /// Who the handshake says that the client is: by header, else by query; `None` without a token.
    async fn identify(
        &self,
        headers: &HeaderMap,
        token: Option<&str>,
        parent: Option<&TraceContext>,
    ) -> Result<Option<Arc<Identity>>> {
        let verifier = &self.services.verifier;
        let of_header = bearer(headers).map_err(|failure| verifier.refused(failure))?;
        let Some(token) = of_header.or(token) else {
            return Ok(None);
        };
        let mut span = self.services.tracing.authenticate(parent);
        let identity = verifier.verify(token).await;
        identity
            .inspect_err(|error| span.set_error(error))
            .map(Some)
    }
}
