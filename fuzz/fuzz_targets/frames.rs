//! Parses a client's bytes as WebSocket frames, in reads of any length, with and without
//! compression.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tidings_websocket::deflate::{DeflateParams, Inflater};
use tidings_websocket::frame::{MAX_LEFTOVER, Params, decode};

const LIMIT: usize = 4096;

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (part, deflate, stream) = input;
    let params = Params {
        message_bytes: LIMIT,
        deflate: deflate.then_some(DeflateParams {
            server_window_bits: 15,
        }),
    };
    let (mut assembly, mut inflater) = (None, Inflater::new());
    let mut left = Vec::new();
    for read in stream.chunks(usize::from(part) + 1) {
        left.extend_from_slice(read);
        let mut bytes = std::mem::take(&mut left);
        let mut done = 0;
        loop {
            match decode(&mut assembly, &mut bytes[done..], &params, &mut inflater) {
                Err(_) => return,
                Ok(None) => break,
                Ok(Some(step)) => {
                    assert!(step.consumed > 0);
                    done += step.consumed;
                }
            }
        }
        left.extend_from_slice(&bytes[done..]);
        assert!(left.len() <= MAX_LEFTOVER);
    }
});
