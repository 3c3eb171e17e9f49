//! Long polling: a POST carries the client's packets, the response to a GET the server's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::oneshot;
use tokio_stream::StreamExt;

use super::admission::Admitted;
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::namespace_set::{NamespaceSet, Slot};
use super::packet::{SEPARATOR, is_payload};
use super::packing::Packing;
use super::protocol::NamespaceProtocol;
use super::sessions::{Poll, Session, Sessions};
use super::state::State;
use crate::api::problem::problem;
use crate::clock::timeout;
use crate::error::CloseCode;
use crate::hub::{Hub, Piped};
use crate::session::{BodySender, open_stream};

/// The CLOSE packet.
const CLOSE: Bytes = Bytes::from_static(b"1");
/// The NOOP packet: ends a poll without other packets.
const NOOP: Bytes = Bytes::from_static(b"6");
/// The size after which a response takes no more packets.
const FULL: usize = 256 * 1024;
/// The time limit for the body of a POST.
const SENDING: Duration = Duration::from_secs(30);
/// How long a poll waits while the client probes a WebSocket: the client continues only after its poll
/// has ended.
const WHILE_UPGRADING: Duration = Duration::from_millis(100);

impl Endpoint {
    /// The handshake: opens a connection.
    pub(super) async fn open_polling(
        &self,
        namespace_set: Arc<NamespaceSet>,
        headers: &HeaderMap,
        token: Option<&str>,
        address: SocketAddr,
    ) -> Response<Body> {
        let admitted = match self.admit(headers, token, address).await {
            Ok(admitted) => admitted,
            Err(refusal) => return *refusal,
        };
        let Admitted {
            connection,
            handshake,
            ..
        } = admitted;
        let protocol = NamespaceProtocol::new(&namespace_set, Slot::Unconnected, Packing::Polling);
        let opened = open_stream(&self.services, connection, protocol, move |cx, reply| {
            let state = State {
                handshake: Some(handshake),
                ..State::default()
            };
            state.keep(cx);
            reply.accept(cx, ());
        });
        let reader = match opened.await {
            Ok((reader, ())) => reader,
            Err(error) => return problem(&error),
        };
        let sid = Sessions::new_name();
        let packet = self.open_packet(&namespace_set, &sid, &["websocket"]);
        let session = Session::new(namespace_set, reader);
        match self.sessions.insert(&self.services.hub, &sid, session) {
            Ok(()) => text(packet.into()),
            Err(error) => problem(&error),
        }
    }

    /// A poll: waits for packets and returns all that are there.
    pub(super) async fn poll(
        &self,
        sid: &str,
        session: &Session,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Failure> {
        if headers.contains_key(http::header::UPGRADE) {
            return Err(Failure::Request);
        }
        let Ok(mut poll) = session.poll.try_lock() else {
            session.abort(&self.services.hub, "a second poll at once");
            return Err(Failure::Request);
        };
        let mut abandoned = Abandoned {
            session,
            hub: &self.services.hub,
            answered: false,
        };
        let (packets, over) = collect(session, &mut poll).await;
        abandoned.answered = true;
        drop(poll);
        if over {
            self.sessions.remove(sid);
        }
        Ok(text(packets))
    }

    /// A POST: hands its packets to the shard and responds once they are handled, so that at most one
    /// payload waits per connection.
    pub(super) async fn post(
        &self,
        session: &Session,
        request: Request<Body>,
        address: SocketAddr,
    ) -> Result<Response<Body>, Failure> {
        let hub = &self.services.hub;
        let Ok(_turn) = session.posting.try_lock() else {
            session.abort(hub, "a second POST at once");
            return Err(Failure::Request);
        };
        let limit = session.namespace_set.message_bytes;
        // The client may not be authenticated yet, so its address is charged.
        let sender = BodySender::at(address.ip());
        let mut held = self.services.bodies.reserve(sender, None);
        let announced = HttpBody::size_hint(request.body()).upper();
        let announced = announced.and_then(|length| usize::try_from(length).ok());
        if let Err(full) = held.grow_to(announced.unwrap_or(limit).min(limit)) {
            return Ok(problem(&full));
        }
        let body = Limited::new(request.into_body(), limit).collect();
        let body = match timeout(SENDING, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                self.services.metrics.limit_reached("message_bytes");
                session.abort(hub, "a payload over limits.message_bytes");
                return Ok(Failure::Request.response_with(StatusCode::PAYLOAD_TOO_LARGE));
            }
            Ok(Err(_)) => return Err(Failure::Request),
            Err(_) => return Ok(Failure::Request.response_with(StatusCode::REQUEST_TIMEOUT)),
        };
        if !std::str::from_utf8(&body).is_ok_and(is_payload) {
            session.abort(hub, "no payload of Engine.IO packets");
            return Err(Failure::Request);
        }
        let (done, dealt_with) = oneshot::channel();
        let mut packets = Vec::with_capacity(body.len() + 1);
        packets.extend_from_slice(&body);
        packets.push(SEPARATOR);
        hub.receive(session.id, packets, move |cx| {
            let mut state = State::take(cx);
            // An abandoned request does not allow a second payload.
            if state.posted.is_some() {
                cx.close(CloseCode::Protocol, "a second POST at once");
            }
            state.posted = Some(done);
            state.keep(cx);
        });
        match dealt_with.await {
            Ok(()) => Ok(text(Bytes::from_static(b"ok"))),
            // The connection has ended, perhaps by a packet of the payload.
            Err(_) => Err(Failure::Session),
        }
    }
}

/// The packets for one poll, and whether they are the last. CLOSE is sent alone: clients act on it before
/// they read packets of the same payload.
async fn collect(session: &Session, poll: &mut Poll) -> (Bytes, bool) {
    if poll.closing {
        return (CLOSE, true);
    }
    let mut packets = BytesMut::new();
    let mut next = tokio::select! {
        biased;
        piped = poll.reader.next() => match piped {
            // The client has upgraded to a WebSocket: polling is over.
            None => return (NOOP, true),
            piped => piped,
        },
        () = asked_to_end(session) => None,
    };
    while let Some(piped) = next {
        match piped {
            Piped::Frame(frame) => packets.extend_from_slice(&frame),
            Piped::End(CloseCode::Normal, _) if packets.is_empty() => return (NOOP, true),
            Piped::End(..) if packets.is_empty() => return (CLOSE, true),
            Piped::End(..) => {
                poll.closing = true;
                break;
            }
        }
        if packets.len() >= FULL {
            break;
        }
        next = poll.reader.try_next();
    }
    // Without the separator after the last packet.
    packets.truncate(packets.len().saturating_sub(1));
    let packets = if packets.is_empty() {
        NOOP
    } else {
        packets.freeze()
    };
    (packets, false)
}

/// Closes the connection of a client that aborts a poll: its library treats that as the end of the
/// connection, and the packets of the poll are lost.
struct Abandoned<'p> {
    session: &'p Session,
    hub: &'p Hub,
    answered: bool,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.session.abort(self.hub, "a poll was abandoned");
        }
    }
}

/// Waits until the poll must end without a packet.
async fn asked_to_end(session: &Session) {
    if session.upgrading.load(Ordering::Acquire) {
        tokio::time::sleep(WHILE_UPGRADING).await;
    } else {
        session.nudge.notified().await;
    }
}

fn text(body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    let plain = HeaderValue::from_static("text/plain; charset=UTF-8");
    headers.insert(CONTENT_TYPE, plain);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
