//! A client's message, and the context of its reply.

use serde_json::value::RawValue;

use crate::error::Error;

/// A client's message, without its framing.
#[derive(Debug, Clone, Copy)]
pub enum Incoming<'a> {
    /// A text message, which contains its type.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A message whose name the transport carries separately from its argument, as Socket.IO does.
    Named {
        /// The name.
        name: &'a str,
        /// The argument, a JSON object.
        argument: &'a str,
        /// The transport's number for the acknowledgement.
        token: Option<u64>,
    },
}

/// How the client identifies the reply.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum RequestId {
    /// It does not.
    #[default]
    None,
    /// By its own `id`, which is echoed.
    Given(GivenId),
    /// By a number of the transport, such as Socket.IO's acknowledgement id.
    Token(u64),
}

/// The `id` that a client gave to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivenId {
    /// A string.
    Text(Box<str>),
    /// A number in the client's own digits, which may exceed any integer type.
    Number(Box<str>),
}

/// The context of a reply.
#[derive(Debug, Clone, Default)]
pub struct ReplyTo {
    /// The request's id.
    pub id: RequestId,
    /// Members of the request that the reply echoes.
    pub echoed: Vec<(Box<str>, Box<RawValue>)>,
}

impl ReplyTo {
    /// The part of the context that the transport provides.
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

/// A message that is not a valid command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// The error.
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
