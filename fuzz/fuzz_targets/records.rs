//! Decodes arbitrary bytes as records of the store on disk.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidings::broker::fuzzing::records(b"key", bytes));
