//! Parses arbitrary bytes as the head of a WebSocket upgrade request, and what follows it.
#![no_main]

use bytes::Bytes;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Some((request, len)) = tidings_websocket::head::read_upgrade(&bytes) {
        assert!(len <= bytes.len());
        assert!(bytes[..len].ends_with(b"\n"));
        assert!(request.uri().path().starts_with('/'));
    }
});
