//! Reads WebSocket messages from the bytes of a connection.

use std::cell::RefCell;

use bytes::Bytes;

use crate::error::CloseCode;
use crate::hub::ConnCtx;
use tidings_websocket::deflate::Inflater;
use tidings_websocket::frame::{self, Assembly, Message, Params, Step, Violation};

/// The reply to a close frame without a code.
const EMPTY_CLOSE: Bytes = Bytes::from_static(&[0x88, 0]);

thread_local! {
    // One per thread, not per connection: no state survives a message (no context takeover).
    static INFLATER: RefCell<Inflater> = RefCell::default();
}

/// [`frame::decode`] with the thread's own inflater.
///
/// # Errors
/// The rule of RFC 6455 or RFC 7692 that the client broke.
pub fn decode<'b>(
    assembly: &mut Option<Box<Assembly>>,
    buffer: &'b mut [u8],
    params: &Params,
) -> Result<Option<Step<'b>>, Violation> {
    INFLATER.with_borrow_mut(|inflater| frame::decode(assembly, buffer, params, inflater))
}

/// Reads frames from the front of `input` and returns how many bytes it consumed. Pings and closes are
/// answered here. Stops when the connection is paused.
pub fn read_messages(
    cx: &mut ConnCtx<'_>,
    input: &mut [u8],
    params: &Params,
    assembly: &mut Option<Box<Assembly>>,
    mut handle: impl FnMut(&mut ConnCtx<'_>, Message<'_>),
) -> usize {
    let mut done = 0;
    while !cx.is_paused() {
        let Some(rest) = input.get_mut(done..).filter(|rest| !rest.is_empty()) else {
            break;
        };
        let step = match decode(assembly, rest, params) {
            Ok(Some(step)) => step,
            Ok(None) => break,
            Err(violation) => {
                cx.close(violation.close.into(), violation.reason);
                return input.len();
            }
        };
        done += step.consumed;
        match step.message {
            Some(Message::Ping(payload)) if cx.take_message().is_ok() => {
                cx.send(frame::pong(payload));
            }
            // A fragment counts as a message, so that a flood of empty ones is closed with 4429. An
            // incomplete frame does not: the sender has no part in how reads split it.
            None if is_between_frames(assembly.as_deref()) && cx.take_message().is_err() => {}
            // Or a Ping above the rate: it is counted, and not answered.
            None | Some(Message::Ping(_)) => {}
            // Counted too: clients may send unsolicited ones.
            Some(Message::Pong(payload)) => {
                if cx.take_message().is_ok()
                    && let Ok(sent) = <[u8; 8]>::try_from(payload)
                {
                    cx.pong(u64::from_be_bytes(sent));
                }
            }
            Some(Message::Close(code, _)) => {
                // The reply has the same code (RFC 6455 §5.5.1).
                let last = code.map_or(EMPTY_CLOSE, |code| frame::close(code, ""));
                cx.end(CloseCode::Normal, last);
                return input.len();
            }
            Some(message) => handle(cx, message),
        }
    }
    done
}

/// Whether a fragment is complete and the next has not begun.
fn is_between_frames(assembly: Option<&Assembly>) -> bool {
    assembly.is_some_and(Assembly::is_between_frames)
}
