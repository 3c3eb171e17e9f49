//! Admission: whether a request may become a connection.
//!
//! Every transport asks here, so that the same request is rejected for the same reason and with the
//! same code everywhere. The order is fixed:
//!
//! 1. *Drain*: a server that is about to stop takes no connections.
//! 2. *Origin*: pages of other origins are rejected before their token is read.
//! 3. *Limits that need no identity*: the total and the address. They are only checked, so that a
//!    client without a valid token holds no place while its token is verified.
//! 4. *Token*: by header, query or subprotocol, as the transport has found it.
//!    The application is asked here (`hooks.ask`), too.
//! 5. *Permit*: the total, the user and the address; the permit is taken.
//! 6. *Registration*: the shard revalidates the identity and counts the user after the connection is
//!    in its table, so that a concurrent revocation sweep cannot miss it (see [`super::open`]).
//!
//! A transport supplies an [`AdmissionRequest`] and encodes a [`Rejection`]; it decides nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{ORIGIN, USER_AGENT};

use super::{ClientFacts, Connecting, Services};
use crate::auth::{AuthFailure, Identity};
use crate::error::{Error, Result};
use crate::event::TraceContext;
use crate::hub::{ConnectionPermit, PermitError, RequestFacts};
use crate::net::origin;
use crate::outbound::ForwardedHeaders;
use crate::telemetry::Transport;

/// The longest text that is kept of a request, in bytes.
const LONGEST_FACT: usize = 256;

/// A request for a connection, as its transport received it.
pub struct AdmissionRequest<'a> {
    /// The transport.
    pub transport: Transport,
    /// The client's address.
    pub address: SocketAddr,
    /// Which origins may connect; `None` if the listener has checked that already.
    pub origin: Option<OriginRule<'a>>,
    /// The client's credentials.
    pub credentials: Credentials<'a>,
    /// When the client must be authenticated.
    pub authentication: Authentication,
    /// The headers, for what they say of the client.
    pub headers: Option<&'a HeaderMap>,
    /// The span of the request.
    pub trace: Option<&'a TraceContext>,
}

/// The headers of a request, and the origins that may connect.
#[derive(Clone, Copy)]
pub struct OriginRule<'a> {
    /// The headers.
    pub headers: &'a HeaderMap,
    /// As [`origin::is_allowed`] has it.
    pub allowed: &'a [String],
}

/// A client's credentials.
pub enum Credentials<'a> {
    /// A token, none, or a header that can't be read.
    Token(Result<Option<&'a str>, AuthFailure>),
    /// The identity was verified with the head of the call.
    Verified(Arc<Identity>),
}

/// When a client must be authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// By the request: the transport has no message for a later token.
    Now,
    /// The token may come in a message of the open connection, but one that is here must be valid.
    Later,
    /// As [`Authentication::Later`], and a wrong token is reported on the open connection: a page
    /// can't read the status of a rejected request.
    InBand,
}

/// A request that becomes a connection.
pub struct Admitted {
    pub(super) address: SocketAddr,
    pub(super) permit: ConnectionPermit,
    pub(super) identity: Result<Option<Arc<Identity>>>,
    pub(super) request: Option<Arc<RequestFacts>>,
    pub(super) forwarded: Option<Arc<ForwardedHeaders>>,
}

impl Admitted {
    /// The identity: `None` until the client authenticates, an error if a wrong token is reported
    /// on the open connection ([`Authentication::InBand`]).
    pub fn identity(&self) -> &Result<Option<Arc<Identity>>> {
        &self.identity
    }

    /// The same for a transport that registers the connection without an identity and sets it later.
    ///
    /// # Errors
    /// As [`Admitted::identity`].
    pub fn take_identity(&mut self) -> Result<Option<Arc<Identity>>> {
        std::mem::replace(&mut self.identity, Ok(None))
    }

    /// The client's address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Why a request does not become a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    /// The server is about to stop.
    Draining,
    /// Pages of this origin may not connect.
    Origin,
    /// The token is wrong or missing.
    Token,
    /// A limit on connections is reached.
    Full(PermitError),
}

/// A request that was rejected. A transport encodes it.
#[derive(Debug, Clone)]
pub struct Rejection {
    /// Why.
    pub reason: RejectReason,
    /// The error that the client gets.
    pub error: Error,
}

impl Rejection {
    fn new(reason: RejectReason, error: Error) -> Self {
        Rejection { reason, error }
    }

    /// The HTTP status. A full server is no fault of the client: 503, not 429.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self.reason {
            RejectReason::Full(PermitError::Server) => 503,
            RejectReason::Full(_)
            | RejectReason::Draining
            | RejectReason::Origin
            | RejectReason::Token => self.error.code().http_status(),
        }
    }
}

impl From<PermitError> for Rejection {
    fn from(full: PermitError) -> Self {
        Rejection::new(RejectReason::Full(full), full.error())
    }
}

impl Services {
    /// Admits a request, or rejects it and notes that in the logs.
    ///
    /// # Errors
    /// The rejection. The transport counts its code where it writes the answer.
    pub async fn admit(&self, request: AdmissionRequest<'_>) -> Result<Admitted, Rejection> {
        let (transport, address) = (Some(request.transport), request.address);
        let admitted = self.decide(request).await;
        let rejected = match &admitted {
            Ok(admitted) => admitted.identity.as_ref().err(),
            Err(rejection) => Some(&rejection.error),
        };
        if let Some(error) = rejected {
            self.note_rejection(address, transport, error);
        }
        admitted
    }

    async fn decide(&self, request: AdmissionRequest<'_>) -> Result<Admitted, Rejection> {
        let AdmissionRequest {
            address,
            origin,
            credentials,
            authentication,
            headers,
            trace,
            transport,
        } = request;
        self.check_drain()?;
        if let Some(rule) = origin {
            check_origin(rule)?;
        }
        self.hub.permits().check(address.ip())?;
        let identity = match credentials {
            Credentials::Verified(identity) => Ok(Some(identity)),
            // Socket.IO clients present their token when they connect to a namespace.
            Credentials::Token(token)
                if self.asks_connect() && transport != Transport::SocketIo =>
            {
                let facts = self.client_facts(transport.as_str(), address, headers);
                Box::pin(self.identify(token, authentication, facts, trace)).await
            }
            Credentials::Token(token) => {
                self.authenticate(token, authentication, address, trace)
                    .await
            }
        };
        let forwarded = self.kept_headers(headers);
        let forwarded = forwarded.map_err(|error| Rejection::new(RejectReason::Token, error))?;
        if let Err(error) = &identity
            && authentication != Authentication::InBand
        {
            return Err(Rejection::new(RejectReason::Token, error.clone()));
        }
        if let Ok(Some(identity)) = &identity
            && let Some(user) = identity.user()
        {
            self.hub.permits().check_user(user)?;
        }
        Ok(Admitted {
            address,
            permit: self.hub.permits().take(address.ip())?,
            identity,
            request: headers.and_then(|headers| self.request_facts(headers)),
            forwarded,
        })
    }

    fn check_drain(&self) -> Result<(), Rejection> {
        let Some(departure) = self.lifecycle.departure() else {
            return Ok(());
        };
        let error = Error::unavailable("the server is about to stop");
        let error = error.retry_after(departure.come_back());
        Err(Rejection::new(RejectReason::Draining, error))
    }

    /// What a request says of the client; connections of the same browser share it.
    fn request_facts(&self, headers: &HeaderMap) -> Option<Arc<RequestFacts>> {
        let text = |name| {
            let text = headers.get(name).and_then(|value| value.to_str().ok());
            let text = text.unwrap_or_default();
            Box::from(
                text.get(..text.floor_char_boundary(LONGEST_FACT))
                    .unwrap_or_default(),
            )
        };
        let facts = RequestFacts {
            user_agent: text(USER_AGENT),
            origin: text(ORIGIN),
        };
        if facts == RequestFacts::default() {
            return None;
        }
        let mut facts = Arc::new(facts);
        self.request_facts.share(&mut facts);
        Some(facts)
    }

    /// What questions to the application say of the client of a request.
    ///
    /// # Errors
    /// `resource_exhausted` if its forwarded headers are too long.
    pub fn client_facts(
        &self,
        transport: &'static str,
        address: SocketAddr,
        headers: Option<&HeaderMap>,
    ) -> Result<ClientFacts> {
        let hooks = self.hooks.load();
        let headers = hooks.as_ref().zip(headers);
        let headers = headers.map(|(hooks, headers)| hooks.forwarded(headers));
        Ok(ClientFacts {
            transport,
            address,
            client_type: None,
            headers: headers.transpose()?.map(Arc::new),
        })
    }

    /// The headers that later questions about the connection need.
    fn kept_headers(&self, headers: Option<&HeaderMap>) -> Result<Option<Arc<ForwardedHeaders>>> {
        let hooks = self.hooks.load();
        let hooks = hooks.as_ref().filter(|hooks| hooks.keeps_headers());
        let (Some(hooks), Some(headers)) = (hooks, headers) else {
            return Ok(None);
        };
        let kept = hooks.forwarded(headers)?;
        Ok((!kept.is_empty()).then(|| Arc::new(kept)))
    }

    /// Verifies the token and asks the application.
    async fn identify(
        &self,
        token: Result<Option<&str>, AuthFailure>,
        authentication: Authentication,
        facts: Result<ClientFacts>,
        trace: Option<&TraceContext>,
    ) -> Result<Option<Arc<Identity>>> {
        let token = token.map_err(|failure| self.verifier.refused(failure))?;
        let facts = facts?;
        let address = facts.address;
        let connecting = Connecting {
            token,
            facts,
            id: None,
            trace,
        };
        match self.connect(connecting).await? {
            Some(identity) => Ok(Some(identity)),
            None => {
                self.authenticate(Ok(token), authentication, address, trace)
                    .await
            }
        }
    }

    /// Verifies the token. Without one the client is anonymous, if that is allowed.
    async fn authenticate(
        &self,
        token: Result<Option<&str>, AuthFailure>,
        authentication: Authentication,
        address: SocketAddr,
        trace: Option<&TraceContext>,
    ) -> Result<Option<Arc<Identity>>> {
        let refused = |failure| self.verifier.refused(failure);
        match token.map_err(refused)? {
            Some(token) => {
                let mut span = self.tracing.authenticate(trace);
                let identity = self.verifier.verify(token).await;
                identity
                    .inspect_err(|error| span.set_error(error))
                    .map(Some)
            }
            None if !self.limits.load().auth_required => {
                Ok(Some(Arc::new(Identity::anonymous_from(address.ip()))))
            }
            None if authentication == Authentication::Now => Err(refused(AuthFailure::Missing)),
            None => Ok(None),
        }
    }
}

/// Whether a page of the request's origin may connect.
///
/// # Errors
/// The rejection.
pub fn check_origin(rule: OriginRule<'_>) -> Result<(), Rejection> {
    if origin::is_allowed(rule.headers, rule.allowed) {
        return Ok(());
    }
    let error = Error::denied("this origin may not connect (public.allowed_origins)");
    Err(Rejection::new(RejectReason::Origin, error))
}
