//! Any text as a packet of Engine.IO and Socket.IO.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| tidings::socketio::read_packets(text));
