//! The upgrade: from an HTTP request to a connection of the hub.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::ORIGIN;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::codec_registry::{CodecRegistry, Declared, WsCodec};
use super::handshake::Offer;
use crate::api::problem::problem_with_status;
use crate::auth::{AuthFailure, bearer};
use crate::error::{CloseCode, Error, Result};
use crate::hub::Link;
use crate::net::bare_socket;
use crate::protocol::{registry, reject, send_welcome};
use crate::session::{
    self, AdmissionRequest, Authentication, Credentials, NewConnection, OriginRule, Rejection,
    Services,
};
use crate::telemetry::{Span, Transport, extract};
use tidings_websocket::Compression;
use tidings_websocket::head::write_answer;

/// The settings of the endpoint.
#[derive(Debug, Clone)]
pub struct WsSettings {
    /// Origins from which pages may connect: empty is the same origin only, `*` is any.
    pub allowed_origins: Vec<String>,
    /// Whether permessage-deflate is offered.
    pub compression: bool,
    /// The largest message of a client, in bytes.
    pub message_bytes: usize,
    /// The name of the codec for clients that offer no subprotocol.
    pub dialect: String,
    /// The `[[dialect]]`s of the configuration.
    pub dialects: Vec<Declared>,
}

/// The WebSocket endpoint.
pub struct Endpoint {
    services: Arc<Services>,
    settings: ArcSwap<WsSettings>,
    codecs: ArcSwap<CodecRegistry>,
}

/// An upgrade request that becomes a connection.
pub struct Admitted {
    /// The span of the upgrade.
    span: Span,
    answer: Response<()>,
    codec: WsCodec,
    connection: session::Admitted,
}

impl Admitted {
    /// The head of the response.
    #[must_use]
    pub fn answer(&self) -> &Response<()> {
        &self.answer
    }
}

impl Endpoint {
    /// The endpoint.
    #[must_use]
    pub fn new(services: Arc<Services>, settings: WsSettings) -> Self {
        let codecs = CodecRegistry::new(&services, &settings, None);
        Endpoint {
            services,
            codecs: ArcSwap::from_pointee(codecs),
            settings: ArcSwap::from_pointee(settings),
        }
    }

    /// Applies new settings to new connections.
    pub fn reload(&self, settings: WsSettings) {
        let before = self.codecs.load();
        let codecs = CodecRegistry::new(&self.services, &settings, Some(&before));
        self.codecs.store(Arc::new(codecs));
        self.settings.store(Arc::new(settings));
    }

    /// Whether this path, which is not `websocket.path`, has a codec of its own.
    #[must_use]
    pub fn is_at(&self, path: &str) -> bool {
        self.codecs.load().is_at(path)
    }

    /// Answers an upgrade request, and passes the connection to a shard once the response is sent.
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

    /// Passes the connection of an admitted request to a shard together with the response, which is
    /// sent with the first message. `early` are the bytes after the head.
    pub fn enter(&self, admitted: Admitted, link: Link, early: Vec<u8>) {
        let answer = write_answer(&admitted.answer);
        open(&self.services, admitted, link, answer, early);
    }

    /// Parses the offer and requests admission.
    ///
    /// # Errors
    ///
    /// The response that rejects the request.
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
        let offer = Offer::read(
            request.method(),
            request.version(),
            headers,
            settings.compression,
        )
        .map_err(|refusal| {
            let error = Error::invalid(refusal.message());
            let websocket = Some(Transport::WebSocket);
            self.services.note_rejection(address, websocket, &error);
            let mut response = problem_with_status(&error, refusal.status());
            if let Some((name, value)) = refusal.header() {
                response.headers_mut().insert(name, value);
            }
            Box::new(response)
        })?;
        let authentication = if headers.contains_key(ORIGIN) {
            Authentication::InBand
        } else {
            Authentication::Later
        };
        let admission = AdmissionRequest {
            transport: Transport::WebSocket,
            address,
            origin: Some(OriginRule {
                headers,
                allowed: &settings.allowed_origins,
            }),
            credentials: Credentials::Token(token(request, &offer)),
            authentication,
            headers: Some(headers),
            trace: connecting.as_ref(),
        };
        let admitted = self.services.admit(admission).await.map_err(|rejection| {
            self.services.metrics.error(rejection.error.code());
            span.set_error(&rejection.error);
            Box::new(encode(&rejection))
        })?;
        let chosen = registry::choose(&offer.protocols);
        let compression = Compression::of(offer.deflate);
        let path = request.uri().path();
        Ok(Admitted {
            span,
            answer: offer.answer(chosen.map(HeaderValue::from_static)),
            codec: self.codecs.load().find(path, chosen, compression),
            connection: admitted,
        })
    }
}

/// A rejection as a problem.
fn encode(rejection: &Rejection) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(rejection.http_status());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    problem_with_status(&rejection.error, status)
}

/// The token of the header, the query or the subprotocol.
fn token<'r, B>(request: &'r Request<B>, offer: &'r Offer) -> Result<Option<&'r str>, AuthFailure> {
    let of_header = bearer(request.headers())?;
    Ok(of_header
        .or_else(|| token_in_query(request.uri().query()))
        .or(offer.bearer.as_deref()))
}

/// Waits until the response is sent, takes the socket and passes it to a shard.
async fn take_over(services: Arc<Services>, upgrade: OnUpgrade, admitted: Admitted) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            let (trace_id, span_id) = (admitted.span.trace_id(), admitted.span.span_id());
            let address = admitted.connection.address();
            tracing::debug!(trace_id, span_id, %address, %error, "the client went away during the upgrade");
            return;
        }
    };
    if let Some((link, early)) = bare_socket(upgraded) {
        open(&services, admitted, link, Bytes::new(), early);
    }
}

fn open(services: &Arc<Services>, upgrade: Admitted, link: Link, answer: Bytes, early: Vec<u8>) {
    let Admitted {
        connection: admitted,
        codec,
        ..
    } = upgrade;
    let rejected = admitted.identity().as_ref().err().cloned();
    let WsCodec { protocol, writer } = codec;
    let shared = Arc::clone(services);
    let connection = NewConnection {
        link,
        protocol,
        answer,
        early,
        on_open: Box::new(move |cx| match (writer, rejected) {
            // A page can't read the status of a rejected upgrade, but it can read this.
            (Some(writer), Some(error)) => reject(&writer, cx, &error),
            (Some(writer), None) => send_welcome(&shared, &writer, cx),
            (None, Some(error)) => cx.close(CloseCode::for_code(error.code()), error.description()),
            (None, None) => {}
        }),
    };
    session::open(&services.hub, admitted, connection);
}

fn token_in_query(query: Option<&str>) -> Option<&str> {
    // A JWT needs no percent-encoding.
    query?
        .split('&')
        .find_map(|pair| pair.strip_prefix("token="))
}
