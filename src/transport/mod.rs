//! The transports: each decodes, calls the session or the admin, and encodes. None knows another.

pub mod grpc;
pub mod http;
pub mod message_reader;
pub mod socketio;
pub mod ws;
