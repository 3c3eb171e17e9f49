//! HTTP on the listeners' connections.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Response, StatusCode};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, server};
use hyper_util::rt::TokioIo;
use mio::net::TcpStream as Unwatched;
use tokio::io::{AsyncRead, AsyncWrite};

use super::accepted::{Accepted, PEEK_TIMEOUT};
use super::internal::Internal;
use super::listen::{HANDSHAKE, HANDSHAKES_EACH, LEAVING, Peer, Serve, Visitor, watched};
use super::public::{Admission, Public};
use super::socket_limiter::{Occupant, Underway};
use crate::api::problem::problem;
use crate::clock::{HyperTimer, RunTimer};
use crate::error::Error;
use crate::hub::Link;
use crate::lifecycle::Lifecycle;
use crate::net::PrefixedIo;
use crate::net::timeout_io::TimeoutIo;
use crate::session::Services;
use crate::transport::grpc::PeerIdentity;
use tidings_websocket::head::{MAX_HEADERS, read_upgrade};

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// The most streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 1024;
/// What may wait in one HTTP/2 stream for its reader, in bytes, however large its window.
const STREAM_BUFFER: usize = 256 * 1024;
/// What may come of the bodies of one HTTP/2 connection, or of one stream, before somebody reads it,
/// in bytes.
const WINDOW: u32 = 256 * 1024;
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

    fn limits(&self) -> [&'static str; 2] {
        ["limits.connections", "limits.connections_per_ip"]
    }

    /// Lets a whole upgrade in by itself: what HTTP does for a connection costs more than all that
    /// a WebSocket needs of it. Everything else is put back for HTTP.
    async fn serve_tcp(self: &Arc<Self>, socket: Unwatched, visitor: Visitor) {
        let (began, address) = (Instant::now(), visitor.address);
        let heard = Accepted::Unwatched(socket).peek();
        let leave = visitor.occupant.leave();
        let (arrival, said) = match leave.run_until_cancelled(heard).await {
            Some(Ok(heard)) => heard,
            Some(Err(error)) => {
                tracing::debug!(%address, %error, "a connection broke");
                return;
            }
            None => return,
        };
        let mut refusal = None;
        if !visitor.short
            && let Some((request, len)) = read_upgrade(&said)
        {
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
        let patience = HANDSHAKE.saturating_sub(began.elapsed()).max(PEEK_TIMEOUT);
        let socket = TimeoutIo::new(PrefixedIo::new(socket, said), &self.services().metrics);
        // It is large, and most connections never come here.
        Box::pin(self.serve_http1(socket, visitor, patience, refusal)).await;
    }

    async fn serve<S>(self: &Arc<Self>, socket: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let socket = TimeoutIo::new(socket, &self.services().metrics);
        self.serve_http1(socket, peer.visitor, HANDSHAKE, None)
            .await;
    }
}

impl Public {
    /// Speaks HTTP/1.1. The first head may take so long; `first` answers the first request, where it
    /// was read before.
    async fn serve_http1<S>(
        self: &Arc<Self>,
        socket: TimeoutIo<S>,
        visitor: Visitor,
        patience: Duration,
        first: Option<Response<Body>>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Visitor {
            address,
            occupant,
            short,
        } = visitor;
        let first = Mutex::new(first);
        let answer = service_fn(|request: Request<Incoming>| {
            let front = Arc::clone(self);
            let underway = occupant.begin();
            let known = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move {
                let mut answer = match known {
                    Some(known) => known,
                    None if short && !Public::is_probe(&request) => no_descriptors(),
                    None => front.answer(request, address).await,
                };
                end_after(&mut answer, front.lifecycle());
                let mut answer = answer.map(|body| Tracked::new(body, underway));
                if short {
                    let headers = answer.headers_mut();
                    headers.insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        let socket = socket.times_heads(occupant.activity(), patience, HANDSHAKE);
        let connection = server::conn::http1::Builder::new()
            .timer(HyperTimer)
            .header_read_timeout(None)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(socket), answer)
            .with_upgrades();
        tokio::pin!(connection);
        let outcome = tokio::select! {
            outcome = &mut connection => outcome,
            () = leaves(&occupant, self.keep_alive()) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    outcome = connection => outcome,
                    () = overstays(&occupant) => return,
                }
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

/// Waits until a connection is to end: the server closes, another needs its place, or it was idle for
/// too long.
async fn leaves(occupant: &Occupant, keep_alive: Duration) {
    tokio::select! {
        () = occupant.leave().cancelled() => {}
        () = idle(occupant, keep_alive) => {}
    }
}

/// Waits until a connection that was idle for too long must be gone, though its client takes no notice
/// of being told.
async fn overstays(occupant: &Occupant) {
    loop {
        tokio::time::sleep(LEAVING).await;
        let told = !occupant.leave().is_cancelled();
        if told && occupant.activity().since_idle().is_some() {
            return;
        }
    }
}

/// How long a connection may be idle whatever `server.keep_alive` says.
const LONGEST: Duration = Duration::from_hours(24 * 365);
/// How long it is looked at again after a request that has come meanwhile.
const LEAST_IDLE: Duration = Duration::from_secs(1);

/// Waits until no request has been under way for as long as that may be. Whoever has shown a token on
/// it may keep a connection of HTTP/2.
async fn idle(occupant: &Occupant, keep_alive: Duration) {
    let since = || {
        let since = occupant.activity().since_idle();
        since.filter(|_| !occupant.peer().is_proven())
    };
    // A longer time is no use to anybody, and some clocks can't tell it.
    let keep_alive = keep_alive.min(LONGEST);
    loop {
        let began = since();
        let left = began.map_or(keep_alive, |at| keep_alive.saturating_sub(at.elapsed()));
        // In time in which this process ran: what came while it was stopped is read before the
        // timer rings.
        RunTimer::new(left.max(LEAST_IDLE)).await;
        if began.is_some() && began == since() {
            return;
        }
    }
}

/// What is said where there are no descriptors for anything but probes.
fn no_descriptors() -> Response<Body> {
    let error = Error::unavailable("the server has no file descriptors left");
    problem(&error.retry_after(Duration::from_secs(5)))
}

/// HTTP/2 and HTTP/1.1.
impl Serve for Internal {
    fn services(&self) -> &Arc<Services> {
        self.services()
    }

    fn most_of(&self, _: IpAddr) -> Option<usize> {
        Some(self.connections_per_ip())
    }

    fn limits(&self) -> [&'static str; 2] {
        ["internal.connections", "internal.connections_per_ip"]
    }

    async fn serve<S>(self: &Arc<Self>, socket: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Visitor {
            address,
            occupant,
            short,
        } = peer.visitor;
        let certified = peer.name.map(PeerIdentity::certified);
        if certified.is_some() {
            occupant.peer().prove();
        }
        let answer = service_fn(|mut request: Request<Incoming>| {
            let (back, certified) = (Arc::clone(self), certified.clone());
            let underway = occupant.begin();
            request.extensions_mut().insert(occupant.peer().clone());
            async move {
                let answer = if short && !Internal::is_probe(&request) {
                    no_descriptors()
                } else {
                    back.answer(request, address, certified).await
                };
                let answer = answer.map(|body| Tracked::new(body, underway));
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        let mut builder = hyper_util::server::conn::auto::Builder::new(self.streams().clone());
        builder
            .http1()
            .timer(HyperTimer)
            .header_read_timeout(None)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD);
        builder
            .http2()
            .timer(HyperTimer)
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buf_size(STREAM_BUFFER)
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        let socket = TimeoutIo::new(socket, &self.services().metrics).times_heads(
            occupant.activity(),
            HANDSHAKE,
            HANDSHAKE,
        );
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
                () = leaves(&occupant, self.keep_alive()) => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        outcome = &mut connection => break outcome,
                        () = overstays(&occupant) => return,
                    }
                }
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%address, %error, "a connection broke");
        }
    }
}

/// The body of an answer, with which the request ends.
struct Tracked {
    body: Body,
    _underway: Underway,
}

impl Tracked {
    fn new(body: Body, underway: Underway) -> Self {
        Tracked {
            body,
            _underway: underway,
        }
    }
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
