//! Parses arbitrary bytes as a publish request: protobuf, JSON, CloudEvents.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tidings::transport::grpc::read_publish(bytes);
    tidings::transport::http::read_events(bytes);
});
