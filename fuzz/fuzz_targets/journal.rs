//! Parses arbitrary bytes as a journal of the store on disk.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = tidings::broker::fuzzing::journal(bytes);
});
