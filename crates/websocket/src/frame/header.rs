//! The header of a client's frame, and the rules that apply to a single header.

use super::{MAX_CONTROL_PAYLOAD, Opcode, Violation};

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_RSV3: u8 = 0x30;
const MASKED: u8 = 0x80;

/// A client frame's header, with all checks that don't depend on earlier frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// True for the last frame of a message.
    pub(super) fin: bool,
    /// Compressed, if permessage-deflate was negotiated (RFC 7692 §6).
    pub(super) rsv1: bool,
    pub(super) opcode: Opcode,
    pub(super) key: [u8; 4],
    /// The payload's length in bytes.
    pub(super) payload: u64,
    /// The header's own length in bytes: 6, 8 or 14.
    pub(super) size: usize,
}

/// Parses the header at the front of `buf`; `None` if it is incomplete.
pub(super) fn parse(buf: &[u8]) -> Result<Option<Header>, Violation> {
    let [first, second, rest @ ..] = buf else {
        return Ok(None);
    };
    let Some(opcode) = Opcode::from_bits(first & 0x0F) else {
        return Err(Violation::protocol("reserved opcode"));
    };
    let fin = first & FIN != 0;
    let rsv1 = first & RSV1 != 0;
    if first & RSV2_RSV3 != 0 {
        return Err(Violation::protocol("reserved bit set"));
    }
    if second & MASKED == 0 {
        return Err(Violation::protocol("client frame is not masked"));
    }
    let short = second & !MASKED;
    if opcode.is_control() {
        check_control(fin, rsv1, short)?;
    }
    let Some((payload, after)) = parse_length(short, rest)? else {
        return Ok(None);
    };
    let Some(key) = after.first_chunk::<4>() else {
        return Ok(None);
    };
    let size = buf.len() - after.len() + key.len();
    Ok(Some(Header {
        fin,
        rsv1,
        opcode,
        key: *key,
        payload,
        size,
    }))
}

fn check_control(fin: bool, rsv1: bool, short: u8) -> Result<(), Violation> {
    if !fin {
        return Err(Violation::protocol("control frame is fragmented"));
    }
    if rsv1 {
        return Err(Violation::protocol("reserved bit set"));
    }
    if usize::from(short) > MAX_CONTROL_PAYLOAD {
        return Err(Violation::protocol("control frame over 125 bytes"));
    }
    Ok(())
}

/// The payload's length and the bytes after it. The length must use the shortest encoding, and the
/// top bit of eight bytes must be 0 (RFC 6455 §5.2).
pub(crate) fn parse_length(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, Violation> {
    let (length, after, smallest) = match short {
        126 => {
            let Some((bytes, after)) = rest.split_first_chunk::<2>() else {
                return Ok(None);
            };
            (u64::from(u16::from_be_bytes(*bytes)), after, 126)
        }
        127 => {
            let Some((bytes, after)) = rest.split_first_chunk::<8>() else {
                return Ok(None);
            };
            (u64::from_be_bytes(*bytes), after, 0x1_0000)
        }
        length => (u64::from(length), rest, 0),
    };
    if length >> 63 != 0 {
        return Err(Violation::protocol("frame length over 63 bits"));
    }
    if length < smallest {
        return Err(Violation::protocol("frame length not in its shortest form"));
    }
    Ok(Some((length, after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [1, 2, 3, 4];

    fn refused(bytes: &[u8]) -> &'static str {
        parse(bytes).expect_err("a violation").reason
    }

    #[test]
    fn header_is_parsed_once_complete() {
        for (bytes, payload) in [
            (&[0x82, 0x85, 1, 2, 3, 4][..], 5),
            (&[0x82, 0xFE, 0x01, 0x00, 1, 2, 3, 4], 256),
            (&[0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4], 65_536),
        ] {
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]), Ok(None), "{cut} of {bytes:?}");
            }
            let header = parse(bytes).expect("valid").expect("complete");
            let wanted = Header {
                fin: true,
                rsv1: false,
                opcode: Opcode::Binary,
                key: KEY,
                payload,
                size: bytes.len(),
            };
            assert_eq!(header, wanted);
        }
    }

    #[test]
    fn reserved_opcodes_and_bits_are_refused() {
        for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
            assert_eq!(refused(&[0x80 | opcode, 0x80]), "reserved opcode");
        }
        for bits in [0x10, 0x20, 0x30] {
            assert_eq!(refused(&[0x81 | bits, 0x80]), "reserved bit set");
        }
    }

    #[test]
    fn unmasked_frame_is_refused() {
        assert_eq!(refused(&[0x81, 0x05]), "client frame is not masked");
    }

    #[test]
    fn control_frame_rules_are_enforced() {
        for opcode in [0x8, 0x9, 0xA] {
            assert_eq!(refused(&[opcode, 0x80]), "control frame is fragmented");
            assert_eq!(refused(&[0xC0 | opcode, 0x80]), "reserved bit set");
            assert_eq!(
                refused(&[0x80 | opcode, 0xFE]),
                "control frame over 125 bytes"
            );
            assert_eq!(parse(&[0x80 | opcode, 0xFD]), Ok(None));
        }
    }

    #[test]
    fn length_requires_shortest_form() {
        let wide = |length: u64| [&[0x82, 0xFF][..], &length.to_be_bytes(), &KEY].concat();
        assert_eq!(
            refused(&[0x82, 0xFE, 0, 125]),
            "frame length not in its shortest form"
        );
        assert_eq!(
            refused(&wide(65_535)),
            "frame length not in its shortest form"
        );
        assert_eq!(refused(&wide(1 << 63)), "frame length over 63 bits");
        assert!(parse(&wide((1 << 63) - 1)).expect("valid").is_some());
    }
}
