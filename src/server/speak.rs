//! HTTP on the listeners' connections.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use http::header::CONNECTION;
use http::{HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, server};
use hyper_util::rt::TokioIo;
use mio::net::TcpStream as Unwatched;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::arrival::{Arrival, SOON};
use super::internal::Internal;
use super::listen::{HANDSHAKE, HANDSHAKES_EACH, Peer, Serve, watched};
use super::public::{Admission, Public};
use crate::bus::Link;
use crate::clock::HyperTimer;
use crate::grpc::PeerIdentity;
use crate::impatient::Impatient;
use crate::lifecycle::Lifecycle;
use crate::session::Services;
use crate::wire::Rewound;
use crate::wire::head::{MAX_HEADERS, read_upgrade};

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// The most streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 1024;
/// What may wait in one HTTP/2 stream for its reader, in bytes, however large its window.
const STREAM_BUFFER: usize = 256 * 1024;
/// How often a silent HTTP/2 peer is pinged, and how long it may take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// HTTP/1.1, with upgrades.
impl Serve for Public {
    fn services(&self) -> &Arc<Services> {
        self.services()
    }

    fn most_of(&self, address: IpAddr) -> Option<usize> {
        // Behind a proxy are many clients; each has its own limits once its request is read.
        let each = self.services().hub.settings().connections_per_ip;
        (!self.is_proxy(address)).then(|| each.saturating_add(HANDSHAKES_EACH))
    }

    /// Lets a whole upgrade in by itself: what HTTP does for a connection costs more than all that
    /// a WebSocket needs of it. Everything else is put back for HTTP.
    async fn meet(
        self: &Arc<Self>,
        socket: Unwatched,
        address: SocketAddr,
        closing: &CancellationToken,
    ) {
        let began = Instant::now();
        let heard = Arrival::Unwatched(socket).hear();
        let (arrival, said) = match closing.run_until_cancelled(heard).await {
            Some(Ok(heard)) => heard,
            Some(Err(error)) => {
                tracing::debug!(%address, %error, "a connection broke");
                return;
            }
            None => return,
        };
        let mut refusal = None;
        if let Some((request, len)) = read_upgrade(&said) {
            match self.admit(&request, address).await {
                Admission::Admitted(admitted) => {
                    if let Some(socket) = arrival.unwatched() {
                        let early = said.get(len..).unwrap_or_default().to_vec();
                        self.enter(*admitted, Link::Socket(socket), early);
                    }
                    return;
                }
                Admission::Refused(answer) => refusal = Some(answer),
                Admission::Elsewhere => {}
            }
        }
        let Some(socket) = watched(arrival, address) else {
            return;
        };
        let socket = Impatient::new(Rewound::new(socket, said), &self.services().metrics);
        // It holds for later heads as well: what a look at the first took must not leave them none.
        let patience = HANDSHAKE.saturating_sub(began.elapsed()).max(SOON);
        // It is large, and most connections never come here.
        Box::pin(self.converse(socket, address, patience, refusal, closing)).await;
    }

    async fn serve<S>(self: &Arc<Self>, socket: S, peer: Peer, closing: &CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let socket = Impatient::new(socket, &self.services().metrics);
        self.converse(socket, peer.address, HANDSHAKE, None, closing)
            .await;
    }
}

impl Public {
    /// Speaks HTTP/1.1. A head may take so long; `first` answers the first request, where it was
    /// read before.
    async fn converse<S>(
        self: &Arc<Self>,
        socket: Impatient<S>,
        address: SocketAddr,
        patience: Duration,
        first: Option<Response<Body>>,
        closing: &CancellationToken,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let first = Mutex::new(first);
        let answer = service_fn(|request: Request<Incoming>| {
            let front = Arc::clone(self);
            let known = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move {
                let mut answer = match known {
                    Some(known) => known,
                    None => front.answer(request, address).await,
                };
                end_after(&mut answer, front.lifecycle());
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        let connection = server::conn::http1::Builder::new()
            .timer(HyperTimer)
            .header_read_timeout(patience)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(socket), answer)
            .with_upgrades();
        tokio::pin!(connection);
        let outcome = tokio::select! {
            outcome = &mut connection => outcome,
            () = closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%address, %error, "a connection broke");
        }
    }
}

/// Ends a connection of HTTP/1.1 behind this answer where the server is about to stop: the next
/// request opens another one, which a balancer leads elsewhere (RFC 9112 §9.6). An upgrade is no
/// answer but the connection itself.
pub(super) fn end_after(answer: &mut Response<Body>, lifecycle: &Lifecycle) {
    if !lifecycle.is_ready() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// HTTP/2 and HTTP/1.1.
impl Serve for Internal {
    fn services(&self) -> &Arc<Services> {
        self.services()
    }

    fn most_of(&self, _: IpAddr) -> Option<usize> {
        // Services of one host are expected here.
        None
    }

    async fn serve<S>(self: &Arc<Self>, socket: S, peer: Peer, closing: &CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let address = peer.address;
        let certified = peer.name.map(PeerIdentity::certified);
        let answer = service_fn(|request: Request<Incoming>| {
            let (back, certified) = (Arc::clone(self), certified.clone());
            async move {
                let answer = back.answer(request, address, certified).await;
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        let mut builder = hyper_util::server::conn::auto::Builder::new(self.streams().clone());
        builder
            .http1()
            .timer(HyperTimer)
            .header_read_timeout(HANDSHAKE)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD);
        builder
            .http2()
            .timer(HyperTimer)
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buf_size(STREAM_BUFFER)
            .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        let socket = Impatient::new(socket, &self.services().metrics).speaks_within(HANDSHAKE);
        let connection = builder.serve_connection(TokioIo::new(socket), answer);
        tokio::pin!(connection);
        let leaving = self.lifecycle().leaving();
        // One that comes while connections leave asks for health, or has the last events.
        let mut stays = leaving.is_cancelled();
        let outcome = loop {
            tokio::select! {
                outcome = &mut connection => break outcome,
                // GOAWAY (RFC 9113 §6.8): streams go on to their end, and whatever the client
                // begins next begins on another connection, which may lead elsewhere.
                () = leaving.cancelled(), if !stays => {
                    stays = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    break connection.await;
                }
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%address, %error, "a connection broke");
        }
    }
}
