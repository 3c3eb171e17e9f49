//! Decodes arbitrary bytes as a client's message, in JSON and in protobuf.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidings::dialect::read_messages(bytes));
