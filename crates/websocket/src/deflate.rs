//! permessage-deflate (RFC 7692), always without context takeover: every message is compressed
//! independently, so one compressed frame serves every subscriber and no connection keeps a
//! compressor. One [`Inflater`] and one [`Deflater`] serve all connections of a thread.

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::frame::{Opcode, Violation, frame};

/// The end of every flushed block, which is omitted on the wire (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// The largest window, as a power of two.
const MAX_WINDOW_BITS: u8 = 15;

/// The smallest window that zlib supports for raw streams, as a power of two.
pub(super) const MIN_WINDOW_BITS: u8 = 9;

/// The most deflate streams in one message: a final block ends one (RFC 7692 §7.2.3.4). No client
/// sends more than one, and starting another costs the server more than its two bytes cost the
/// sender.
const MAX_STREAMS: usize = 16;

/// A compressor's output buffer is freed after a message that made it larger than this.
const KEPT_BYTES: usize = 256 * 1024;

/// The parameters negotiated with one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeflateParams {
    /// The largest window that the client can inflate, as a power of two: 9 to 15.
    pub server_window_bits: u8,
}

impl DeflateParams {
    /// The window to compress a payload with, for [`Deflater::compress`]. A payload that fits into
    /// the client's window never refers further back than that, so it gets the same frame as for
    /// all other clients; use the result as the key if compressed frames are shared.
    #[must_use]
    pub fn window_for(self, payload: usize) -> u8 {
        if payload <= 1 << self.server_window_bits {
            MAX_WINDOW_BITS
        } else {
            self.server_window_bits
        }
    }
}

/// Inflates messages of any number of connections, one after the other. About 50 KiB.
#[derive(Debug)]
pub struct Inflater {
    stream: Decompress,
}

impl Default for Inflater {
    fn default() -> Self {
        Inflater::new()
    }
}

impl Inflater {
    /// An inflater with the largest window, which can read streams of any smaller window.
    #[must_use]
    pub fn new() -> Self {
        Inflater {
            stream: Decompress::new(false),
        }
    }

    /// Inflates one message's payload (RFC 7692 §7.2.2). Memory stays within about twice `limit`
    /// however much the payload would inflate to.
    ///
    /// # Errors
    ///
    /// Too big if the message is over `limit` bytes; damaged if it is not a deflate stream, or more
    /// than 16 of them.
    pub fn inflate(&mut self, payload: &[u8], limit: usize) -> Result<Vec<u8>, Violation> {
        self.stream.reset(false);
        let mut out = Vec::new();
        let mut streams = MAX_STREAMS;
        self.feed(payload, &mut out, limit, &mut streams)?;
        self.feed(&TAIL, &mut out, limit, &mut streams)?;
        Ok(out)
    }

    /// Inflates a part of a message, which may end this many more streams.
    fn feed(
        &mut self,
        mut input: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
        streams: &mut usize,
    ) -> Result<(), Violation> {
        loop {
            if out.len() == out.capacity() {
                let room = out.len().max(input.len().saturating_mul(4)).max(256);
                // One byte over the limit is enough to detect that it is exceeded.
                out.reserve_exact(
                    room.min(limit.saturating_add(1).saturating_sub(out.len()))
                        .max(1),
                );
            }
            let before = self.stream.total_in();
            let status = self
                .stream
                .decompress_vec(input, out, FlushDecompress::Sync)
                .map_err(|_| Violation::NOT_DEFLATE)?;
            if out.len() > limit {
                return Err(Violation::TOO_BIG);
            }
            let taken = usize::try_from(self.stream.total_in() - before).unwrap_or(usize::MAX);
            input = input.get(taken..).unwrap_or_default();
            match status {
                // A final block: the following bytes are a new stream (RFC 7692 §7.2.3.4).
                Status::StreamEnd => {
                    *streams = streams.checked_sub(1).ok_or(Violation::NOT_DEFLATE)?;
                    self.stream.reset(false);
                }
                // Unused capacity means that all input was consumed.
                Status::Ok | Status::BufError if out.len() < out.capacity() && input.is_empty() => {
                    return Ok(());
                }
                Status::BufError if out.len() < out.capacity() => {
                    return Err(Violation::NOT_DEFLATE);
                }
                Status::Ok | Status::BufError => {}
            }
            if input.is_empty() && status == Status::StreamEnd {
                return Ok(());
            }
        }
    }
}

/// Compresses messages of any number of connections, one after the other. About 300 KiB for each
/// window size in use.
#[derive(Debug, Default)]
pub struct Deflater {
    /// By window bits, from [`MIN_WINDOW_BITS`] to [`MAX_WINDOW_BITS`].
    streams: [Option<Compress>; 7],
    scratch: Vec<u8>,
}

impl Deflater {
    /// A compressor that has allocated nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Deflater::default()
    }

    /// A whole compressed server frame of this opcode (text or binary), in one exact allocation.
    /// `None` if compression saves nothing: send the plain frame. `window_bits` comes from
    /// [`DeflateParams::window_for`].
    pub fn compress(&mut self, opcode: Opcode, payload: &[u8], window_bits: u8) -> Option<Bytes> {
        let index = usize::from(window_bits.checked_sub(MIN_WINDOW_BITS)?);
        let stream = self.streams.get_mut(index)?.get_or_insert_with(|| {
            Compress::new_with_window_bits(Compression::default(), false, window_bits)
        });
        stream.reset();
        self.scratch.clear();
        // Whatever does not fit here would not be smaller than the payload.
        self.scratch.reserve_exact(payload.len() + TAIL.len());
        let flushed = stream.compress_vec(payload, &mut self.scratch, FlushCompress::Sync);
        let framed = self
            .scratch
            .strip_suffix(&TAIL)
            .filter(|short| flushed.is_ok() && short.len() < payload.len())
            .filter(|_| usize::try_from(stream.total_in()) == Ok(payload.len()))
            .map(|short| frame(opcode, true, short));
        if self.scratch.capacity() > KEPT_BYTES {
            self.scratch = Vec::new();
        }
        framed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::CloseCode;
    use crate::frame::header_len;

    /// The compressed payload of a frame that the deflater made.
    fn payload(frame: &[u8]) -> &[u8] {
        assert_eq!(frame[0], 0xC1, "final, RSV1, text");
        let header = [2, 4, 10]
            .into_iter()
            .find(|size| header_len(frame.len() - size) == *size);
        &frame[header.expect("one fits")..]
    }

    /// JSON that repeats itself from far away.
    fn events(count: usize) -> Vec<u8> {
        let events =
            (0..count).map(|n| format!("{{\"type\":\"project.updated\",\"n\":{}}}", n % 977));
        events.collect::<Vec<_>>().join(",").into_bytes()
    }

    #[test]
    fn frame_is_compressed_only_if_smaller() {
        let mut deflater = Deflater::new();
        let json = events(5);
        let frame = deflater.compress(Opcode::Text, &json, 15).expect("smaller");
        assert!(payload(&frame).len() < json.len() / 2);
        assert_eq!(deflater.compress(Opcode::Text, b"", 15), None);
        assert_eq!(deflater.compress(Opcode::Text, b"Hello", 15), None);
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
            .take(5000)
            .collect();
        assert_eq!(deflater.compress(Opcode::Text, &noise, 15), None);
        let again = deflater.compress(Opcode::Text, &json, 15);
        assert_eq!(
            again,
            Some(frame),
            "nothing is carried from one message to the next"
        );
    }

    #[test]
    fn unsupported_window_compresses_nothing() {
        for bits in [0, 8, 16, 255] {
            assert_eq!(
                Deflater::new().compress(Opcode::Text, &events(50), bits),
                None
            );
        }
    }

    #[test]
    fn small_window_client_can_inflate() {
        let mut deflater = Deflater::new();
        for bits in MIN_WINDOW_BITS..=MAX_WINDOW_BITS {
            for count in [3, 10, 100, 5000] {
                let json = events(count);
                let window = DeflateParams {
                    server_window_bits: bits,
                }
                .window_for(json.len());
                let Some(frame) = deflater.compress(Opcode::Text, &json, window) else {
                    continue;
                };
                let mut client = Decompress::new_with_window_bits(false, bits);
                let stream = [payload(&frame), &TAIL].concat();
                let mut out = Vec::with_capacity(json.len() + 1);
                client
                    .decompress_vec(&stream, &mut out, FlushDecompress::Sync)
                    .expect("readable");
                assert!(out == json, "{count} events in a window of {bits} bits");
            }
        }
    }

    #[test]
    fn small_payload_shares_common_frame() {
        let small = DeflateParams {
            server_window_bits: 10,
        };
        assert_eq!(small.window_for(1024), 15);
        assert_eq!(small.window_for(1025), 10);
        assert_eq!(
            DeflateParams {
                server_window_bits: 15
            }
            .window_for(1 << 20),
            15
        );
    }

    #[test]
    fn decompression_bomb_stops_at_limit() {
        let zeros = vec![0; 50 << 20];
        let frame = Deflater::new()
            .compress(Opcode::Text, &zeros, 15)
            .expect("smaller");
        let bomb = payload(&frame);
        assert!(
            bomb.len() < 64 * 1024,
            "it fits into the limit before inflating"
        );
        let mut inflater = Inflater::new();
        assert_eq!(inflater.inflate(bomb, 64 * 1024), Err(Violation::TOO_BIG));
        inflater.stream.reset(false);
        let mut out = Vec::new();
        assert_eq!(
            inflater.feed(bomb, &mut out, 64 * 1024, &mut 1),
            Err(Violation::TOO_BIG)
        );
        assert!(
            out.capacity() <= 64 * 1024 + 1,
            "{} bytes held",
            out.capacity()
        );
    }

    #[test]
    fn message_of_many_streams_is_refused() {
        // An empty final block, in two bytes.
        let streams = |count: usize| [0x03, 0x00].repeat(count);
        let mut inflater = Inflater::new();
        assert_eq!(inflater.inflate(&streams(MAX_STREAMS), 10), Ok(Vec::new()));
        for count in [MAX_STREAMS + 1, 30_000] {
            let refused = inflater.inflate(&streams(count), 10);
            assert_eq!(refused, Err(Violation::NOT_DEFLATE), "{count}");
        }
    }

    #[test]
    fn message_of_exact_limit_passes() {
        let json = events(200);
        let frame = Deflater::new()
            .compress(Opcode::Text, &json, 15)
            .expect("smaller");
        let mut inflater = Inflater::new();
        let too_big = inflater
            .inflate(payload(&frame), json.len() - 1)
            .expect_err("over");
        assert_eq!(too_big.close, CloseCode::TooBig);
        assert_eq!(inflater.inflate(payload(&frame), json.len()), Ok(json));
        assert_eq!(inflater.inflate(b"", 10), Ok(Vec::new()));
        assert_eq!(inflater.inflate(&[0x00], 0), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn compressed_payload_round_trips(
            words in prop::collection::vec("[a-d]{1,9}", 0..800),
            bits in MIN_WINDOW_BITS..=MAX_WINDOW_BITS,
        ) {
            let text = words.join(" ").into_bytes();
            if let Some(frame) = Deflater::new().compress(Opcode::Text, &text, bits) {
                prop_assert!(payload(&frame).len() < text.len());
                prop_assert_eq!(Inflater::new().inflate(payload(&frame), text.len()), Ok(text));
            }
        }

        #[test]
        fn random_bytes_stay_within_limit(
            payload in prop::collection::vec(any::<u8>(), 0..500),
            limit in 0_usize..2000,
        ) {
            if let Ok(out) = Inflater::new().inflate(&payload, limit) {
                prop_assert!(out.len() <= limit);
            }
        }
    }
}
