//! Decodes arbitrary text as an Engine.IO and Socket.IO packet.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| tidings::socketio::read_packets(text));
