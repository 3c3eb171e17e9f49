//! The client's half of RFC 6455 framing, reduced to the needs of a load generator: frames are
//! split off a buffer by their length, without copying.

use std::fmt;

/// The largest frame that is accepted, in bytes of payload.
pub const MAX_PAYLOAD: usize = 16 << 20;

/// The key with which every frame is masked. RFC 6455 §5.3 requires an unpredictable key so that a
/// page can't write chosen bytes through a proxy; a load generator chooses its own bytes anyway.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The kind of a frame (RFC 6455 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
    /// The end of the connection.
    Close,
    /// Asks for a Pong.
    Ping,
    /// Answers a Ping.
    Pong,
}

impl Opcode {
    const fn bits(self) -> u8 {
        match self {
            Opcode::Text => 1,
            Opcode::Binary => 2,
            Opcode::Close => 8,
            Opcode::Ping => 9,
            Opcode::Pong => 10,
        }
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            1 => Some(Opcode::Text),
            2 => Some(Opcode::Binary),
            8 => Some(Opcode::Close),
            9 => Some(Opcode::Ping),
            10 => Some(Opcode::Pong),
            _ => None,
        }
    }
}

/// What a buffer begins with.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A whole frame, and what follows it.
    Frame {
        /// Its kind.
        opcode: Opcode,
        /// Its payload.
        payload: &'a [u8],
        /// The bytes after it.
        rest: &'a [u8],
    },
    /// An incomplete frame; it ends when the buffer has this many bytes (at least the header).
    Needs(usize),
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
    /// More than [`MAX_PAYLOAD`].
    TooLong,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FrameError::Reserved => "a frame with a reserved bit",
            FrameError::Masked => "a masked frame from the server",
            FrameError::Opcode => "a fragmented message or an unknown opcode",
            FrameError::TooLong => "a frame of more than 16 MiB",
        })
    }
}

impl std::error::Error for FrameError {}

/// Splits the first frame off `input`.
///
/// # Errors
///
/// If the bytes violate RFC 6455 or need a feature that the load generator does not have.
pub fn next(input: &[u8]) -> Result<Next<'_>, FrameError> {
    let [first, second, after @ ..] = input else {
        return Ok(Next::Needs(2));
    };
    if first & 0x70 != 0 {
        return Err(FrameError::Reserved);
    }
    if second & 0x80 != 0 {
        return Err(FrameError::Masked);
    }
    let opcode = Opcode::from_bits(first & 0x0f).filter(|_| first & 0x80 != 0);
    let opcode = opcode.ok_or(FrameError::Opcode)?;
    let (length, header) = match second & 0x7f {
        126 => match after.first_chunk() {
            Some(bytes) => (usize::from(u16::from_be_bytes(*bytes)), 4),
            None => return Ok(Next::Needs(4)),
        },
        127 => match after.first_chunk() {
            Some(bytes) => (
                usize::try_from(u64::from_be_bytes(*bytes)).unwrap_or(usize::MAX),
                10,
            ),
            None => return Ok(Next::Needs(10)),
        },
        short => (usize::from(short), 2),
    };
    if length > MAX_PAYLOAD {
        return Err(FrameError::TooLong);
    }
    match input
        .get(header..)
        .and_then(|body| body.split_at_checked(length))
    {
        Some((payload, rest)) => Ok(Next::Frame {
            opcode,
            payload,
            rest,
        }),
        None => Ok(Next::Needs(header + length)),
    }
}

/// The bytes in front of a server's payload of `length` bytes.
#[must_use]
pub fn server_header(opcode: Opcode, length: usize) -> Vec<u8> {
    header(opcode, length, 0)
}

/// A client's frame: masked, as RFC 6455 §5.1 demands.
#[must_use]
pub fn client_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(opcode, payload.len(), 0x80);
    frame.extend_from_slice(&MASK);
    frame.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

fn header(opcode: Opcode, length: usize, mask_bit: u8) -> Vec<u8> {
    let first = 0x80 | opcode.bits();
    let mut header = Vec::with_capacity(14);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => header.extend_from_slice(&[first, mask_bit | short]),
        (_, Ok(medium)) => {
            header.extend_from_slice(&[first, mask_bit | 0x7e]);
            header.extend_from_slice(&medium.to_be_bytes());
        }
        (_, Err(_)) => {
            header.extend_from_slice(&[first, mask_bit | 0x7f]);
            header.extend_from_slice(&u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut frame = server_header(opcode, payload.len());
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn frames_of_every_length_form_are_split() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 100_000] {
            let payload = vec![b'x'; length];
            let mut input = server_frame(Opcode::Text, &payload);
            input.extend_from_slice(b"rest");
            let Next::Frame {
                opcode,
                payload: found,
                rest,
            } = next(&input).unwrap()
            else {
                panic!("{length}: no frame");
            };
            assert_eq!(
                (opcode, found, rest),
                (Opcode::Text, &*payload, &b"rest"[..])
            );
        }
    }

    #[test]
    fn partial_frame_requests_needed_bytes() {
        for length in [5, 200, 70_000] {
            let frame = server_frame(Opcode::Binary, &vec![1; length]);
            for end in (0..frame.len()).step_by(if length > 1000 { 997 } else { 1 }) {
                let Next::Needs(needed) = next(&frame[..end]).unwrap() else {
                    panic!("{length}: a frame in {end} bytes");
                };
                assert!(
                    needed > end && needed <= frame.len(),
                    "{length}: {end} needs {needed}"
                );
            }
        }
    }

    #[test]
    fn invalid_server_frame_is_refused() {
        assert_eq!(next(&[0xc1, 0]), Err(FrameError::Reserved));
        assert_eq!(next(&[0x81, 0x80]), Err(FrameError::Masked));
        assert_eq!(next(&[0x01, 0]), Err(FrameError::Opcode), "not final");
        assert_eq!(next(&[0x80, 0]), Err(FrameError::Opcode), "a continuation");
        assert_eq!(next(&[0x83, 0]), Err(FrameError::Opcode), "unknown");
        let huge = [0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(next(&huge), Err(FrameError::TooLong));
    }

    #[test]
    fn client_frame_unmasks_to_payload() {
        let frame = client_frame(Opcode::Text, b"hello");
        assert_eq!(frame[..2], [0x81, 0x85]);
        let key: [u8; 4] = frame[2..6].try_into().unwrap();
        let text: Vec<u8> = frame[6..]
            .iter()
            .zip(key.iter().cycle())
            .map(|(b, k)| b ^ k)
            .collect();
        assert_eq!(text, b"hello");
        assert_eq!(client_frame(Opcode::Pong, &[0; 300]).len(), 4 + 4 + 300);
    }
}
