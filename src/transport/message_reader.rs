//! A connection's frames, as its shard has read them.

use std::cell::RefCell;

use bytes::Bytes;

use crate::error::CloseCode;
use crate::hub::ConnCtx;
use tidings_websocket::deflate::Inflater;
use tidings_websocket::frame::{self, Assembly, Message, Params, Step, Violation};

/// The answer to a close frame without a code.
const EMPTY_CLOSE: Bytes = Bytes::from_static(&[0x88, 0]);

thread_local! {
    // One for all connections of a thread: no message leaves anything behind in it.
    static INFLATER: RefCell<Inflater> = RefCell::default();
}

/// Takes one step at the front of a buffer: [`frame::decode`] with the thread's own inflater.
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

/// Takes frames from the front of `input`; answers pings and closes itself. Stops when the
/// connection is paused. Answers how many bytes are done with.
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
    done
}

/// True where a fragment has come whole and the next has not begun.
fn is_between_frames(assembly: Option<&Assembly>) -> bool {
    assembly.is_some_and(Assembly::is_between_frames)
}
