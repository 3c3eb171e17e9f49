//! Properties that hold for any stream and any division of it into reads.

use std::borrow::Cow;

use proptest::prelude::*;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

use super::*;
use crate::deflate::{Deflater, Inflater};

const PARAMS: Params = Params {
    message_bytes: 4096,
    deflate: Some(DeflateParams {
        server_window_bits: 15,
    }),
};

/// A message that outlives its buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Message<'_>> for Owned {
    fn from(message: Message<'_>) -> Self {
        match message {
            Message::Text(text) => Owned::Text(text.into_owned()),
            Message::Binary(data) => Owned::Binary(data.into_owned()),
            Message::Ping(data) => Owned::Ping(data.to_vec()),
            Message::Pong(data) => Owned::Pong(data.to_vec()),
            Message::Close(code, reason) => Owned::Close(code, reason.to_owned()),
        }
    }
}

/// Reads a stream like a shard: each read is appended to the leftover of the previous one.
fn read(stream: &[u8], cuts: &[usize], params: &Params) -> (Vec<Owned>, Option<Violation>) {
    let (mut assembly, mut inflater) = (None, Inflater::new());
    let (mut messages, mut leftover) = (Vec::new(), Vec::new());
    let mut start = 0;
    for end in cuts.iter().copied().chain([stream.len()]) {
        let mut scratch = std::mem::take(&mut leftover);
        scratch.extend_from_slice(&stream[start..end]);
        start = end;
        let mut buf = &mut scratch[..];
        loop {
            let length = buf.len();
            match decode(&mut assembly, buf, params, &mut inflater) {
                Err(violation) => return (messages, Some(violation)),
                Ok(None) => break,
                Ok(Some(Step { consumed, message })) => {
                    assert!((1..=length).contains(&consumed), "{consumed} of {length}");
                    messages.extend(message.map(Owned::from));
                    buf = &mut buf[consumed..];
                }
            }
        }
        assert!(buf.len() <= MAX_LEFTOVER, "{} bytes left", buf.len());
        leftover = buf.to_vec();
    }
    (messages, None)
}

/// One client frame, encoded by tungstenite.
fn client_frame(opcode: u8, fin: bool, rsv1: bool, key: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        is_final: fin,
        rsv1,
        opcode: OpCode::from(opcode),
        mask: Some(key),
        ..FrameHeader::default()
    };
    let mut out = Vec::new();
    Frame::from_payload(header, payload.to_vec().into())
        .format(&mut out)
        .expect("written to memory");
    out
}

/// A message with the positions of its fragment boundaries, and the pings between them.
#[derive(Debug, Clone)]
struct Sent {
    message: Owned,
    cuts: Vec<usize>,
    key: [u8; 4],
    compressed: bool,
    pings: bool,
}

impl Sent {
    /// Appends its frames, and the messages that a reader must see.
    fn write(&self, stream: &mut Vec<u8>, seen: &mut Vec<Owned>) {
        let (opcode, payload) = match &self.message {
            Owned::Text(text) => (0x1, text.as_bytes()),
            Owned::Binary(data) => (0x2, &data[..]),
            Owned::Ping(data) => return self.control(0x9, data, stream, seen),
            Owned::Pong(data) => return self.control(0xA, data, stream, seen),
            Owned::Close(code, reason) => {
                let code = code.map(u16::to_be_bytes);
                let payload = [
                    code.as_ref().map_or(&[][..], |code| code),
                    reason.as_bytes(),
                ];
                return self.control(0x8, &payload.concat(), stream, seen);
            }
        };
        let (payload, rsv1) = self.payload(opcode, payload);
        let mut ends: Vec<usize> = self
            .cuts
            .iter()
            .map(|cut| cut % (payload.len() + 1))
            .collect();
        ends.sort_unstable();
        ends.push(payload.len());
        let mut start = 0;
        for (index, end) in ends.iter().copied().enumerate() {
            let (first, last) = (index == 0, index + 1 == ends.len());
            let opcode = if first { opcode } else { 0x0 };
            let part = &payload[start..end];
            stream.extend(client_frame(opcode, last, rsv1 && first, self.key, part));
            start = end;
            if self.pings && !last {
                stream.extend(client_frame(0x9, true, false, self.key, b"between"));
                seen.push(Owned::Ping(b"between".to_vec()));
            }
        }
        seen.push(self.message.clone());
    }

    fn control(&self, opcode: u8, payload: &[u8], stream: &mut Vec<u8>, seen: &mut Vec<Owned>) {
        stream.extend(client_frame(opcode, true, false, self.key, payload));
        seen.push(self.message.clone());
    }

    /// The payload on the wire, compressed if requested and smaller.
    fn payload<'p>(&self, opcode: u8, payload: &'p [u8]) -> (Cow<'p, [u8]>, bool) {
        let opcode = Opcode::from_bits(opcode).expect("text or binary");
        let frame = Deflater::new()
            .compress(opcode, payload, 15)
            .filter(|_| self.compressed);
        match frame {
            None => (Cow::Borrowed(payload), false),
            Some(frame) => {
                let header = (2..=4).find(|size| header_len(frame.len() - size) == *size);
                (Cow::Owned(frame[header.expect("short")..].to_vec()), true)
            }
        }
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
    let message = prop_oneof![
        4 => "[a-cäß€😀]{0,200}".prop_map(Owned::Text),
        2 => bytes(400).prop_map(Owned::Binary),
        1 => bytes(126).prop_map(Owned::Ping),
        1 => bytes(126).prop_map(Owned::Pong),
    ];
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..4)
        .prop_map(|cuts| cuts.iter().map(|cut| cut.index(1000)).collect());
    (
        message,
        cuts,
        any::<[u8; 4]>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(message, cuts, key, compressed, pings)| Sent {
            message,
            cuts,
            key,
            compressed,
            pings,
        })
}

fn stream_of(sent: &[Sent]) -> (Vec<u8>, Vec<Owned>) {
    let (mut stream, mut seen) = (Vec::new(), Vec::new());
    for one in sent {
        one.write(&mut stream, &mut seen);
    }
    (stream, seen)
}

fn ordered(cuts: &[prop::sample::Index], stream: &[u8]) -> Vec<usize> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    cuts.sort_unstable();
    cuts
}

proptest! {
    #[test]
    fn stream_split_anywhere_yields_messages(
        sent in prop::collection::vec(sent(), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let (stream, seen) = stream_of(&sent);
        prop_assert_eq!(read(&stream, &ordered(&cuts, &stream), &PARAMS), (seen, None));
    }

    #[test]
    fn stream_byte_by_byte_yields_messages(sent in prop::collection::vec(sent(), 0..3)) {
        let (stream, seen) = stream_of(&sent);
        let everywhere: Vec<usize> = (0..stream.len()).collect();
        prop_assert_eq!(read(&stream, &everywhere, &PARAMS), (seen, None));
    }

    #[test]
    fn random_bytes_decode_alike_for_any_split(
        stream in prop::collection::vec(any::<u8>(), 0..600),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let whole = read(&stream, &[], &PARAMS);
        prop_assert_eq!(read(&stream, &ordered(&cuts, &stream), &PARAMS), whole);
    }

    #[test]
    fn damaged_stream_decodes_alike_for_any_split(
        sent in prop::collection::vec(sent(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let (mut stream, _) = stream_of(&sent);
        for (place, byte) in damage {
            *place.get_mut(&mut stream) = byte;
        }
        let whole = read(&stream, &[], &PARAMS);
        prop_assert_eq!(read(&stream, &ordered(&cuts, &stream), &PARAMS), whole);
    }

    #[test]
    fn server_frames_equal_tungstenite_frames(
        payload in prop::collection::vec(any::<u8>(), 0..70_000),
        compressed in any::<bool>(),
    ) {
        let mut expected = Vec::new();
        let header = FrameHeader {
            opcode: OpCode::Data(Data::Binary),
            rsv1: compressed,
            ..FrameHeader::default()
        };
        Frame::from_payload(header, payload.clone().into())
            .format(&mut expected)
            .expect("written to memory");
        prop_assert_eq!(&frame(Opcode::Binary, compressed, &payload)[..], &expected[..]);
    }
}

#[test]
fn close_keeps_its_code_and_reason() {
    let close = Owned::Close(Some(4000), "bye – now".to_owned());
    let sent = Sent {
        message: close.clone(),
        cuts: Vec::new(),
        key: [9, 8, 7, 6],
        compressed: false,
        pings: false,
    };
    let (stream, _) = stream_of(&[sent]);
    for cut in 0..stream.len() {
        assert_eq!(read(&stream, &[cut], &PARAMS), (vec![close.clone()], None));
    }
}
