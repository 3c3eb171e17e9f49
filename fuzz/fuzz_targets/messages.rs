//! Any text as a message of a client.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| tidings::dialect::read_arguments(text));
