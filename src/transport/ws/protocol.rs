//! The dialects of the WebSocket, as the bus sees them.

use std::any::Any;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::{self, Assembly, Message, Opcode, Params};
use super::framer::WsFramer;
use crate::error::CloseCode;
use crate::event::{Event, Timestamp};
use crate::hub::{ConnCtx, DialectId, Notice, Protocol};
use crate::protocol::{Dialect, Framer, Incoming, ServerMessage, handle, spoken};
use crate::session::Services;
use crate::telemetry::Transport;
use crate::transport::message_reader::read_messages;
use tidings_websocket::Compression;

/// A dialect over the WebSocket.
pub(super) struct Speaking {
    services: Arc<Services>,
    framed: Arc<WsFramer>,
    framer: Arc<dyn Framer>,
    id: DialectId,
    params: Params,
}

impl Speaking {
    /// The dialect in one kind of compression, with messages of at most so many bytes.
    #[must_use]
    pub(super) fn new(
        services: Arc<Services>,
        dialect: Arc<dyn Dialect>,
        compression: Compression,
        id: DialectId,
        message_bytes: usize,
    ) -> Self {
        let framed = Arc::new(WsFramer::new(dialect, compression));
        Speaking {
            services,
            framer: Arc::<WsFramer>::clone(&framed),
            framed,
            id,
            params: Params {
                message_bytes,
                deflate: compression.params(),
            },
        }
    }

    /// What replies are said with.
    pub(super) fn framer(&self) -> &Arc<dyn Framer> {
        &self.framer
    }
}

impl Protocol for Speaking {
    fn transport(&self) -> Transport {
        Transport::WebSocket
    }

    fn dialect(&self) -> DialectId {
        self.id
    }

    fn event(&self, event: &Event) -> Bytes {
        self.framed.event(event)
    }

    fn event_to_confirm(&self, event: &Event) -> Option<Bytes> {
        self.framed.event_to_confirm(event)
    }

    fn notice(&self, notice: &Notice<'_>) -> Option<Bytes> {
        spoken(&*self.framed, &ServerMessage::Notice(notice))
    }

    /// A message behind a protocol Ping, whose payload comes back with the Pong.
    fn heartbeat(&self, now: Timestamp) -> Bytes {
        let ping = frame::ping(&self.services.hub.clock_us().to_be_bytes());
        let Some(message) = spoken(&*self.framed, &ServerMessage::Heartbeat(now)) else {
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

    fn received(&self, cx: &mut ConnCtx<'_>, input: &mut [u8]) -> usize {
        let binary = self.framed.dialect().is_binary();
        read(cx, input, &self.params, |cx, message| match message {
            Message::Text(text) if !binary => {
                handle(&self.services, &self.framer, cx, &Incoming::Text(&text));
            }
            Message::Binary(bytes) if binary => {
                handle(&self.services, &self.framer, cx, &Incoming::Binary(&bytes));
            }
            // What the dialect has no use for.
            Message::Text(_) | Message::Binary(_) => {
                cx.close(CloseCode::Unsupported, CloseCode::Unsupported.reason());
            }
            Message::Ping(_) | Message::Pong(_) | Message::Close(..) => {}
        })
    }
}

/// A dialect for conformance suites: every message comes back as it went; the bus is not touched.
pub(super) struct Echo {
    services: Arc<Services>,
    compression: Compression,
    id: DialectId,
    params: Params,
}

impl Echo {
    /// The dialect with messages of at most so many bytes.
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

/// Takes frames from the front of `input`, with what was kept of the last one.
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
