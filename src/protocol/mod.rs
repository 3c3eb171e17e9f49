//! What clients and server say to each other, whatever carries it.
//!
//! A [`Dialect`] reads a client's message as a [`Command`] and writes what is [`ServerMessage`], both free
//! of any framing. A transport supplies a [`Framer`], which wraps ready messages for its
//! connections. What commands do is the same in all of them: [`handle`].

#[cfg(test)]
mod agreement;
mod codec;
mod command;
mod custom;
mod json;
mod protobuf;
mod request;
mod request_ctx;
mod server_message;

pub use codec::{Dialect, Framer, Message, say, spoken};
pub use command::{
    Authenticate, Command, HeartbeatResponse, History, Kind, Ping, Presence, Publish, Receive,
    Register, Subscribe, Unsubscribe,
};
pub use custom::{
    CommandWords, ControlMember, ControlWords, Definition, EventWords, Refusals, Template,
};
pub use json::Words;
pub use protobuf::{Binary, schema};
pub use request::{Asked, DecodeError, GivenId, Incoming, RequestId};
pub use request_ctx::{handle, reject, send_welcome};
pub use server_message::ServerMessage;

/// For `fuzz/`: takes any bytes as a client's message, in JSON, in JSON of other words, and in
/// protobuf.
///
/// # Panics
/// Where a reply is no JSON.
#[cfg(feature = "fuzzing")]
pub fn read_messages(bytes: &[u8]) {
    drop(Binary.read(&Incoming::Binary(bytes)));
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    json::arguments::read_all(text);
    drop(Words::tidings().read(&Incoming::Text(text)));
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
    let words = Words::new(std::sync::Arc::new(definition));
    let (asked, _) = words.read(&Incoming::Text(text));
    let error = crate::error::Error::denied("no");
    words.said(&asked, &ServerMessage::Error(&error), &mut |message| {
        assert!(crate::event::strict_json::operators_value(message.body).is_ok());
    });
}
