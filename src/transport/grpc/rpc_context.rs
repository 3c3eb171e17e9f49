//! What every call passes: who calls, its span, and how it is answered.

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
use crate::session::{Services, Session};
use crate::telemetry::{Span, Transport, extract};

/// Lets calls in.
#[derive(Clone)]
pub(super) struct RpcContext {
    services: Arc<Services>,
    /// Who everybody is, where no token is asked for.
    trusted: Option<Arc<Identity>>,
    stopping: CancellationToken,
}

/// A procedure: its service and its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Procedure(pub(super) &'static str, pub(super) &'static str);

/// Who calls, found out from the head of the call, before anything of its body was read. It stands
/// in the request's extensions until the procedure takes it.
#[derive(Clone)]
pub(super) struct Admission(Arc<Mutex<Option<Admitted>>>);

struct Admitted {
    procedure: Procedure,
    identity: Arc<Identity>,
    span: Span,
}

/// A call that was let in.
pub(super) struct Call<Q> {
    /// What the caller may do.
    pub(super) session: Session,
    /// What it asks.
    pub(super) message: Q,
    /// Where it comes from; unspecified where nobody said.
    pub(super) address: SocketAddr,
    /// Its metadata.
    pub(super) headers: HeaderMap,
    /// The context of the call's span, or of its caller's.
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

    /// Rings when streams must end.
    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Answers a call that asks one thing and is told one thing.
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

    /// Finds out who calls, and starts the call's span. The body is not needed for it.
    ///
    /// # Errors
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

    /// Takes a call that was admitted for this procedure.
    ///
    /// # Errors
    /// `internal`, as a status, where it was not.
    pub(super) fn enter<Q>(
        &self,
        procedure: Procedure,
        request: Request<Q>,
    ) -> Result<(Call<Q>, Span), Status> {
        let (metadata, extensions, message) = request.into_parts();
        let admitted = extensions.get().and_then(Admission::take);
        let Some(admitted) = admitted.filter(|admitted| admitted.procedure == procedure) else {
            return Err(status(&Error::internal("nobody looked who calls")));
        };
        let Admitted { identity, span, .. } = admitted;
        let session = Session::new(Arc::clone(&self.services), identity, None);
        let call = Call {
            session,
            message,
            address: address_in(&extensions),
            headers: metadata.into_headers(),
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

    /// What all calls share.
    pub(super) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Fails if the token that a stream began with would not be taken any more.
    ///
    /// # Errors
    /// `unauthenticated`.
    pub(super) fn still_good(&self, session: &Session) -> Result<()> {
        let verifier = &self.services.verifier;
        verifier
            .recheck(session.identity())
            .map_err(|failure| verifier.refused(failure))
    }

    /// Ends the span of a call that failed, counts the failure and says it as a status.
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

/// Where a call comes from; unspecified where nobody said.
pub(super) fn address_in(extensions: &http::Extensions) -> SocketAddr {
    let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    extensions
        .get::<PeerAddress>()
        .map_or(nowhere, |peer| peer.0)
}
