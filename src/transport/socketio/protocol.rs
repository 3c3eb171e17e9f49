//! The hub's protocol for connections over Engine.IO and Socket.IO.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::connect;
use super::namespace_set::{Namespace, NamespaceSet, Slot};
use super::packet::{self, Engine, Malformed, RESERVED, SEPARATOR, Socket};
use super::packing::Packing;
use super::state::State;
use crate::error::{CloseCode, Error};
use crate::event::{Event, Timestamp};
use crate::hub::{ConnCtx, DialectId, Notice, Protocol};
use crate::protocol::{
    Encoded, Encoder as _, Incoming, MessageWriter, ReplyTo, RequestId, ServerMessage, frames,
    handle,
};
use crate::session::renew_stated;
use crate::telemetry::Transport;
use crate::transport::message_reader::read_messages;
use tidings_websocket::frame::{self, Message, Params};

/// The ping packet (Engine.IO, "Heartbeat").
const PING: &[u8] = b"2";

/// A codec in one namespace and one packing.
#[derive(Clone)]
pub(super) struct NamespaceProtocol {
    pub(super) namespace_set: Arc<NamespaceSet>,
    pub(super) slot: Slot,
    pub(super) packing: Packing,
    id: DialectId,
}

impl NamespaceProtocol {
    pub(super) fn new(
        namespace_set: &Arc<NamespaceSet>,
        slot: Slot,
        packing: Packing,
    ) -> Arc<Self> {
        Arc::new(NamespaceProtocol {
            id: namespace_set.id(slot, packing),
            namespace_set: Arc::clone(namespace_set),
            slot,
            packing,
        })
    }

    /// The protocol of the connection now: a packet before this one may have connected it to a
    /// namespace.
    pub(super) fn now(&self, cx: &ConnCtx<'_>) -> Arc<Self> {
        let now = cx.dialect().filter(|now| *now != self.id);
        match now.and_then(|now| self.namespace_set.find(now)) {
            None => Arc::new(self.clone()),
            Some((slot, packing)) => NamespaceProtocol::new(&self.namespace_set, slot, packing),
        }
    }

    /// The namespace that the connection is in.
    pub(super) fn namespace(&self) -> Option<&Namespace> {
        self.namespace_set.namespace(self.slot)
    }

    /// Sends a packet.
    pub(super) fn send(&self, cx: &mut ConnCtx<'_>, packet: &str) {
        cx.send(self.packing.pack_one(packet.as_bytes()));
    }

    /// Replies with an error.
    fn refuse(&self, cx: &mut ConnCtx<'_>, ack: Option<u64>, error: &Error) {
        cx.hub().metrics().error(error.code());
        let reply_to = ReplyTo {
            id: ack.map_or(RequestId::None, RequestId::Token),
            ..ReplyTo::default()
        };
        let writer = Arc::new(self.clone()).writer();
        writer.send(cx, &reply_to, &ServerMessage::Error(error));
    }

    fn packet(&self, cx: &mut ConnCtx<'_>, state: &mut State, text: &str) {
        let engine = match packet::engine(text) {
            Ok(engine) => engine,
            Err(malformed) => return close_malformed(cx, malformed),
        };
        match engine {
            Engine::Message(text) => match packet::socket(text) {
                Ok(packet) => self.now(cx).message(cx, state, packet),
                Err(malformed) => close_malformed(cx, malformed),
            },
            Engine::Close => {
                state.finish_post(cx);
                self.leave(cx);
            }
            Engine::Pong => {
                if cx.take_message().is_ok() {
                    cx.answered();
                }
            }
            Engine::Ping(payload) => {
                if cx.take_message().is_ok() {
                    self.send(cx, &format!("3{payload}"));
                }
            }
            // Attachments of a refused packet, or no content: only counted.
            Engine::Binary | Engine::Upgrade | Engine::Noop => drop(cx.take_message()),
        }
    }

    fn message(self: &Arc<Self>, cx: &mut ConnCtx<'_>, state: &mut State, packet: Socket<'_>) {
        match packet {
            Socket::Connect { namespace, auth } => {
                connect::connect(self, cx, state.handshake.as_ref(), namespace, auth);
            }
            Socket::Event {
                namespace,
                ack,
                name,
                arguments,
            } if self.is_in(namespace) => {
                let argument = match arguments.as_slice() {
                    [] => "{}",
                    [one] => one.get(),
                    _ => {
                        let text = "expected one argument, an object";
                        let error = cx.take_message().err();
                        let error = error.unwrap_or_else(|| Error::invalid(text));
                        return self.refuse(cx, ack, &error);
                    }
                };
                let named = Incoming::Named {
                    name: &name,
                    argument,
                    token: ack,
                };
                let NamespaceSet {
                    services, codec, ..
                } = &*self.namespace_set;
                handle(services, &**codec, &self.writer(), cx, &named);
            }
            Socket::Binary { namespace, ack } if self.is_in(namespace) => {
                let text = "binary data is not taken here: send JSON";
                let error = cx.take_message().err();
                self.refuse(cx, ack, &error.unwrap_or_else(|| Error::invalid(text)));
            }
            Socket::Disconnect { namespace } if self.is_in(namespace) => {
                state.finish_post(cx);
                self.leave(cx);
            }
            // For a namespace that the client is not connected to: its CONNECT may have been refused.
            Socket::Event { .. }
            | Socket::Binary { .. }
            | Socket::Disconnect { .. }
            | Socket::Ack => drop(cx.take_message()),
        }
    }

    fn is_in(&self, namespace: &str) -> bool {
        self.namespace().is_some_and(|own| *own.name == *namespace)
    }

    /// The client closes: no reply is due.
    fn leave(&self, cx: &mut ConnCtx<'_>) {
        let last = match self.packing {
            Packing::Frames(_) => frame::close(CloseCode::Normal.number(), ""),
            Packing::Polling => Bytes::new(),
        };
        cx.end(CloseCode::Normal, last);
    }

    fn read_frames(&self, cx: &mut ConnCtx<'_>, input: &mut [u8], state: &mut State) -> usize {
        let Packing::Frames(compression) = self.packing else {
            return input.len();
        };
        // After the upgrade no POST waits.
        state.posted = None;
        let params = Params {
            message_bytes: self.namespace_set.message_bytes,
            deflate: compression.params(),
        };
        let mut assembly = state.assembly.take();
        let done = read_messages(
            cx,
            input,
            &params,
            &mut assembly,
            |cx, message| match message {
                Message::Text(text) => self.packet(cx, state, &text),
                Message::Binary(_) => drop(cx.take_message()),
                Message::Ping(_) | Message::Pong(_) | Message::Close(..) => {}
            },
        );
        state.assembly = assembly;
        done
    }

    /// Reads packets. Each ends with a separator; the POST handler has added the last one.
    fn read_payload(&self, cx: &mut ConnCtx<'_>, input: &[u8], state: &mut State) -> usize {
        let mut done = 0;
        while !cx.is_paused() {
            let rest = input.get(done..).unwrap_or_default();
            let Some(length) = memchr::memchr(SEPARATOR, rest) else {
                break;
            };
            done += length + 1;
            match std::str::from_utf8(rest.get(..length).unwrap_or_default()) {
                Ok(text) => self.packet(cx, state, text),
                Err(_) => close_malformed(cx, Malformed("text is not UTF-8")),
            }
        }
        if done == input.len() {
            state.finish_post(cx);
        }
        done
    }
}

/// The packet can't be parsed, and neither could any later one.
fn close_malformed(cx: &mut ConnCtx<'_>, malformed: Malformed) {
    cx.close(CloseCode::Protocol, malformed.0);
}

/// The name under which an event is emitted: a name reserved by Socket.IO would end the connection.
fn put_name(out: &mut impl BufMut, name: &str) {
    if RESERVED.contains(&name) {
        out.put_slice(b"\"event.");
        out.put_slice(name.as_bytes());
        out.put_slice(b"\"");
    } else {
        out.put_slice(serde_json::Value::from(name).to_string().as_bytes());
    }
}

impl NamespaceProtocol {
    /// Writes messages for its connections.
    pub(super) fn writer(self: &Arc<Self>) -> MessageWriter {
        let encoder = Arc::clone(&self.namespace_set.codec);
        let own = Arc::clone(self);
        MessageWriter::new(encoder, move |payload| own.frame(payload))
    }

    /// The frames of a message that is no reply.
    fn frames(&self, message: &ServerMessage<'_>) -> Option<Bytes> {
        self.namespace()?;
        let framing = |payload: &Encoded<'_>| self.frame(payload);
        frames(&*self.namespace_set.codec, &framing, message)
    }

    fn frame(&self, message: &Encoded<'_>) -> Bytes {
        let Some(namespace) = self.namespace() else {
            return Bytes::new();
        };
        let mut packet = Vec::with_capacity(message.body.len() + 64);
        if let Some(token) = message.token {
            packet.put_slice(namespace.ack.as_bytes());
            packet.put_slice(token.to_string().as_bytes());
            packet.put_u8(b'[');
        } else {
            packet.put_slice(namespace.event.as_bytes());
            packet.put_u8(b'[');
            put_name(&mut packet, message.name);
            packet.put_u8(b',');
        }
        packet.put_slice(message.body);
        packet.put_u8(b']');
        self.packing.pack_one(&packet)
    }
}

impl Protocol for NamespaceProtocol {
    fn transport(&self) -> Transport {
        Transport::SocketIo
    }

    fn dialect(&self) -> DialectId {
        self.id
    }

    fn event(&self, event: &Event) -> Bytes {
        let Some(namespace) = self.namespace() else {
            return Bytes::new();
        };
        let codec = &self.namespace_set.codec;
        let mut packet = BytesMut::with_capacity(codec.event_size(event) + 64);
        packet.put_slice(namespace.event.as_bytes());
        packet.put_u8(b'[');
        put_name(&mut packet, event.event_type.as_str());
        packet.put_u8(b',');
        codec.encode_event(&mut packet, event);
        packet.put_u8(b']');
        self.packing.pack(&packet)
    }

    fn notice(&self, notice: &Notice<'_>) -> Option<Bytes> {
        self.frames(&ServerMessage::from(notice))
    }

    fn heartbeat(&self, now: Timestamp) -> Bytes {
        let ping = self.packing.pack_one(PING);
        match self.frames(&ServerMessage::Heartbeat(now)) {
            None => ping,
            Some(message) => [ping, message].concat().into(),
        }
    }

    fn close(&self, code: CloseCode, reason: &str) -> Bytes {
        let mut last = BytesMut::new();
        if let (true, Some(namespace)) = (is_final(code), self.namespace()) {
            last.put(self.packing.pack_one(namespace.disconnect.as_bytes()));
        }
        // Polls deliver the end themselves.
        if let Packing::Frames(_) = self.packing {
            last.put(frame::close(code.number(), reason));
        }
        last.freeze()
    }

    fn renews(&self, cx: &mut ConnCtx<'_>) -> bool {
        renew_stated(&self.namespace_set.services, cx)
    }

    fn received(&self, cx: &mut ConnCtx<'_>, input: &mut [u8]) -> usize {
        let mut state = State::take(cx);
        let done = match self.packing {
            Packing::Frames(_) => self.read_frames(cx, input, &mut state),
            Packing::Polling => self.read_payload(cx, input, &mut state),
        };
        if self.now(cx).slot != Slot::Unconnected {
            state.handshake = None;
        }
        state.keep(cx);
        done
    }
}

/// Whether the client must not reconnect by itself: it gets DISCONNECT. Without one, clients reconnect.
fn is_final(code: CloseCode) -> bool {
    match code {
        CloseCode::Disconnected | CloseCode::Forbidden | CloseCode::TooManyMessages => true,
        CloseCode::Normal
        | CloseCode::Shutdown
        | CloseCode::Protocol
        | CloseCode::Unsupported
        | CloseCode::InvalidPayload
        | CloseCode::TooBig
        | CloseCode::Internal
        | CloseCode::Restart
        | CloseCode::Full
        | CloseCode::Unauthenticated
        | CloseCode::HeartbeatTimeout
        | CloseCode::TooSlow => false,
    }
}
