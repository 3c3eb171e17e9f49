//! What clients and server say to each other, whatever carries it.
//!
//! A [`Dialect`] reads a client's message as a [`Command`] and writes what is [`Said`], both free
//! of any framing. A transport supplies a [`Voice`], which wraps ready messages for its
//! connections. What commands do is the same in all of them: [`handle`].

mod arguments;
mod binary;
mod cloud_events;
mod commands;
mod definition;
mod request;
mod said;
pub mod schema;
mod template;
mod turn;
mod voice;
mod words;

#[cfg(feature = "fuzzing")]
pub use arguments::read_all as read_arguments;
pub use binary::Binary;
pub use commands::{
    Authenticate, Command, HeartbeatResponse, History, Kind, Ping, Presence, Publish, Register,
    Subscribe, Unsubscribe,
};
pub use definition::{CommandWords, ControlMember, ControlWords, Definition, EventWords, Refusals};
pub use request::{Asked, Incoming, RequestId, Unread};
pub use said::Said;
pub use template::Template;
pub use turn::{greet, handle, turn_away};
pub use voice::{Dialect, Message, Voice, say, spoken};
pub use words::Words;
