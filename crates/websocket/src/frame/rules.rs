//! The rules of RFC 6455 and RFC 7692 that a sequence of frames can violate, one by one.

use super::*;
use crate::deflate::Inflater;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const PLAIN: Params = Params {
    message_bytes: 1000,
    deflate: None,
};
const DEFLATE: Params = Params {
    message_bytes: 1000,
    deflate: Some(DeflateParams {
        server_window_bits: 15,
    }),
};

/// A masked frame with this first byte.
fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        short @ 0..=125 => out.push(0x80 | u8::try_from(short).expect("short")),
        medium => {
            out.push(0xFE);
            out.extend(u16::try_from(medium).expect("medium").to_be_bytes());
        }
    }
    out.extend(KEY);
    let start = out.len();
    out.extend(payload);
    unmask(&mut out[start..], KEY);
    out
}

/// Everything in the stream as text, or the first violation.
fn read(mut stream: Vec<u8>, params: &Params) -> Result<Vec<String>, Violation> {
    let (mut assembly, mut inflater) = (None, Inflater::new());
    let mut messages = Vec::new();
    let mut buf = &mut stream[..];
    while let Some(Step { consumed, message }) = decode(&mut assembly, buf, params, &mut inflater)?
    {
        messages.extend(message.map(|message| format!("{message:?}")));
        buf = &mut buf[consumed..];
    }
    Ok(messages)
}

fn refused(frames: &[Vec<u8>], params: &Params) -> (CloseCode, &'static str) {
    let violation = read(frames.concat(), params).expect_err("a violation");
    (violation.close, violation.reason)
}

#[test]
fn the_rfc_examples_are_decoded() {
    let hello = vec![
        0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    assert_eq!(read(hello, &PLAIN), Ok(vec!["Text(\"Hello\")".to_owned()]));
    let pong = vec![
        0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    assert_eq!(
        read(pong, &PLAIN),
        Ok(vec![format!("Pong({:?})", b"Hello")])
    );
    let fragments = [client(0x01, b"Hel"), client(FIN, b"lo")].concat();
    assert_eq!(
        read(fragments, &PLAIN),
        Ok(vec!["Text(\"Hello\")".to_owned()])
    );
}

#[test]
fn the_compressed_examples_of_rfc_7692_are_inflated() {
    let whole = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let stored = [
        0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
    ];
    let bfinal = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let two_blocks = [
        0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
    ];
    for payload in [&whole[..], &stored, &bfinal, &two_blocks] {
        let frame = client(FIN | RSV1 | 0x1, payload);
        assert_eq!(
            read(frame, &DEFLATE),
            Ok(vec!["Text(\"Hello\")".to_owned()]),
            "{payload:x?}"
        );
    }
    let fragments = [client(RSV1 | 0x1, &whole[..3]), client(FIN, &whole[3..])].concat();
    assert_eq!(
        read(fragments, &DEFLATE),
        Ok(vec!["Text(\"Hello\")".to_owned()])
    );
}

#[test]
fn complete_message_is_borrowed_without_state() {
    let (mut assembly, mut inflater) = (None, Inflater::new());
    let mut stream = client(FIN | 0x1, b"Hello");
    let step = decode(&mut assembly, &mut stream, &PLAIN, &mut inflater).expect("valid");
    let message = step.and_then(|step| step.message);
    assert!(
        matches!(message, Some(Message::Text(Cow::Borrowed("Hello")))),
        "{message:?}"
    );
    assert!(assembly.is_none());
    assert_eq!(size_of_val(&assembly), 8);
}

#[test]
fn announced_frame_uses_no_memory_until_received() {
    let params = Params {
        message_bytes: 1 << 30,
        deflate: None,
    };
    let mut stream = [&[0x82, 0xFF, 0, 0, 0, 0, 0x30, 0, 0, 0], &KEY[..], b"abc"].concat();
    let (mut assembly, mut inflater) = (None, Inflater::new());
    let step = decode(&mut assembly, &mut stream, &params, &mut inflater).expect("valid");
    assert_eq!(
        step,
        Some(Step {
            consumed: 17,
            message: None
        })
    );
    let held = assembly.expect("begun").held();
    assert!(held <= 64 * 1024, "{held} bytes for 3");
}

#[test]
fn rsv1_is_only_for_the_first_frame_of_a_data_message_and_only_when_agreed() {
    let reserved = (CloseCode::Protocol, "reserved bit set");
    assert_eq!(refused(&[client(FIN | RSV1 | 0x1, b"x")], &PLAIN), reserved);
    let later = [client(0x1, b"a"), client(FIN | RSV1, b"b")];
    assert_eq!(refused(&later, &DEFLATE), reserved);
    assert_eq!(
        refused(&[client(FIN | RSV1 | 0x9, b"x")], &DEFLATE),
        reserved
    );
}

#[test]
fn fragments_come_in_order() {
    let nothing = (CloseCode::Protocol, "continuation of nothing");
    assert_eq!(refused(&[client(FIN, b"x")], &PLAIN), nothing);
    assert_eq!(refused(&[client(0x0, b"x")], &PLAIN), nothing);
    let again = [client(0x1, b"a"), client(FIN, b"b"), client(FIN, b"c")];
    assert_eq!(refused(&again, &PLAIN), nothing);
    let inside = (CloseCode::Protocol, "message inside another message");
    assert_eq!(
        refused(&[client(0x1, b"a"), client(FIN | 0x1, b"b")], &PLAIN),
        inside
    );
    assert_eq!(
        refused(&[client(0x1, b""), client(0x2, b"b")], &PLAIN),
        inside
    );
}

#[test]
fn size_limit_applies_to_frames_and_fragment_sums() {
    let too_big = (CloseCode::TooBig, "message too big");
    assert!(read(client(FIN | 0x2, &[0; 1000]), &PLAIN).is_ok());
    assert_eq!(refused(&[client(FIN | 0x2, &[0; 1001])], &PLAIN), too_big);
    let header_alone = client(FIN | 0x2, &[0; 1001])[..8].to_vec();
    assert_eq!(refused(&[header_alone], &PLAIN), too_big);
    assert!(
        read(
            [client(0x2, &[0; 600]), client(FIN, &[0; 400])].concat(),
            &PLAIN
        )
        .is_ok()
    );
    let sum_header = client(FIN, &[0; 401])[..8].to_vec();
    assert_eq!(
        refused(&[client(0x2, &[0; 600]), sum_header], &PLAIN),
        too_big
    );
    let huge = [&[0x82, 0xFF][..], &(u64::MAX >> 1).to_be_bytes(), &KEY].concat();
    assert_eq!(
        refused(&[client(0x2, b"a"), [&[0x80], &huge[1..]].concat()], &PLAIN),
        too_big
    );
    assert_eq!(refused(&[huge], &PLAIN), too_big);
}

#[test]
fn size_limit_applies_after_inflating() {
    let mut deflater = crate::deflate::Deflater::new();
    let mut compressed = |length| {
        let frame = deflater
            .compress(Opcode::Binary, &vec![7; length], 15)
            .expect("smaller");
        frame[2..].to_vec()
    };
    let fits = client(FIN | RSV1 | 0x2, &compressed(1000));
    assert_eq!(
        read(fits, &DEFLATE),
        Ok(vec![format!("Binary({:?})", [7; 1000])])
    );
    let bomb = compressed(1001);
    let too_big = (CloseCode::TooBig, "message too big");
    assert_eq!(
        refused(&[client(FIN | RSV1 | 0x2, &bomb)], &DEFLATE),
        too_big
    );
    let halves = [client(RSV1 | 0x2, &bomb[..4]), client(FIN, &bomb[4..])];
    assert_eq!(refused(&halves, &DEFLATE), too_big);
}

#[test]
fn text_must_be_utf8_and_is_refused_at_its_first_wrong_byte() {
    let not_utf8 = (CloseCode::InvalidPayload, "text is not UTF-8");
    for wrong in [
        &b"a\xFF"[..],
        b"\xC0\xAF",
        b"\xED\xA0\x80",
        b"\xF4\x90\x80\x80",
        b"\xE2\x82",
    ] {
        assert_eq!(
            refused(&[client(FIN | 0x1, wrong)], &PLAIN),
            not_utf8,
            "{wrong:x?}"
        );
        let (front, back) = wrong.split_at(wrong.len() - 1);
        let fragments = [client(0x1, front), client(FIN, back)];
        assert_eq!(
            refused(&fragments, &PLAIN),
            not_utf8,
            "{wrong:x?} in fragments"
        );
    }
    // The message isn't complete, and neither is the frame.
    assert_eq!(refused(&[client(0x1, b"ok\xF4\x90")], &PLAIN), not_utf8);
    assert_eq!(
        refused(&[client(0x1, b"ok\xF4"), client(0, b"\x90")], &PLAIN),
        not_utf8
    );
    let partial = client(FIN | 0x1, b"ok\xF4\x90-and-more")[..10].to_vec();
    assert_eq!(refused(&[partial], &PLAIN), not_utf8);
    // A text cut inside a character is still valid.
    let euro = "1 €".as_bytes();
    let fragments = [
        client(0x1, &euro[..3]),
        client(0, &euro[3..4]),
        client(FIN, &euro[4..]),
    ];
    assert_eq!(
        read(fragments.concat(), &PLAIN),
        Ok(vec!["Text(\"1 €\")".to_owned()])
    );
    assert!(
        read(client(FIN | 0x2, b"\xFF"), &PLAIN).is_ok(),
        "binary may be anything"
    );
}

#[test]
fn compressed_text_must_be_a_deflate_stream_of_utf8() {
    let damaged = (CloseCode::InvalidPayload, "compressed message is damaged");
    assert_eq!(
        refused(&[client(FIN | RSV1 | 0x1, &[0xFF; 8])], &DEFLATE),
        damaged
    );
    // "ÿ" in Latin-1, stored.
    let latin1 = [0x00, 0x01, 0x00, 0xfe, 0xff, 0xff, 0x00];
    let not_utf8 = (CloseCode::InvalidPayload, "text is not UTF-8");
    assert_eq!(
        refused(&[client(FIN | RSV1 | 0x1, &latin1)], &DEFLATE),
        not_utf8
    );
}

#[test]
fn close_codes_that_may_not_be_sent_are_refused() {
    let close = |code: u16| client(FIN | 0x8, &code.to_be_bytes());
    let wrong = (CloseCode::Protocol, "close code may not be sent");
    for code in [
        0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        assert_eq!(refused(&[close(code)], &PLAIN), wrong, "{code}");
    }
    for code in [
        1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999,
    ] {
        assert_eq!(
            read(close(code), &PLAIN),
            Ok(vec![format!("Close(Some({code}), \"\")")])
        );
    }
}

#[test]
fn a_close_frame_is_empty_or_has_a_code_and_a_utf8_reason() {
    let one = (CloseCode::Protocol, "close frame of one byte");
    assert_eq!(refused(&[client(FIN | 0x8, b"\x03")], &PLAIN), one);
    let not_utf8 = (CloseCode::InvalidPayload, "text is not UTF-8");
    assert_eq!(
        refused(&[client(FIN | 0x8, b"\x03\xE8\xFF")], &PLAIN),
        not_utf8
    );
    let empty = read(client(FIN | 0x8, b""), &PLAIN);
    assert_eq!(empty, Ok(vec!["Close(None, \"\")".to_owned()]));
}
