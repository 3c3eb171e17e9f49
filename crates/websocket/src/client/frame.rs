//! A server's frames as a client reads them, and the frames that a client sends.

use std::fmt;

use bytes::BufMut;

use crate::frame::{Opcode, header_len, parse_length, unmask, write_length};

/// The largest frame that is accepted, in bytes of payload.
pub const MAX_PAYLOAD: usize = 16 << 20;

/// The key with which every frame is masked. RFC 6455 §5.3 requires an unpredictable key so that a
/// page can't write chosen bytes through a proxy. A load generator chooses its own bytes anyway.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// A server's frame in the buffer that it was read into.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerFrame<'a> {
    /// Its kind.
    pub opcode: Opcode,
    /// Its payload.
    pub payload: &'a [u8],
    /// The bytes after it.
    pub rest: &'a [u8],
}

/// Why this client does not accept a server's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// A reserved bit is set, though no extension was negotiated (§5.2).
    Reserved,
    /// A server masked its frame (§5.1).
    Masked,
    /// A message in several frames, or an opcode that does not exist.
    Opcode,
    /// The length is not in its shortest form (§5.2).
    Length,
    /// More than [`MAX_PAYLOAD`].
    TooLong,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FrameError::Reserved => "a frame with a reserved bit",
            FrameError::Masked => "a masked frame from the server",
            FrameError::Opcode => "a fragmented message or an unknown opcode",
            FrameError::Length => "a frame whose length is malformed",
            FrameError::TooLong => "a frame of more than 16 MiB",
        })
    }
}

impl std::error::Error for FrameError {}

/// Splits the first frame off `input`, without a copy. `None` if it is incomplete.
///
/// # Errors
///
/// The bytes violate RFC 6455, or need a feature that this client does not have.
pub fn next(input: &[u8]) -> Result<Option<ServerFrame<'_>>, FrameError> {
    let [first, second, after @ ..] = input else {
        return Ok(None);
    };
    if first & RESERVED != 0 {
        return Err(FrameError::Reserved);
    }
    if second & MASKED != 0 {
        return Err(FrameError::Masked);
    }
    let opcode = Opcode::from_bits(first & 0x0F)
        .filter(|opcode| first & FIN != 0 && *opcode != Opcode::Continuation)
        .ok_or(FrameError::Opcode)?;
    let length = parse_length(*second, after).map_err(|_| FrameError::Length)?;
    let Some((length, body)) = length else {
        return Ok(None);
    };
    let length = usize::try_from(length).ok().filter(|n| *n <= MAX_PAYLOAD);
    let length = length.ok_or(FrameError::TooLong)?;
    let whole = body.split_at_checked(length);
    Ok(whole.map(|(payload, rest)| ServerFrame {
        opcode,
        payload,
        rest,
    }))
}

/// A client's frame: masked, as RFC 6455 §5.1 demands.
#[must_use]
pub fn client_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let start = header_len(payload.len()) + MASK.len();
    let mut frame = Vec::with_capacity(start + payload.len());
    frame.put_u8(FIN | opcode.bits());
    write_length(&mut frame, MASKED, payload.len());
    frame.put_slice(&MASK);
    frame.put_slice(payload);
    unmask(frame.get_mut(start..).unwrap_or_default(), MASK);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::frame as server_frame;

    #[test]
    fn frames_of_every_length_form_are_split() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 100_000] {
            let payload = vec![b'x'; length];
            let mut input = server_frame(Opcode::Text, false, &payload).to_vec();
            input.extend_from_slice(b"rest");
            let expected = ServerFrame {
                opcode: Opcode::Text,
                payload: &payload,
                rest: b"rest",
            };
            assert_eq!(next(&input), Ok(Some(expected)), "{length}");
        }
    }

    #[test]
    fn frame_that_is_cut_anywhere_is_incomplete() {
        for length in [5, 200, 70_000] {
            let frame = server_frame(Opcode::Binary, false, &vec![1; length]);
            for end in (0..frame.len()).step_by(if length > 1000 { 997 } else { 1 }) {
                assert_eq!(next(&frame[..end]), Ok(None), "{end} of {length}");
            }
        }
    }

    #[test]
    fn forbidden_server_frames_are_refused() {
        assert_eq!(next(&[0xc1, 0]), Err(FrameError::Reserved));
        assert_eq!(next(&[0x81, 0x80]), Err(FrameError::Masked));
        assert_eq!(next(&[0x01, 0]), Err(FrameError::Opcode), "not final");
        assert_eq!(next(&[0x80, 0]), Err(FrameError::Opcode), "a continuation");
        assert_eq!(next(&[0x83, 0]), Err(FrameError::Opcode), "unknown");
        assert_eq!(next(&[0x82, 126, 0, 9]), Err(FrameError::Length));
        let huge = [0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(next(&huge), Err(FrameError::TooLong));
    }

    #[test]
    fn client_frame_unmasks_to_its_payload() {
        let frame = client_frame(Opcode::Text, b"hello");
        assert_eq!(frame[..2], [0x81, 0x85]);
        let key: [u8; 4] = frame[2..6].try_into().unwrap();
        let mut text = frame[6..].to_vec();
        unmask(&mut text, key);
        assert_eq!(text, b"hello");
        assert_eq!(client_frame(Opcode::Pong, &[0; 300]).len(), 4 + 4 + 300);
    }
}
