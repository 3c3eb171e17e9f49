//! The messages between clients and server, independent of the transport.
//!
//! A [`Decoder`] turns bytes into a [`ClientCommand`], an [`Encoder`] a [`ServerMessage`] into
//! bytes, both free of any framing. `json/` and `protobuf/` implement the two, `custom/` has the
//! dialects of the configuration, which are JSON too, and [`registry`] finds a codec by its name. A
//! transport adds its framing ([`MessageWriter`]). The execution of commands is the same for all of
//! them: [`handle`].

#[cfg(test)]
mod agreement;
mod codec;
mod command;
mod custom;
mod json;
pub mod protobuf;
pub mod registry;
mod request;
mod request_ctx;
mod server_message;

pub use codec::{Codec, Decoder, Encoded, Encoder, MessageWriter, frames};
pub use command::{
    Ack, Authenticate, ClientCommand, HeartbeatResponse, History, Kind, Ping, Presence, Publish,
    Receive, Register, Rpc, Subscribe, Unsubscribe,
};
pub use custom::{
    CommandWords, ControlMember, ControlWords, Definition, EventWords, Refusals, Template,
};
pub use json::JsonCodec;
pub use protobuf::{ProtobufCodec, schema};
pub use request::{DecodeError, GivenId, Incoming, ReplyTo, RequestId};
pub use request_ctx::{handle, reject, send_welcome};
pub use server_message::{ServerMessage, error_members};

/// For `fuzz/`: decodes arbitrary bytes as a client's message, in JSON, in JSON of a custom
/// dialect, and in protobuf.
///
/// # Panics
///
/// If a reply is not JSON.
#[cfg(feature = "fuzzing")]
pub fn read_messages(bytes: &[u8]) {
    drop(ProtobufCodec.decode(&Incoming::Binary(bytes)));
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    json::arguments::read_all(text);
    drop(JsonCodec::tidings().decode(&Incoming::Text(text)));
    let own = CommandWords {
        name: "subscribe".into(),
        does: Kind::Subscribe,
        channels: Template::parse("{channels}:{type}").ok(),
        members: vec![("channel".into(), "event_types".into())],
        echo: vec!["data".into(), "id".into()],
    };
    let definition = Definition {
        commands: vec![own],
        ..Definition::default()
    };
    let codec = JsonCodec::new(std::sync::Arc::new(definition));
    let (reply_to, _) = codec.decode(&Incoming::Text(text));
    let error = crate::error::Error::denied("no");
    codec.encode(&reply_to, &ServerMessage::Error(&error), &mut |message| {
        assert!(crate::event::strict_json::operators_value(message.body).is_ok());
    });
}
