//! The common part of every call: the caller, the span, and the status.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::status::status;
use super::{GrpcAuth, PeerAddress, PeerIdentity, TRUSTED};
use crate::auth::{AuthFailure, Identity, bearer};
use crate::error::{Error, Result};
use crate::event::TraceContext;
use crate::session::{ClientFacts, Services, Session};
use crate::telemetry::{Span, Transport, extract};

/// Admits calls.
#[derive(Clone)]
pub(super) struct RpcContext {
    services: Arc<Services>,
    /// The identity of every caller, if no token is required.
    trusted: Option<Arc<Identity>>,
    stopping: CancellationToken,
}

/// A procedure: the service's name and its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Procedure(pub(super) &'static str, pub(super) &'static str);

/// The caller's identity, determined from the head of the call before its body is read. It is in
/// the request's extensions until the procedure takes it.
#[derive(Clone)]
pub(super) struct Admission(Arc<Mutex<Option<Admitted>>>);

struct Admitted {
    procedure: Procedure,
    identity: Arc<Identity>,
    span: Span,
}

/// An admitted call.
pub(super) struct Call<Q> {
    /// The caller's session.
    pub(super) session: Session,
    /// The request.
    pub(super) message: Q,
    /// The caller's address; unspecified if it is unknown.
    pub(super) address: SocketAddr,
    /// Its metadata.
    pub(super) headers: HeaderMap,
    /// The context of the call's span, or else of its caller's.
    pub(super) trace: Option<TraceContext>,
}

impl RpcContext {
    pub(super) fn new(
        services: &Arc<Services>,
        auth: GrpcAuth,
        stopping: CancellationToken,
    ) -> Self {
        let trusted = match auth {
            GrpcAuth::Jwt => None,
            GrpcAuth::Trusted => Some(Arc::new(Identity::trusted(TRUSTED))),
        };
        RpcContext {
            services: Arc::clone(services),
            trusted,
            stopping,
        }
    }

    /// Cancelled when streams must end.
    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Answers a unary call.
    pub(super) async fn answer<Q, A, F>(
        &self,
        procedure: Procedure,
        request: Request<Q>,
        run: impl FnOnce(Call<Q>) -> F,
    ) -> Result<Response<A>, Status>
    where
        F: Future<Output = Result<A>>,
    {
        let (call, span) = self.enter(procedure, request)?;
        match run(call).await {
            Ok(answer) => {
                self.finish(span, None);
                Ok(Response::new(answer))
            }
            Err(error) => Err(self.refuse(span, &error)),
        }
    }

    /// Authenticates the caller, and starts the call's span. Does not need the body.
    ///
    /// # Errors
    ///
    /// `unauthenticated`, as a status.
    pub(super) async fn admit(
        &self,
        procedure: Procedure,
        headers: &HeaderMap,
        extensions: &http::Extensions,
    ) -> Result<(Admission, Arc<Identity>), Status> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let Procedure(service, method) = procedure;
        let span = self
            .services
            .tracing
            .rpc(service, method, extract(text).as_ref());
        match self.identify(headers, extensions, &span).await {
            Ok(identity) => {
                let admitted = Admitted {
                    procedure,
                    identity: Arc::clone(&identity),
                    span,
                };
                let admission = Admission(Arc::new(Mutex::new(Some(admitted))));
                Ok((admission, identity))
            }
            Err(error) => {
                let grpc = Some(Transport::Grpc);
                self.services
                    .note_rejection(address_in(extensions), grpc, &error);
                Err(self.refuse(span, &error))
            }
        }
    }

    /// Takes the admission of a call to this procedure.
    ///
    /// # Errors
    ///
    /// `internal`, as a status, if it was not admitted.
    pub(super) fn enter<Q>(
        &self,
        procedure: Procedure,
        request: Request<Q>,
    ) -> Result<(Call<Q>, Span), Status> {
        let (metadata, extensions, message) = request.into_parts();
        let admitted = extensions.get().and_then(Admission::take);
        let Some(admitted) = admitted.filter(|admitted| admitted.procedure == procedure) else {
            return Err(status(&Error::internal("the caller was not authenticated")));
        };
        let Admitted { identity, span, .. } = admitted;
        let (address, headers) = (address_in(&extensions), metadata.into_headers());
        let session = Session::new(Arc::clone(&self.services), identity, None);
        let session = session.with_facts(|| {
            let facts = self.services.client_facts("grpc", address, Some(&headers));
            facts.unwrap_or_else(|_| ClientFacts {
                transport: "grpc",
                address,
                ..ClientFacts::default()
            })
        });
        let call = Call {
            session,
            message,
            address,
            headers,
            trace: span.context(),
        };
        Ok((call, span))
    }

    async fn identify(
        &self,
        headers: &HeaderMap,
        extensions: &http::Extensions,
        call: &Span,
    ) -> Result<Arc<Identity>> {
        if let Some(trusted) = &self.trusted {
            let certified = extensions.get::<PeerIdentity>();
            return Ok(Arc::clone(certified.map_or(trusted, |peer| &peer.0)));
        }
        let verifier = &self.services.verifier;
        let mut span = self.services.tracing.authenticate(call.context_ref());
        let identity = match bearer(headers).and_then(|token| token.ok_or(AuthFailure::Missing)) {
            Ok(token) => verifier.verify(token).await,
            Err(failure) => Err(verifier.refused(failure)),
        };
        identity.inspect_err(|error| span.set_error(error))
    }

    /// State shared by all calls.
    pub(super) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Fails if the token with which a stream began is no longer valid.
    ///
    /// # Errors
    ///
    /// `unauthenticated`.
    pub(super) fn still_good(&self, session: &Session) -> Result<()> {
        let verifier = &self.services.verifier;
        verifier
            .recheck(session.identity())
            .map_err(|failure| verifier.refused(failure))
    }

    /// Ends the span of a failed call, counts the error and returns its status.
    pub(super) fn refuse(&self, span: Span, error: &Error) -> Status {
        self.finish(span, Some(error));
        status(error)
    }

    /// Ends the span of a call.
    pub(super) fn finish(&self, mut span: Span, error: Option<&Error>) {
        if let Some(error) = error {
            self.services.metrics.error(error.code());
            span.set_error(error);
            let (trace_id, span_id) = (span.trace_id(), span.span_id());
            tracing::debug!(trace_id, span_id, %error, "a call was refused");
        }
        span.grpc_status(error.map_or(0, |error| error.code().grpc()));
    }
}

impl Admission {
    fn take(&self) -> Option<Admitted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The caller's address; unspecified if it is unknown.
pub(super) fn address_in(extensions: &http::Extensions) -> SocketAddr {
    let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    extensions
        .get::<PeerAddress>()
        .map_or(nowhere, |peer| peer.0)
}
