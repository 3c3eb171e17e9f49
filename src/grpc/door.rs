//! What every call passes: who calls, its span, and how it is answered.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Response, Status};

use super::status::status;
use super::{GrpcAuth, PeerAddress, PeerIdentity, TRUSTED};
use crate::auth::{AuthFailure, Identity};
use crate::error::{Error, Result};
use crate::event::TraceContext;
use crate::session::{Services, Session};
use crate::telemetry::{Span, Transport, extract};

/// Lets calls in.
#[derive(Clone)]
pub(super) struct Door {
    services: Arc<Services>,
    /// Who everybody is, where no token is asked for.
    trusted: Option<Arc<Identity>>,
    stopping: CancellationToken,
}

/// A procedure: its service and its own name.
#[derive(Clone, Copy)]
pub(super) struct Procedure(pub(super) &'static str, pub(super) &'static str);

/// A call that was let in.
pub(super) struct Call<Q> {
    /// What the caller may do.
    pub(super) session: Session,
    /// What it asks.
    pub(super) message: Q,
    /// Where it comes from; unspecified where nobody said.
    pub(super) address: SocketAddr,
    /// The context of the call's span, or of its caller's.
    pub(super) trace: Option<TraceContext>,
}

impl Door {
    pub(super) fn new(
        services: &Arc<Services>,
        auth: GrpcAuth,
        stopping: CancellationToken,
    ) -> Self {
        let trusted = match auth {
            GrpcAuth::Jwt => None,
            GrpcAuth::Trusted => Some(Arc::new(Identity::trusted(TRUSTED))),
        };
        Door {
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
        let (call, span) = self.enter(procedure, request).await?;
        match run(call).await {
            Ok(answer) => {
                self.finish(span, None);
                Ok(Response::new(answer))
            }
            Err(error) => Err(self.refuse(span, &error)),
        }
    }

    /// Finds out who calls, and starts the call's span.
    ///
    /// # Errors
    /// `unauthenticated`, as a status.
    pub(super) async fn enter<Q>(
        &self,
        Procedure(service, method): Procedure,
        request: Request<Q>,
    ) -> Result<(Call<Q>, Span), Status> {
        let (metadata, extensions, message) = request.into_parts();
        let text = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
        let span = self
            .services
            .tracing
            .rpc(service, method, extract(text).as_ref());
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let address = extensions
            .get::<PeerAddress>()
            .map_or(nowhere, |peer| peer.0);
        match self.identify(&metadata, &extensions, &span).await {
            Ok(identity) => {
                let session = Session::new(Arc::clone(&self.services), identity, None);
                Ok((
                    Call {
                        session,
                        message,
                        address,
                        trace: span.context(),
                    },
                    span,
                ))
            }
            Err(error) => {
                let grpc = Some(Transport::Grpc);
                self.services.not_let_in(address, grpc, &error);
                Err(self.refuse(span, &error))
            }
        }
    }

    async fn identify(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
        call: &Span,
    ) -> Result<Arc<Identity>> {
        if let Some(trusted) = &self.trusted {
            let certified = extensions.get::<PeerIdentity>();
            return Ok(Arc::clone(certified.map_or(trusted, |peer| &peer.0)));
        }
        let verifier = &self.services.verifier;
        let mut span = self.services.tracing.authenticate(call.context_ref());
        let identity = match bearer(metadata) {
            Ok(token) => verifier.verify(token).await,
            Err(failure) => Err(verifier.refused(failure)),
        };
        identity.inspect_err(|error| span.set_error(error))
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

/// The one token in `authorization: Bearer …`; the scheme's case is free (RFC 9110 §11.1).
fn bearer(metadata: &MetadataMap) -> Result<&str, AuthFailure> {
    let mut values = metadata.get_all("authorization").iter();
    let value = values.next().ok_or(AuthFailure::Missing)?;
    if values.next().is_some() {
        return Err(AuthFailure::Ambiguous);
    }
    let text = value.to_str().ok();
    text.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    })
    .ok_or(AuthFailure::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_from_the_bearer_scheme_only() {
        let token = |value: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("authorization", value.parse().unwrap());
            bearer(&metadata).ok().map(str::to_owned)
        };
        assert_eq!(token("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token("bearer  abc").as_deref(), Some("abc"));
        assert_eq!(token("Basic abc"), None);
        assert_eq!(token("abc"), None);
        let mut twice = MetadataMap::new();
        for value in ["Bearer a", "Bearer b"] {
            twice.append("authorization", value.parse().unwrap());
        }
        assert_eq!(bearer(&twice), Err(AuthFailure::Ambiguous));
    }
}
