//! Encodes the server's frames: whole, unmasked, each in one allocation of its exact size.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{MAX_CONTROL_PAYLOAD, Opcode};

/// The space that [`reserve`] leaves for a header: the longest header of a server frame, in bytes.
pub const HEADER_SPACE: usize = 10;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;

/// The length of a server frame's header, in bytes, for a payload of `payload` bytes.
#[must_use]
pub const fn header_len(payload: usize) -> usize {
    match payload {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    }
}

/// Writes the header of an unfragmented server frame: [`header_len`] bytes. `compressed` sets RSV1
/// (RFC 7692 §6).
///
/// # Panics
///
/// If `out` has no capacity for the header, as any [`BufMut`].
pub fn write_header(out: &mut impl BufMut, opcode: Opcode, compressed: bool, payload: usize) {
    out.put_u8(FIN | if compressed { RSV1 } else { 0 } | opcode.bits());
    write_length(out, 0, payload);
}

/// Writes a payload's length in its shortest form, and the bit that says whether it is masked.
pub(crate) fn write_length(out: &mut impl BufMut, masked: u8, payload: usize) {
    match (
        u8::try_from(payload),
        u16::try_from(payload),
        u64::try_from(payload),
    ) {
        (Ok(short @ 0..=125), ..) => out.put_u8(masked | short),
        (_, Ok(medium), _) => {
            out.put_u8(masked | 126);
            out.put_u16(medium);
        }
        (_, _, long) => {
            out.put_u8(masked | 127);
            // A slice's length always fits into 63 bits.
            out.put_u64(long.unwrap_or(u64::MAX));
        }
    }
}

/// A text frame. The payload must be UTF-8.
#[must_use]
pub fn text(payload: &[u8]) -> Bytes {
    frame(Opcode::Text, false, payload)
}

/// A binary frame.
#[must_use]
pub fn binary(payload: &[u8]) -> Bytes {
    frame(Opcode::Binary, false, payload)
}

/// A ping. A payload over 125 bytes is cut.
#[must_use]
pub fn ping(payload: &[u8]) -> Bytes {
    frame(Opcode::Ping, false, cut(payload))
}

/// The answer to a ping with this payload. A payload over 125 bytes is cut.
#[must_use]
pub fn pong(payload: &[u8]) -> Bytes {
    frame(Opcode::Pong, false, cut(payload))
}

/// A close frame. A reason over 123 bytes is cut at a character boundary.
#[must_use]
pub fn close(code: u16, reason: &str) -> Bytes {
    let reason = &reason[..reason.floor_char_boundary(MAX_CONTROL_PAYLOAD - 2)];
    let payload = 2 + reason.len();
    let mut out = BytesMut::with_capacity(header_len(payload) + payload);
    write_header(&mut out, Opcode::Close, false, payload);
    out.put_u16(code);
    out.put_slice(reason.as_bytes());
    out.freeze()
}

/// A whole frame around an existing payload.
#[must_use]
pub fn frame(opcode: Opcode, compressed: bool, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(header_len(payload.len()) + payload.len());
    write_header(&mut out, opcode, compressed, payload.len());
    out.put_slice(payload);
    out.freeze()
}

/// A buffer with space for a header and then `payload` bytes. Append the payload and pass the
/// buffer to [`seal`]: a payload whose length is known only at its end is then never copied.
#[must_use]
pub fn reserve(payload: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(HEADER_SPACE + payload);
    out.put_bytes(0, HEADER_SPACE);
    out
}

/// Turns a buffer from [`reserve`], with its payload appended, into a frame. The space not used by
/// the header and the payload stays allocated as long as the frame exists.
#[must_use]
pub fn seal(mut buffer: BytesMut, opcode: Opcode) -> Bytes {
    let payload = buffer.len().saturating_sub(HEADER_SPACE);
    buffer.advance((HEADER_SPACE - header_len(payload)).min(buffer.len()));
    if let Some(mut header) = buffer.get_mut(..header_len(payload)) {
        write_header(&mut header, opcode, false, payload);
    }
    buffer.freeze()
}

fn cut(payload: &[u8]) -> &[u8] {
    payload.get(..MAX_CONTROL_PAYLOAD).unwrap_or(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_examples_are_encoded() {
        assert_eq!(
            &text(b"Hello")[..],
            [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]
        );
        assert_eq!(
            &ping(b"Hello")[..],
            [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]
        );
        assert_eq!(
            &pong(b"Hello")[..],
            [0x8a, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]
        );
        assert_eq!(&binary(&[7; 256])[..4], [0x82, 0x7E, 0x01, 0x00]);
        assert_eq!(
            &binary(&vec![7; 65_536])[..10],
            [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }

    #[test]
    fn every_length_form_has_its_header() {
        for (payload, header) in [
            (0, 2),
            (125, 2),
            (126, 4),
            (65_535, 4),
            (65_536, 10),
            (1_000_000, 10),
        ] {
            assert_eq!(header_len(payload), header);
            let mut out = Vec::new();
            write_header(&mut out, Opcode::Text, true, payload);
            assert_eq!(out.len(), header);
            assert_eq!(out[0], 0xC1);
            assert_eq!(text(&vec![b'x'; payload]).len(), header + payload);
        }
    }

    #[test]
    fn sealed_buffer_equals_copied_frame() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let mut buffer = reserve(4);
            buffer.put_slice(&payload);
            assert_eq!(seal(buffer, Opcode::Text), text(&payload), "{length} bytes");
        }
    }

    #[test]
    fn long_close_reason_is_cut_at_character() {
        assert_eq!(&close(1000, "")[..], [0x88, 2, 0x03, 0xE8]);
        assert_eq!(&close(4401, "no")[..], [0x88, 4, 0x11, 0x31, b'n', b'o']);
        let frame = close(1001, &"é".repeat(100));
        assert_eq!(frame.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
        assert_eq!(close(1001, &"x".repeat(500)).len(), 2 + 125);
    }

    #[test]
    fn ping_payload_is_limited_to_125_bytes() {
        assert_eq!(ping(&[1; 200]).len(), 2 + 125);
    }
}
