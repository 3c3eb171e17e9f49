//! The dialects of the WebSocket, as the bus sees them.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;

use super::cloud_events::cloud_event;
use super::deflate::{DeflateParams, Deflater, Inflater};
use super::frame::{self, Assembly, Message, Opcode, Params};
use super::{commands, messages};
use crate::bus::{Cx, DialectId, Notice, Protocol};
use crate::error::CloseCode;
use crate::event::{Event, Timestamp};
use crate::session::Services;
use crate::telemetry::Transport;

/// Payloads below this many bytes are not worth compressing.
const WORTH_COMPRESSING: usize = 96;
/// The window that frames for all clients are made with.
const FULL_WINDOW: u8 = 15;
/// The answer to a close frame without a code.
const EMPTY_CLOSE: Bytes = Bytes::from_static(&[0x88, 0]);

thread_local! {
    // One of each for all connections of a shard: no message leaves anything behind in them.
    static INFLATER: RefCell<Inflater> = RefCell::default();
    static DEFLATER: RefCell<Deflater> = RefCell::default();
}

/// What was agreed about compression, as far as frames differ for it. Each is a dialect of its
/// own to the bus, so that a compressed frame is made once and shared too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// None.
    Off,
    /// permessage-deflate with the full window.
    Full,
    /// permessage-deflate with a window of 512 bytes or more: what is longer goes uncompressed.
    Small,
}

impl Compression {
    /// What a client and the server have agreed.
    #[must_use]
    pub(super) fn of(params: Option<DeflateParams>) -> Self {
        match params {
            None => Compression::Off,
            Some(params) if params.server_window_bits == FULL_WINDOW => Compression::Full,
            Some(_) => Compression::Small,
        }
    }

    fn params(self) -> Option<DeflateParams> {
        match self {
            Compression::Off => None,
            Compression::Full => Some(DeflateParams {
                server_window_bits: FULL_WINDOW,
            }),
            Compression::Small => Some(DeflateParams {
                server_window_bits: 9,
            }),
        }
    }

    /// The message as one frame, compressed where that is agreed and pays.
    fn frame(self, opcode: Opcode, payload: &[u8]) -> Bytes {
        let plain = || {
            if opcode == Opcode::Binary {
                frame::binary(payload)
            } else {
                frame::text(payload)
            }
        };
        let Some(params) = self.params() else {
            return plain();
        };
        if payload.len() < WORTH_COMPRESSING || params.window_for(payload.len()) != FULL_WINDOW {
            return plain();
        }
        let compressed = DEFLATER.with_borrow_mut(|d| d.compress(opcode, payload, FULL_WINDOW));
        compressed.unwrap_or_else(plain)
    }
}

/// How events are written; everything else is said alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Envelope {
    /// The dialect's own.
    Tidings,
    /// `CloudEvents`.
    CloudEvents,
}

/// The dialect `tidings`.
pub(super) struct Tidings {
    services: Arc<Services>,
    envelope: Envelope,
    compression: Compression,
    params: Params,
}

impl Tidings {
    /// The dialect with messages of at most so many bytes.
    #[must_use]
    pub(super) fn new(
        services: Arc<Services>,
        envelope: Envelope,
        compression: Compression,
        message_bytes: usize,
    ) -> Self {
        Tidings {
            services,
            envelope,
            compression,
            params: Params {
                message_bytes,
                deflate: compression.params(),
            },
        }
    }
}

impl Protocol for Tidings {
    fn transport(&self) -> Transport {
        Transport::WebSocket
    }

    fn dialect(&self) -> DialectId {
        DialectId::new(match (self.envelope, self.compression) {
            (Envelope::Tidings, Compression::Off) => 0,
            (Envelope::Tidings, Compression::Full) => 2,
            (Envelope::Tidings, Compression::Small) => 3,
            (Envelope::CloudEvents, Compression::Full) => 6,
            // Most events do not fit a small window anyway: one frame serves both.
            (Envelope::CloudEvents, Compression::Off | Compression::Small) => 5,
        })
    }

    fn event(&self, event: &Event) -> Bytes {
        let packed = |json: &[u8]| self.compression.frame(Opcode::Text, json);
        match (self.envelope, self.compression) {
            (Envelope::Tidings, Compression::Off) => messages::event_frame(event),
            (Envelope::Tidings, _) => packed(&messages::event_json(event)),
            (Envelope::CloudEvents, Compression::Full) => packed(&cloud_event(event)),
            (Envelope::CloudEvents, _) => frame::text(&cloud_event(event)),
        }
    }

    fn event_to_confirm(&self, event: &Event) -> Option<Bytes> {
        (self.envelope == Envelope::Tidings).then(|| {
            let json = messages::event_to_confirm(event);
            self.compression.frame(Opcode::Text, &json)
        })
    }

    fn notice(&self, notice: &Notice<'_>) -> Option<Bytes> {
        Some(messages::notice(notice))
    }

    fn heartbeat(&self, now: Timestamp) -> Bytes {
        messages::heartbeat(now, self.services.hub.clock_us())
    }

    fn close(&self, code: CloseCode, reason: &str) -> Bytes {
        frame::close(code.number(), reason)
    }

    fn received(&self, cx: &mut Cx<'_>, input: &mut [u8]) -> usize {
        read_messages(cx, input, &self.params, |cx, message| match message {
            Message::Text(text) => commands::handle(&self.services, cx, &text),
            Message::Binary(_) => commands::refuse_binary(cx),
            Message::Ping(_) | Message::Pong(_) | Message::Close(..) => {}
        })
    }
}

/// A dialect for conformance suites: every message comes back as it went; the bus is not touched.
pub(super) struct Echo {
    services: Arc<Services>,
    compression: Compression,
    params: Params,
}

impl Echo {
    /// The dialect with messages of at most so many bytes.
    #[must_use]
    pub(super) fn new(
        services: Arc<Services>,
        compression: Compression,
        message_bytes: usize,
    ) -> Self {
        Echo {
            services,
            compression,
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
        DialectId::new(7)
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
