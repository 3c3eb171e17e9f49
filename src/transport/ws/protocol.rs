//! The hub's protocol for WebSocket connections.

use std::any::Any;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::{self, Assembly, Message, Opcode, Params};
use super::framer::WsFramer;
use crate::error::CloseCode;
use crate::event::{Event, Timestamp};
use crate::hub::{ConnCtx, DialectId, Notice, Protocol};
use crate::protocol::{Codec, Decoder, Incoming, MessageWriter, ServerMessage, handle};
use crate::session::{Services, renew_stated};
use crate::telemetry::Transport;
use crate::transport::message_reader::read_messages;
use tidings_websocket::Compression;

/// A codec over the WebSocket.
pub(super) struct WsProtocol {
    services: Arc<Services>,
    decoder: Arc<dyn Decoder>,
    framer: WsFramer,
    writer: MessageWriter,
    id: DialectId,
    /// The codec's name.
    name: Box<str>,
    params: Params,
}

impl WsProtocol {
    /// The codec with one kind of compression and this limit on messages.
    #[must_use]
    pub(super) fn new(
        services: Arc<Services>,
        name: &str,
        codec: Codec,
        compression: Compression,
        id: DialectId,
        message_bytes: usize,
    ) -> Self {
        let framer = WsFramer::new(codec.encoder, compression);
        WsProtocol {
            services,
            decoder: codec.decoder,
            writer: framer.writer(),
            framer,
            id,
            name: name.into(),
            params: Params {
                message_bytes,
                deflate: compression.params(),
            },
        }
    }

    /// Writes messages for its connections.
    pub(super) fn writer(&self) -> &MessageWriter {
        &self.writer
    }

    fn handle(&self, cx: &mut ConnCtx<'_>, incoming: &Incoming<'_>) {
        handle(&self.services, &*self.decoder, &self.writer, cx, incoming);
    }
}

impl Protocol for WsProtocol {
    fn transport(&self) -> Transport {
        Transport::WebSocket
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn is_compressed(&self) -> bool {
        self.params.deflate.is_some()
    }

    fn dialect(&self) -> DialectId {
        self.id
    }

    fn event(&self, event: &Event) -> Bytes {
        self.framer.event(event)
    }

    fn event_to_confirm(&self, event: &Event) -> Option<Bytes> {
        self.framer.event_to_confirm(event)
    }

    fn notice(&self, notice: &Notice<'_>) -> Option<Bytes> {
        self.writer.frames(&ServerMessage::from(notice))
    }

    /// A message after a Ping frame, whose payload the Pong returns.
    fn heartbeat(&self, now: Timestamp) -> Bytes {
        let ping = frame::ping(&self.services.hub.clock_us().to_be_bytes());
        let Some(message) = self.writer.frames(&ServerMessage::Heartbeat(now)) else {
            return ping;
        };
        let mut both = BytesMut::with_capacity(ping.len() + message.len());
        both.put(ping);
        both.put(message);
        both.freeze()
    }

    fn close(&self, code: CloseCode, reason: &str) -> Bytes {
        frame::close(code.number(), reason)
    }

    fn renews(&self, cx: &mut ConnCtx<'_>) -> bool {
        renew_stated(&self.services, cx)
    }

    fn received(&self, cx: &mut ConnCtx<'_>, input: &mut [u8]) -> usize {
        let binary = self.framer.is_binary();
        read(cx, input, &self.params, |cx, message| match message {
            Message::Text(text) if !binary => {
                self.handle(cx, &Incoming::Text(&text));
            }
            Message::Binary(bytes) if binary => {
                self.handle(cx, &Incoming::Binary(&bytes));
            }
            // The codec does not decode this kind.
            Message::Text(_) | Message::Binary(_) => {
                cx.close(CloseCode::Unsupported, CloseCode::Unsupported.reason());
            }
            Message::Ping(_) | Message::Pong(_) | Message::Close(..) => {}
        })
    }
}

/// For conformance suites: every message is sent back unchanged, and the hub is not touched.
pub(super) struct Echo {
    services: Arc<Services>,
    compression: Compression,
    id: DialectId,
    params: Params,
}

impl Echo {
    /// With this limit on messages.
    #[must_use]
    pub(super) fn new(
        services: Arc<Services>,
        compression: Compression,
        id: DialectId,
        message_bytes: usize,
    ) -> Self {
        Echo {
            services,
            compression,
            id,
            params: Params {
                message_bytes,
                deflate: compression.params(),
            },
        }
    }
}

impl Protocol for Echo {
    fn transport(&self) -> Transport {
        Transport::WebSocket
    }

    fn dialect(&self) -> DialectId {
        self.id
    }

    fn event(&self, _: &Event) -> Bytes {
        Bytes::new()
    }

    fn notice(&self, _: &Notice<'_>) -> Option<Bytes> {
        None
    }

    fn heartbeat(&self, _: Timestamp) -> Bytes {
        frame::ping(&self.services.hub.clock_us().to_be_bytes())
    }

    fn close(&self, code: CloseCode, reason: &str) -> Bytes {
        frame::close(code.number(), reason)
    }

    fn received(&self, cx: &mut ConnCtx<'_>, input: &mut [u8]) -> usize {
        read(cx, input, &self.params, |cx, message| match message {
            Message::Text(text) => cx.send(self.compression.frame(Opcode::Text, text.as_bytes())),
            Message::Binary(data) => cx.send(self.compression.frame(Opcode::Binary, &data)),
            Message::Ping(_) | Message::Pong(_) | Message::Close(..) => {}
        })
    }
}

/// Reads frames from the front of `input`, with the fragments kept of the last one.
fn read(
    cx: &mut ConnCtx<'_>,
    input: &mut [u8],
    params: &Params,
    handle: impl FnMut(&mut ConnCtx<'_>, Message<'_>),
) -> usize {
    let mut assembly = cx
        .take_state()
        .and_then(|state| state.downcast::<Assembly>().ok());
    let done = read_messages(cx, input, params, &mut assembly, handle);
    cx.keep_state(assembly.map(|assembly| -> Box<dyn Any + Send> { assembly }));
    done
}
