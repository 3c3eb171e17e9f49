//! A client's message, and what a reply to it refers to.

use serde_json::value::RawValue;

use crate::error::Error;

/// A client's message, without its framing.
#[derive(Debug, Clone, Copy)]
pub enum Incoming<'a> {
    /// A text message: its type stands in it.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A message whose name the transport carries beside its argument, as Socket.IO does.
    Named {
        /// The name.
        name: &'a str,
        /// The argument, a JSON object.
        argument: &'a str,
        /// The transport's number for the acknowledgement.
        token: Option<u64>,
    },
}

/// How the client recognises the reply.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum RequestId {
    /// Not at all.
    #[default]
    None,
    /// By its own `id`, which is echoed.
    Given(GivenId),
    /// By a number of the transport, such as Socket.IO's acknowledgement id.
    Token(u64),
}

/// An `id` that a client gave a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivenId {
    /// A string.
    Text(Box<str>),
    /// A number in the client's own digits, which may exceed any integer type.
    Number(Box<str>),
}

/// What a reply refers to.
#[derive(Debug, Clone, Default)]
pub struct ReplyTo {
    /// The request's id.
    pub id: RequestId,
    /// Members of the request that the reply echoes.
    pub echoed: Vec<(Box<str>, Box<RawValue>)>,
}

impl ReplyTo {
    /// What the transport itself knows of a message.
    #[must_use]
    pub fn of_transport(incoming: &Incoming<'_>) -> Self {
        let mut reply_to = ReplyTo::default();
        if let Incoming::Named {
            token: Some(token), ..
        } = incoming
        {
            reply_to.id = RequestId::Token(*token);
        }
        reply_to
    }
}

/// A message that is no valid command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// What is wrong with it.
    pub error: Error,
    /// Whether an unauthenticated client gets `unauthenticated` in place of this error.
    pub guarded: bool,
}

impl From<Error> for DecodeError {
    fn from(error: Error) -> Self {
        DecodeError {
            error,
            guarded: false,
        }
    }
}
