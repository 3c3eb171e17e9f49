//! The seams: what a dialect supplies, and what a transport does.

use bytes::{Bytes, BytesMut};

use super::command::Command;
use super::request::{Asked, DecodeError, Incoming};
use super::server_message::ServerMessage;
use crate::event::Event;
use crate::hub::ConnCtx;

/// What clients and server call things. One value serves all connections that speak it, so it
/// keeps nothing about any.
pub trait Dialect: Send + Sync {
    /// What a reply to this message refers to, for a message that is not read further.
    fn asked(&self, incoming: &Incoming<'_>) -> Asked;

    /// What a client asks for, or what is wrong with its message, and what the reply refers to.
    fn read(&self, incoming: &Incoming<'_>) -> (Asked, Result<Command, DecodeError>);

    /// Something that the server says, as one message, several or none, in this order.
    fn said(&self, asked: &Asked, said: &ServerMessage<'_>, out: &mut dyn FnMut(Message<'_>));

    /// Appends an event. Asked once for all connections, so what is appended must not differ
    /// between them.
    fn event(&self, out: &mut BytesMut, event: &Event);

    /// Appends the same event with the question to confirm that it has arrived; false, and nothing
    /// appended, where the dialect has no words for that.
    fn event_to_confirm(&self, out: &mut BytesMut, event: &Event) -> bool {
        let _ = (out, event);
        false
    }

    /// About how many bytes [`Dialect::event`] appends.
    fn event_size(&self, event: &Event) -> usize;

    /// True if its messages are bytes, not text.
    fn is_binary(&self) -> bool {
        false
    }
}

/// A ready message of the server, without its framing.
#[derive(Debug, Clone, Copy)]
pub struct Message<'m> {
    /// What it is called, for transports that carry names beside messages.
    pub name: &'m str,
    /// The message: text in UTF-8 unless [`Dialect::is_binary`].
    pub body: &'m [u8],
    /// The transport's own number of the request that it answers
    /// ([`RequestId::Token`](super::RequestId::Token)).
    pub token: Option<u64>,
}

/// A dialect in the framing of a transport.
pub trait Framer: Send + Sync {
    /// The dialect.
    fn dialect(&self) -> &dyn Dialect;

    /// A ready message as bytes for the socket or stream; several may follow one another in one
    /// piece.
    fn pack(&self, message: &Message<'_>) -> Bytes;
}

/// Says something on a connection.
pub fn say(framer: &dyn Framer, cx: &mut ConnCtx<'_>, asked: &Asked, said: &ServerMessage<'_>) {
    let mut pack = |message: Message<'_>| cx.send(framer.pack(&message));
    framer.dialect().said(asked, said, &mut pack);
}

/// What would be sent to say this; `None` where the dialect has no words for it.
#[must_use]
pub fn spoken(framer: &dyn Framer, said: &ServerMessage<'_>) -> Option<Bytes> {
    let mut pieces: Vec<Bytes> = Vec::new();
    let mut pack = |message: Message<'_>| pieces.push(framer.pack(&message));
    framer.dialect().said(&Asked::default(), said, &mut pack);
    match pieces.len() {
        0 | 1 => pieces.pop(),
        _ => Some(pieces.concat().into()),
    }
}
