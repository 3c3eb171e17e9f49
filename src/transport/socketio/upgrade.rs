//! The WebSocket of a new connection, or the upgrade of one that polls.
//!
//! A polling client opens a WebSocket and probes it (`2probe`, answered `3probe`), waits for its last poll
//! and POST, and completes the upgrade (`5`). Only then the connection's shard takes over the socket, with
//! all packets that no poll has taken.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use bytes::BytesMut;
use http::{Request, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::admission::Admitted;
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::namespace_set::{NamespaceSet, Slot};
use super::packing::Packing;
use super::protocol::NamespaceProtocol;
use super::sessions::Session;
use super::state::State;
use crate::api::problem::problem_with_status;
use crate::clock::timeout;
use crate::error::Error;
use crate::hub::{Hub, TransportUpgrade};
use crate::net::bare_socket;
use crate::session::{self, NewConnection, Services};
use crate::transport::message_reader::decode;
use tidings_websocket::Compression;
use tidings_websocket::frame::{self, Message, Params};
use tidings_websocket::handshake::{Offer, Refusal};

/// The time limit of an upgrade.
const ATTEMPT: Duration = Duration::from_secs(10);
/// The most bytes that a client sends before the upgrade is complete.
const MAX_ATTEMPT: usize = 4096;

impl Endpoint {
    /// A WebSocket without a session: a new connection.
    pub(super) async fn open_socket(
        &self,
        namespace_set: Arc<NamespaceSet>,
        mut request: Request<Body>,
        token: Option<&str>,
        address: SocketAddr,
    ) -> Result<Response<Body>, Failure> {
        let offer = match self.offer(&request) {
            Ok(offer) => offer,
            Err(refusal) => return Ok(refused(refusal)),
        };
        let headers = request.headers().clone();
        let admitted = match self.admit(&headers, token, address).await {
            Ok(admitted) => admitted,
            Err(refusal) => return Ok(*refusal),
        };
        let packing = Packing::Frames(Compression::of(offer.deflate));
        let sid = super::sessions::Sessions::new_name();
        let packet = packing.pack_one(self.open_packet(&namespace_set, &sid, &[]).as_bytes());
        let upgrade = hyper::upgrade::on(&mut request);
        let services = Arc::clone(&self.services);
        self.services.hub.spawn(async move {
            let protocol = NamespaceProtocol::new(&namespace_set, Slot::Unconnected, packing);
            open(&services, upgrade, admitted, protocol, packet, address).await;
        });
        Ok(offer.answer(None).map(|()| Body::empty()))
    }

    /// A WebSocket for a session that polls.
    pub(super) fn upgrade(
        self: &Endpoint,
        sid: &str,
        session: Arc<Session>,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        let offer = match self.offer(&request) {
            Ok(offer) => offer,
            Err(refusal) => return Ok(refused(refusal)),
        };
        if !session.begin_upgrade() {
            return Err(Failure::Request);
        }
        let compression = Compression::of(offer.deflate);
        let upgrade = hyper::upgrade::on(&mut request);
        let (services, sessions) = (Arc::clone(&self.services), Arc::clone(&self.sessions));
        let sid = sid.to_owned();
        self.services.hub.spawn(async move {
            let attempt = attempt(upgrade, &session, compression);
            let Ok(Some((upgraded, early))) = timeout(ATTEMPT, attempt).await else {
                session.upgrading.store(false, Ordering::Release);
                return;
            };
            if complete_upgrade(&services.hub, &session, upgraded, early, compression) {
                services.metrics.transport_upgraded();
            }
            sessions.remove(&sid);
        });
        Ok(offer.answer(None).map(|()| Body::empty()))
    }

    fn offer(&self, request: &Request<Body>) -> Result<Offer, Refusal> {
        Offer::read(
            request.method(),
            request.version(),
            request.headers(),
            self.compression(),
        )
    }
}

fn refused(refusal: Refusal) -> Response<Body> {
    let error = Error::invalid(refusal.message());
    let mut response = problem_with_status(&error, refusal.status());
    if let Some((name, value)) = refusal.header() {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Waits until the answer is sent, and hands the socket to a shard.
async fn open(
    services: &Services,
    upgrade: OnUpgrade,
    admitted: Admitted,
    protocol: Arc<NamespaceProtocol>,
    packet: bytes::Bytes,
    address: SocketAddr,
) {
    let Ok(upgraded) = upgrade.await else {
        let (trace_id, span_id) = (admitted.span.trace_id(), admitted.span.span_id());
        tracing::debug!(trace_id, span_id, %address, "the client went away during the upgrade");
        return;
    };
    let Some((link, early)) = bare_socket(upgraded) else {
        return;
    };
    let Admitted {
        connection: admitted,
        handshake,
        ..
    } = admitted;
    let connection = NewConnection {
        early,
        ..NewConnection::new(link, protocol, move |cx| {
            let state = State {
                handshake: Some(handshake),
                ..State::default()
            };
            state.keep(cx);
            cx.send(packet);
        })
    };
    session::open(&services.hub, admitted, connection);
}

/// Runs the client's probe: the socket and the bytes after the upgrade packet; `None` if the client did
/// not upgrade.
async fn attempt(
    upgrade: OnUpgrade,
    session: &Session,
    compression: Compression,
) -> Option<(Upgraded, Vec<u8>)> {
    let mut socket = TokioIo::new(upgrade.await.ok()?);
    let params = Params {
        message_bytes: MAX_ATTEMPT,
        deflate: compression.params(),
    };
    let early = probe(&mut socket, session, &params).await?;
    Some((socket.into_inner(), early))
}

/// A message of a client that probes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// The probe.
    Probe,
    /// The upgrade packet.
    Go,
    /// A Ping of the WebSocket.
    Ping(Vec<u8>),
    /// No action.
    Nothing,
    /// A violation of the protocol.
    Wrong,
}

async fn probe(
    socket: &mut (impl AsyncRead + AsyncWrite + Unpin),
    session: &Session,
    params: &Params,
) -> Option<Vec<u8>> {
    let mut buffer = BytesMut::with_capacity(512);
    let (mut assembly, mut probed) = (None, false);
    loop {
        while !buffer.is_empty() {
            let step = decode(&mut assembly, &mut buffer, params).ok()?;
            let Some(step) = step else { break };
            let (consumed, step_kind) =
                (step.consumed, step.message.map_or(Step::Nothing, classify));
            drop(buffer.split_to(consumed.min(buffer.len())));
            match step_kind {
                Step::Go if probed => return Some(buffer.to_vec()),
                Step::Probe => {
                    socket.write_all(&frame::text(b"3probe")).await.ok()?;
                    probed = true;
                    session.nudge.notify_one();
                }
                Step::Ping(payload) => socket.write_all(&frame::pong(&payload)).await.ok()?,
                Step::Nothing => {}
                Step::Go | Step::Wrong => return None,
            }
        }
        if buffer.len() > MAX_ATTEMPT || socket.read_buf(&mut buffer).await.ok()? == 0 {
            return None;
        }
    }
}

fn classify(message: Message<'_>) -> Step {
    match message {
        Message::Text(text) if text == "2probe" => Step::Probe,
        Message::Text(text) if text == "5" => Step::Go,
        Message::Ping(payload) => Step::Ping(payload.to_vec()),
        Message::Pong(_) => Step::Nothing,
        Message::Text(_) | Message::Binary(_) | Message::Close(..) => Step::Wrong,
    }
}

/// Gives the socket to the connection; false if the upgraded IO has none.
fn complete_upgrade(
    hub: &Hub,
    session: &Arc<Session>,
    upgraded: Upgraded,
    mut early: Vec<u8>,
    compression: Compression,
) -> bool {
    let Some((link, unread)) = bare_socket(upgraded) else {
        return false;
    };
    early.extend_from_slice(&unread);
    // Held until the shard has taken back the waiting packets: dropping the last handle of a session
    // closes its connection.
    let held = Arc::clone(session);
    hub.upgrade_transport(
        session.id,
        TransportUpgrade {
            link,
            early,
            translate: Box::new(move |dialect, waiting| {
                let namespace_set = &held.namespace_set;
                let slot = namespace_set
                    .find(dialect)
                    .map_or(Slot::Unconnected, |(slot, _)| slot);
                let packing = Packing::Frames(compression);
                (
                    NamespaceProtocol::new(namespace_set, slot, packing),
                    packing.repack(&waiting),
                )
            }),
        },
    );
    true
}
