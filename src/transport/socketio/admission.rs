//! Admission of a handshake, and the check of every later request's origin.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, Response, StatusCode};

use super::endpoint::Endpoint;
use super::failure::Failure;
use super::state::HandshakeIdentity;
use crate::api::problem::problem_with_status;
use crate::auth::bearer;
use crate::session::{
    self, AdmissionRequest, Authentication, Credentials, OriginRule, RejectReason, Rejection,
    check_origin,
};
use crate::telemetry::{Span, Transport, extract};

/// A handshake that becomes a connection.
pub(super) struct Admitted {
    /// The span of the request.
    pub(super) span: Span,
    pub(super) connection: session::Admitted,
    /// The handshake's identity. It is set when the client connects to a namespace, possibly with
    /// another token; a wrong token is reported there, because pages can read that.
    pub(super) handshake: HandshakeIdentity,
}

impl Endpoint {
    /// Requests admission.
    ///
    /// # Errors
    ///
    /// The response that rejects the handshake.
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
        let allowed = self.allowed_origins.load_full();
        let admission = AdmissionRequest {
            transport: Transport::SocketIo,
            address,
            origin: Some(OriginRule {
                headers,
                allowed: &allowed,
            }),
            credentials: Credentials::Token(bearer(headers).map(|of_header| of_header.or(token))),
            authentication: Authentication::InBand,
            headers: Some(headers),
            trace: connecting.as_ref(),
        };
        match services.admit(admission).await {
            Ok(mut admitted) => Ok(Admitted {
                span,
                handshake: Arc::new(admitted.take_identity()),
                connection: admitted,
            }),
            Err(rejection) => {
                services.metrics.error(rejection.error.code());
                span.set_error(&rejection.error);
                Err(Box::new(encode(&rejection)))
            }
        }
    }

    /// Checks the origin of requests of an open session.
    ///
    /// # Errors
    ///
    /// [`Failure::Forbidden`].
    pub(super) fn check_origin(
        &self,
        headers: &HeaderMap,
        address: SocketAddr,
    ) -> Result<(), Failure> {
        let allowed = &self.allowed_origins.load();
        check_origin(OriginRule { headers, allowed }).map_err(|rejection| {
            let socketio = Some(Transport::SocketIo);
            self.services
                .note_rejection(address, socketio, &rejection.error);
            Failure::Forbidden
        })
    }
}

/// A rejection as a problem, except for the one that has an Engine.IO error code.
fn encode(rejection: &Rejection) -> Response<Body> {
    if rejection.reason == RejectReason::Origin {
        return Failure::Forbidden.response();
    }
    let status = StatusCode::from_u16(rejection.http_status());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    problem_with_status(&rejection.error, status)
}
