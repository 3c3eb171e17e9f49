//! The RFC 6455 codec of the server's side, without any I/O.
//!
//! [`decode`] looks at bytes that lie in a buffer shared by many connections and borrows its
//! messages from them, so an idle connection owns no buffer: only an empty
//! `Option<Box<Assembly>>`. A message that has come in part (a fragment, or the beginning of a
//! frame) moves into the [`Assembly`] at once, checked as far as it goes, and memory grows only
//! with bytes that have really come. What `decode` leaves is the beginning of a frame's header or
//! of a control frame: never more than [`MAX_LEFTOVER`] bytes.
//!
//! The encoding side makes whole, unmasked frames that any number of connections may share.

mod decode;
mod encode;
mod header;
mod mask;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod rules;

use std::borrow::Cow;

pub use decode::{Assembly, decode};
pub use encode::frame;
pub(crate) use encode::write_length;
pub use encode::{
    HEADER_SPACE, binary, close, header_len, ping, pong, reserve, seal, text, write_header,
};
pub(crate) use header::parse_length;
pub use mask::unmask;

use crate::CloseCode;
use crate::deflate::DeflateParams;

/// The largest payload of a control frame, in bytes (RFC 6455 §5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;

/// The most bytes that [`decode`] leaves at the end of a buffer as incomplete: a masked control
/// frame without its last byte.
pub const MAX_LEFTOVER: usize = 2 + 4 + MAX_CONTROL_PAYLOAD - 1;

/// The kind of a frame (RFC 6455 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// A further fragment of a data message.
    Continuation,
    /// A text message, or its first fragment.
    Text,
    /// A binary message, or its first fragment.
    Binary,
    /// The end of the connection.
    Close,
    /// A check whether the peer is alive.
    Ping,
    /// The answer to a ping.
    Pong,
}

impl Opcode {
    /// The opcode of these four bits; `None` for a reserved one.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Opcode::Continuation),
            0x1 => Some(Opcode::Text),
            0x2 => Some(Opcode::Binary),
            0x8 => Some(Opcode::Close),
            0x9 => Some(Opcode::Ping),
            0xA => Some(Opcode::Pong),
            _ => None,
        }
    }

    /// The four bits of the header.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xA,
        }
    }

    /// Whether it is close, ping or pong.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.bits() & 0x8 != 0
    }
}

/// One complete message from the client, unmasked and inflated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message; borrowed if it arrived in one frame, uncompressed and in one read.
    Text(Cow<'a, str>),
    /// A binary message, borrowed likewise.
    Binary(Cow<'a, [u8]>),
    /// A ping: answer with [`pong`] and the same payload.
    Ping(&'a [u8]),
    /// A pong, solicited or not.
    Pong(&'a [u8]),
    /// The client closes, with its code and reason. All bytes after it are ignored (RFC 6455
    /// §5.5.1).
    Close(Option<u16>, &'a str),
}

/// The result of one call of [`decode`].
#[derive(Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// The number of processed bytes at the front of the buffer: 1 or more.
    pub consumed: usize,
    /// The message that they completed; `None` after a part of one.
    pub message: Option<Message<'a>>,
}

/// The parameters and limits of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// The largest data message, in bytes, counted after inflating and over all fragments.
    pub message_bytes: usize,
    /// permessage-deflate, if it was negotiated.
    pub deflate: Option<DeflateParams>,
}

/// The client violated a rule: close the connection with this code and reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// [`CloseCode::Protocol`], [`CloseCode::InvalidPayload`] or [`CloseCode::TooBig`].
    pub close: CloseCode,
    /// The rule, for the close frame and the log. Never contains bytes of the client.
    pub reason: &'static str,
}

impl Violation {
    const fn protocol(reason: &'static str) -> Self {
        Violation {
            close: CloseCode::Protocol,
            reason,
        }
    }

    /// The message is over [`Params::message_bytes`].
    pub(crate) const TOO_BIG: Violation = Violation {
        close: CloseCode::TooBig,
        reason: "message too big",
    };

    /// A text message or a close reason is not UTF-8.
    const NOT_UTF8: Violation = Violation {
        close: CloseCode::InvalidPayload,
        reason: "text is not UTF-8",
    };

    /// A compressed message can't be inflated.
    pub(crate) const NOT_DEFLATE: Violation = Violation {
        close: CloseCode::InvalidPayload,
        reason: "compressed message is damaged",
    };
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.reason, self.close.number())
    }
}

impl std::error::Error for Violation {}
