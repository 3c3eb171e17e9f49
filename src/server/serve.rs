//! Serves HTTP on the listeners' connections.

use std::net::{IpAddr, SocketAddr};
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

use super::internal::Internal;
use super::public::{Admission, Public};
use crate::api::problem::problem;
use crate::clock::{HyperTimer, RunTimer};
use crate::error::Error;
use crate::hub::Link;
use crate::lifecycle::Lifecycle;
use crate::net::PrefixedIo;
use crate::net::accepted::{Accepted, PEEK_TIMEOUT};
use crate::net::listen::{
    EVICTION_GRACE, HANDSHAKE, HANDSHAKES_EACH, Peer, Serve, SocketInfo, watched,
};
use crate::net::socket_limiter::{RequestGuard, SlotHolder};
use crate::net::timeout_io::TimeoutIo;
use crate::telemetry::Metrics;
use crate::transport::grpc::{PeerConnection, PeerIdentity};
use tidings_websocket::head::{MAX_HEADERS, read_upgrade};

/// The largest request head, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// The most concurrent streams of one HTTP/2 connection.
const MAX_STREAMS: u32 = 1024;
/// The send buffer of one HTTP/2 stream, in bytes, whatever its window.
const STREAM_BUFFER: usize = 256 * 1024;
/// The receive window of one HTTP/2 connection and of each stream, in bytes.
const WINDOW: u32 = 256 * 1024;
/// The interval of pings to a silent HTTP/2 peer, and the timeout of their answers.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// HTTP/1.1, with upgrades.
impl Serve for Public {
    fn metrics(&self) -> &Metrics {
        &self.services().metrics
    }

    fn note_rejection(&self, address: SocketAddr, error: &Error) {
        self.services().note_rejection(address, None, error);
    }

    fn most_of(&self, address: IpAddr) -> Option<usize> {
        // A proxy's connection carries many clients. Each is limited once its request is read.
        let each = self.services().hub.settings().connections_per_ip;
        (!self.is_proxy(address)).then(|| each.saturating_add(HANDSHAKES_EACH))
    }

    fn limits(&self) -> [&'static str; 2] {
        ["limits.connections", "limits.connections_per_ip"]
    }

    /// Handles a complete upgrade request without hyper, whose setup costs more than a WebSocket
    /// needs in total. The bytes of any other request are passed to hyper.
    async fn serve_tcp(self: &Arc<Self>, socket: Unwatched, info: SocketInfo) {
        let (began, address) = (Instant::now(), info.address);
        let peeked = Accepted::Unwatched(socket).peek();
        let leave = info.holder.leave();
        let (accepted, prefix) = match leave.run_until_cancelled(peeked).await {
            Some(Ok(peeked)) => peeked,
            Some(Err(error)) => {
                tracing::debug!(%address, %error, "a connection broke");
                return;
            }
            None => return,
        };
        let mut refusal = None;
        if !info.short
            && let Some((request, len)) = read_upgrade(&prefix)
        {
            match self.admit(&request, address).await {
                Admission::Admitted(admitted) => {
                    if let Some(socket) = accepted.unwatched() {
                        let early = prefix.get(len..).unwrap_or_default().to_vec();
                        self.enter(*admitted, Link::Socket(socket), early);
                    }
                    return;
                }
                Admission::Refused(answer) => refusal = Some(answer),
                Admission::Elsewhere => {}
            }
        }
        let Some(socket) = watched(accepted, address) else {
            return;
        };
        let head_timeout = HANDSHAKE.saturating_sub(began.elapsed()).max(PEEK_TIMEOUT);
        let socket = TimeoutIo::new(PrefixedIo::new(socket, prefix), &self.services().metrics);
        // The future is large, and most connections never get here.
        Box::pin(self.serve_http1(socket, info, head_timeout, refusal)).await;
    }

    async fn serve<S>(self: &Arc<Self>, socket: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let socket = TimeoutIo::new(socket, &self.services().metrics);
        self.serve_http1(socket, peer.info, HANDSHAKE, None).await;
    }
}

impl Public {
    /// Serves HTTP/1.1. The first head has its own timeout. `first` answers the first request if it
    /// was parsed already.
    async fn serve_http1<S>(
        self: &Arc<Self>,
        socket: TimeoutIo<S>,
        info: SocketInfo,
        head_timeout: Duration,
        first: Option<Response<Body>>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let SocketInfo {
            address,
            holder,
            short,
        } = info;
        let first = Mutex::new(first);
        let answer = service_fn(|request: Request<Incoming>| {
            let front = Arc::clone(self);
            let guard = holder.begin();
            let known = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move {
                let mut answer = match known {
                    Some(known) => known,
                    None if short && !Public::is_probe(&request) => no_descriptors(),
                    None => front.answer(request, address).await,
                };
                end_after(&mut answer, front.lifecycle());
                let mut answer = answer.map(|body| Tracked::new(body, guard));
                if short {
                    let headers = answer.headers_mut();
                    headers.insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        let socket = socket.with_head_timeout(holder.activity(), head_timeout, HANDSHAKE);
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
            () = until_close(&holder, self.keep_alive()) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    outcome = connection => outcome,
                    () = until_overdue(&holder) => return,
                }
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%address, %error, "a connection broke");
        }
    }
}

/// Closes an HTTP/1.1 connection after this response if the server is about to stop (RFC 9112
/// §9.6). The next request opens a new connection, which a load balancer sends to another server.
/// An upgrade is exempt.
pub(super) fn end_after(answer: &mut Response<Body>, lifecycle: &Lifecycle) {
    if !lifecycle.is_ready() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Waits until a connection should close: the server closes, its slot was given to another, or it
/// was idle for too long.
async fn until_close(holder: &SlotHolder, keep_alive: Duration) {
    tokio::select! {
        () = holder.leave().cancelled() => {}
        () = until_idle(holder, keep_alive) => {}
    }
}

/// Waits until an idle connection must be closed although its client ignores the GOAWAY.
async fn until_overdue(holder: &SlotHolder) {
    loop {
        tokio::time::sleep(EVICTION_GRACE).await;
        let idle_timeout = !holder.leave().is_cancelled();
        if idle_timeout && holder.activity().since_idle().is_some() {
            return;
        }
    }
}

/// The idle time that is always allowed, whatever `server.keep_alive` says.
const LONGEST: Duration = Duration::from_hours(24 * 365);
/// The interval of checks after a request has arrived meanwhile.
const LEAST_IDLE: Duration = Duration::from_secs(1);

/// Waits until no request has been in progress for the allowed idle time. An authenticated HTTP/2
/// connection may stay open.
async fn until_idle(holder: &SlotHolder, keep_alive: Duration) {
    let since = || {
        let since = holder.activity().since_idle();
        since.filter(|_| !holder.activity().is_proven())
    };
    // A longer time is useless, and some clocks cannot represent it.
    let keep_alive = keep_alive.min(LONGEST);
    loop {
        let began = since();
        let left = began.map_or(keep_alive, |at| keep_alive.saturating_sub(at.elapsed()));
        // Counts only time in which this process ran: bytes that arrived during a stall are read
        // before the timer fires.
        RunTimer::new(left.max(LEAST_IDLE)).await;
        if began.is_some() && began == since() {
            return;
        }
    }
}

/// The response when only probes can be served for lack of file descriptors.
fn no_descriptors() -> Response<Body> {
    let error = Error::unavailable("the server has no file descriptors left");
    problem(&error.retry_after(Duration::from_secs(5)))
}

/// Serves HTTP/2 and HTTP/1.1.
impl Serve for Internal {
    fn metrics(&self) -> &Metrics {
        &self.services().metrics
    }

    fn note_rejection(&self, address: SocketAddr, error: &Error) {
        self.services().note_rejection(address, None, error);
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
        let SocketInfo {
            address,
            holder,
            short,
        } = peer.info;
        let certified = peer.name.map(PeerIdentity::certified);
        if certified.is_some() {
            holder.activity().prove();
        }
        let of_calls = PeerConnection::new(Arc::clone(holder.activity()));
        let answer = service_fn(|mut request: Request<Incoming>| {
            let (back, certified) = (Arc::clone(self), certified.clone());
            let guard = holder.begin();
            request.extensions_mut().insert(of_calls.clone());
            async move {
                let answer = if short && !Internal::is_probe(&request) {
                    no_descriptors()
                } else {
                    back.answer(request, address, certified).await
                };
                let answer = answer.map(|body| Tracked::new(body, guard));
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
        let socket = TimeoutIo::new(socket, &self.services().metrics).with_head_timeout(
            holder.activity(),
            HANDSHAKE,
            HANDSHAKE,
        );
        let connection = builder.serve_connection(TokioIo::new(socket), answer);
        tokio::pin!(connection);
        let leaving = self.lifecycle().leaving();
        // A request during draining is a health probe or fetches the last events.
        let mut stays = leaving.is_cancelled();
        let outcome = loop {
            tokio::select! {
                outcome = &mut connection => break outcome,
                // GOAWAY (RFC 9113 §6.8): existing streams run to their end. New ones need another
                // connection, which may lead to another server.
                () = leaving.cancelled(), if !stays => {
                    stays = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = until_close(&holder, self.keep_alive()) => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        outcome = &mut connection => break outcome,
                        () = until_overdue(&holder) => return,
                    }
                }
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%address, %error, "a connection broke");
        }
    }
}

/// A response body that marks the end of its request.
struct Tracked {
    body: Body,
    _guard: RequestGuard,
}

impl Tracked {
    fn new(body: Body, guard: RequestGuard) -> Self {
        Tracked {
            body,
            _guard: guard,
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
