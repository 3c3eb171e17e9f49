//! The upgrade: from an HTTP request to a connection on the bus.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::ORIGIN;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::codec_registry::{self, CodecRegistry, Declared, WsCodec};
use super::handshake::Offer;
use crate::api::problem::{problem, problem_with_status};
use crate::auth::{Identity, bearer};
use crate::error::{CloseCode, Error, Result};
use crate::event::TraceContext;
use crate::hub::{ConnectionPermit, Hub, Link, Opening};
use crate::lifecycle::Lifecycle;
use crate::net::bare_socket;
use crate::net::origin;
use crate::protocol::{reject, send_welcome};
use crate::session::Services;
use crate::telemetry::{Span, Transport, extract};
use tidings_websocket::Compression;
use tidings_websocket::head::write_answer;

/// What the endpoint is set up with.
#[derive(Debug, Clone)]
pub struct WsSettings {
    /// Origins from which pages may connect: empty is the same origin only, `*` is any.
    pub allowed_origins: Vec<String>,
    /// Whether permessage-deflate is offered.
    pub compression: bool,
    /// The largest message of a client, in bytes.
    pub message_bytes: usize,
    /// What is spoken where the client asks for no subprotocol: the name of a dialect.
    pub dialect: String,
    /// The dialects that are not built in.
    pub dialects: Vec<Declared>,
}

/// The WebSocket endpoint.
pub struct Endpoint {
    services: Arc<Services>,
    settings: ArcSwap<WsSettings>,
    codecs: ArcSwap<CodecRegistry>,
    lifecycle: Arc<Lifecycle>,
}

/// A request that may become a connection.
pub struct Admitted {
    /// The span of the upgrade.
    span: Span,
    answer: Response<()>,
    spoken: WsCodec,
    identity: Result<Option<Arc<Identity>>>,
    address: SocketAddr,
    permit: ConnectionPermit,
}

impl Admitted {
    /// The head of the answer.
    #[must_use]
    pub fn answer(&self) -> &Response<()> {
        &self.answer
    }
}

impl Endpoint {
    /// The endpoint; it refuses upgrades once connections leave.
    #[must_use]
    pub fn new(services: Arc<Services>, settings: WsSettings, lifecycle: Arc<Lifecycle>) -> Self {
        let codecs = CodecRegistry::new(&services, &settings, None);
        Endpoint {
            services,
            codecs: ArcSwap::from_pointee(codecs),
            settings: ArcSwap::from_pointee(settings),
            lifecycle,
        }
    }

    /// Takes over new settings; they hold for new connections.
    pub fn reload(&self, settings: WsSettings) {
        let before = self.codecs.load();
        let codecs = CodecRegistry::new(&self.services, &settings, Some(&before));
        self.codecs.store(Arc::new(codecs));
        self.settings.store(Arc::new(settings));
    }

    /// True if a dialect is spoken at this path, which is not `websocket.path`.
    #[must_use]
    pub fn is_at(&self, path: &str) -> bool {
        self.codecs.load().is_at(path)
    }

    /// Answers an upgrade request, and hands the connection to the bus once the answer is out.
    pub async fn upgrade(
        &self,
        mut request: Request<Incoming>,
        address: SocketAddr,
    ) -> Response<Full<Bytes>> {
        let admitted = match self.admit(&request, address).await {
            Ok(admitted) => admitted,
            Err(refusal) => return *refusal,
        };
        let (head, ()) = admitted.answer.clone().into_parts();
        let upgrade = hyper::upgrade::on(&mut request);
        let services = Arc::clone(&self.services);
        self.services.hub.spawn(async move {
            take_over(services, upgrade, admitted).await;
        });
        Response::from_parts(head, Full::default())
    }

    /// Hands the connection of a request that was admitted to the bus, and its answer, which
    /// nobody has given yet, with it: it leaves with the greeting. `early` came behind the head.
    pub fn enter(&self, admitted: Admitted, link: Link, early: Vec<u8>) {
        let answer = write_answer(&admitted.answer);
        open(&self.services, admitted, link, answer, early);
    }

    /// Checks everything that can be refused with an HTTP status.
    ///
    /// # Errors
    /// The answer that refuses it.
    pub async fn admit<B: Sync>(
        &self,
        request: &Request<B>,
        address: SocketAddr,
    ) -> Result<Admitted, Box<Response<Full<Bytes>>>> {
        let headers = request.headers();
        let settings = self.settings.load_full();
        let parent = extract(|name| headers.get(name)?.to_str().ok());
        let mut span = self
            .services
            .tracing
            .connect(Transport::WebSocket, parent.as_ref());
        let connecting = span.context();
        let mut refuse = |error: Error| {
            self.services.metrics.error(error.code());
            self.not_let_in(address, &error);
            span.set_error(&error);
            Box::new(problem(&error))
        };
        let offer = Offer::read(
            request.method(),
            request.version(),
            headers,
            settings.compression,
        )
        .map_err(|refusal| {
            let error = Error::invalid(refusal.message());
            self.not_let_in(address, &error);
            let mut response = problem_with_status(&error, refusal.status());
            if let Some((name, value)) = refusal.header() {
                response.headers_mut().insert(name, value);
            }
            Box::new(response)
        })?;
        if let Some(departure) = self.lifecycle.departure() {
            let error = Error::unavailable("the server is about to stop");
            return Err(refuse(error.retry_after(departure.come_back())));
        }
        if !origin::is_allowed(headers, &settings.allowed_origins) {
            return Err(refuse(Error::denied(
                "this origin may not connect (public.allowed_origins)",
            )));
        }
        let permit = self.services.hub.permit(address.ip()).map_err(|error| {
            let mut response = refuse(error.clone());
            if self.services.hub.is_crowded() {
                // Not this client's doing.
                *response = problem_with_status(&error, StatusCode::SERVICE_UNAVAILABLE);
            }
            response
        })?;
        let identity = self
            .identify(request, &offer, address, connecting.as_ref())
            .await;
        match &identity {
            Err(error) if !headers.contains_key(ORIGIN) => return Err(refuse(error.clone())),
            Err(error) => self.not_let_in(address, error),
            Ok(Some(identity)) => {
                if identity
                    .user()
                    .is_some_and(|user| !self.services.hub.user_has_room(user))
                {
                    return Err(refuse(Error::exhausted(
                        "too many connections of this user (limits.connections_per_user)",
                    )));
                }
            }
            Ok(None) => {}
        }
        let chosen = codec_registry::choose(&offer.protocols);
        let compression = Compression::of(offer.deflate);
        let path = request.uri().path();
        Ok(Admitted {
            span,
            answer: offer.answer(chosen.map(HeaderValue::from_static)),
            spoken: self.codecs.load().spoken(path, chosen, compression),
            identity,
            address,
            permit,
        })
    }

    /// Who asks: by header, query or subprotocol. Without a token, whoever may be anonymous is.
    async fn identify<B: Sync>(
        &self,
        request: &Request<B>,
        offer: &Offer,
        address: SocketAddr,
        parent: Option<&TraceContext>,
    ) -> Result<Option<Arc<Identity>>> {
        let verifier = &self.services.verifier;
        let token = bearer(request.headers())
            .map_err(|failure| verifier.refused(failure))?
            .map(str::to_owned)
            .or_else(|| token_in_query(request.uri().query()))
            .or_else(|| offer.bearer.clone());
        match token {
            Some(token) => {
                let mut span = self.services.tracing.authenticate(parent);
                let identity = verifier.verify(&token).await;
                identity
                    .inspect_err(|error| span.set_error(error))
                    .map(Some)
            }
            None if self.services.limits.load().auth_required => Ok(None),
            None => Ok(Some(Arc::new(Identity::anonymous_from(address.ip())))),
        }
    }

    fn not_let_in(&self, address: SocketAddr, error: &Error) {
        let websocket = Some(Transport::WebSocket);
        self.services.not_let_in(address, websocket, error);
    }
}

/// The answer is out: takes the socket and hands it to a shard.
async fn take_over(services: Arc<Services>, upgrade: OnUpgrade, admitted: Admitted) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            let (trace_id, span_id) = (admitted.span.trace_id(), admitted.span.span_id());
            let address = admitted.address;
            tracing::debug!(trace_id, span_id, %address, %error, "the client went away during the upgrade");
            return;
        }
    };
    if let Some((link, early)) = bare_socket(upgraded) {
        open(&services, admitted, link, Bytes::new(), early);
    }
}

fn open(services: &Arc<Services>, admitted: Admitted, link: Link, answer: Bytes, early: Vec<u8>) {
    let (identity, refusal) = match admitted.identity {
        Ok(identity) => (identity, None),
        Err(error) => (None, Some(error)),
    };
    let WsCodec { protocol, framer } = admitted.spoken;
    let of_greeting = Arc::clone(services);
    services.hub.open(Opening {
        link,
        protocol,
        identity,
        address: admitted.address,
        permit: admitted.permit,
        answer,
        early,
        nonce: Hub::new_nonce(),
        greeting: Box::new(move |cx| match (framer, refusal) {
            // A page can't read the status of a refused upgrade, but it can read this.
            (Some(framer), Some(error)) => reject(&*framer, cx, &error),
            (Some(framer), None) => send_welcome(&of_greeting, &framer, cx),
            (None, Some(error)) => cx.close(CloseCode::for_code(error.code()), error.description()),
            (None, None) => {}
        }),
    });
}

fn token_in_query(query: Option<&str>) -> Option<String> {
    // A JWT needs no percent-encoding.
    query?
        .split('&')
        .find_map(|pair| pair.strip_prefix("token="))
        .map(str::to_owned)
}
