//! The dialects of the WebSocket, as the bus sees them.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::deflate::Inflater;
use super::frame::{self, Assembly, Message, Opcode, Params};
use super::voice::{Compression, Framed};
use crate::bus::{Cx, DialectId, Notice, Protocol};
use crate::dialect::{Dialect, Incoming, Said, Voice, handle, spoken};
use crate::error::CloseCode;
use crate::event::{Event, Timestamp};
use crate::session::Services;
use crate::telemetry::Transport;

/// The answer to a close frame without a code.
const EMPTY_CLOSE: Bytes = Bytes::from_static(&[0x88, 0]);

thread_local! {
    // One for all connections of a shard: no message leaves anything behind in it.
    static INFLATER: RefCell<Inflater> = RefCell::default();
}

/// A dialect over the WebSocket.
pub(super) struct Speaking {
    services: Arc<Services>,
    framed: Arc<Framed>,
    voice: Arc<dyn Voice>,
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
        let framed = Arc::new(Framed::new(dialect, compression));
        Speaking {
            services,
            voice: Arc::<Framed>::clone(&framed),
            framed,
            id,
            params: Params {
                message_bytes,
                deflate: compression.params(),
            },
        }
    }

    /// What replies are said with.
    pub(super) fn voice(&self) -> &Arc<dyn Voice> {
        &self.voice
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
        spoken(&*self.framed, &Said::Notice(notice))
    }

    /// A message behind a protocol Ping, whose payload comes back with the Pong.
    fn heartbeat(&self, now: Timestamp) -> Bytes {
        let ping = frame::ping(&self.services.hub.clock_us().to_be_bytes());
        let Some(message) = spoken(&*self.framed, &Said::Heartbeat(now)) else {
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

    fn received(&self, cx: &mut Cx<'_>, input: &mut [u8]) -> usize {
        let binary = self.framed.dialect().is_binary();
        read_messages(cx, input, &self.params, |cx, message| match message {
            Message::Text(text) if !binary => {
                handle(&self.services, &self.voice, cx, &Incoming::Text(&text));
            }
            Message::Binary(bytes) if binary => {
                handle(&self.services, &self.voice, cx, &Incoming::Binary(&bytes));
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

    fn received(&self, cx: &mut Cx<'_>, input: &mut [u8]) -> usize {
        read_messages(cx, input, &self.params, |cx, message| match message {
            Message::Text(text) => cx.send(self.compression.frame(Opcode::Text, text.as_bytes())),
            Message::Binary(data) => cx.send(self.compression.frame(Opcode::Binary, &data)),
            Message::Ping(_) | Message::Pong(_) | Message::Close(..) => {}
        })
    }
}

/// Takes frames from the front of `input`; answers pings and closes itself. Stops when the
/// connection is paused. Answers how many bytes are done with.
fn read_messages(
    cx: &mut Cx<'_>,
    input: &mut [u8],
    params: &Params,
    mut handle: impl FnMut(&mut Cx<'_>, Message<'_>),
) -> usize {
    let mut assembly = cx
        .take_state()
        .and_then(|state| state.downcast::<Assembly>().ok());
    let mut done = 0;
    while !cx.is_paused() {
        let Some(rest) = input.get_mut(done..).filter(|rest| !rest.is_empty()) else {
            break;
        };
        let step = INFLATER.with_borrow_mut(|i| frame::decode(&mut assembly, rest, params, i));
        let step = match step {
            Ok(Some(step)) => step,
            Ok(None) => break,
            Err(violation) => {
                cx.close(violation.close, violation.reason);
                return input.len();
            }
        };
        done += step.consumed;
        match step.message {
            Some(Message::Ping(payload)) if cx.take_message().is_ok() => {
                cx.send(frame::pong(payload));
            }
            // A fragment: counted, so that a flood of empty ones ends with 4429. In how many reads
            // a frame comes says nothing of its sender.
            None if is_between_frames(assembly.as_deref()) && cx.take_message().is_err() => {}
            // Or a Ping too many: counted already, and not answered.
            None | Some(Message::Ping(_)) => {}
            // Counted too: nobody has to ask for them.
            Some(Message::Pong(payload)) => {
                if cx.take_message().is_ok()
                    && let Ok(sent) = <[u8; 8]>::try_from(payload)
                {
                    cx.pong(u64::from_be_bytes(sent));
                }
            }
            Some(Message::Close(code, _)) => {
                // The same code comes back (RFC 6455 §5.5.1).
                let last = code.map_or(EMPTY_CLOSE, |code| frame::close(code, ""));
                cx.end(CloseCode::Normal, last);
                return input.len();
            }
            Some(message) => handle(cx, message),
        }
    }
    cx.keep_state(assembly.map(|assembly| -> Box<dyn Any + Send> { assembly }));
    done
}

/// True where a fragment has come whole and the next has not begun.
fn is_between_frames(assembly: Option<&Assembly>) -> bool {
    assembly.is_some_and(Assembly::is_between_frames)
}
