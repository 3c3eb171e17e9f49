//! The dialect `tidings` in protobuf: `ClientMessage` and `ServerMessage` of `proto/tidings/v1`.

mod encode;
pub mod schema;

pub use encode::{message, subscribed};

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::codec::{Decoder, Encoded, Encoder};
use super::command::{ClientCommand, Kind, from_protobuf};
use super::request::{DecodeError, GivenId, Incoming, ReplyTo, RequestId};
use super::server_message::ServerMessage;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::proto::{self, ClientMessage};

/// The longest id of a request, in bytes.
const MAX_ID: usize = 255;
/// The number of `event` in `ServerMessage`.
const EVENT: u32 = 2;
/// The number of `confirm` in `ServerMessage`.
const CONFIRM: u32 = 19;

/// The dialect `tidings` in protobuf.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProtobufCodec;

/// The beginning of a `ClientMessage`: the fields that a reply needs, without a copy of the rest.
#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    #[prost(string, tag = "1")]
    id: String,
}

fn reply_to(id: &str) -> ReplyTo {
    let mut reply_to = ReplyTo::default();
    if (1..=MAX_ID).contains(&id.len()) {
        reply_to.id = RequestId::Given(GivenId::Text(id.into()));
    }
    reply_to
}

fn bytes<'a>(incoming: &Incoming<'a>) -> Result<&'a [u8]> {
    match *incoming {
        Incoming::Binary(bytes) => Ok(bytes),
        Incoming::Text(_) | Incoming::Named { .. } => Err(Error::invalid("expected protobuf")),
    }
}

fn command(message: ClientMessage) -> Result<ClientCommand, DecodeError> {
    if message.id.len() > MAX_ID {
        return Err(Error::field("id", "expected a string of at most 255 bytes").into());
    }
    let command = message.command.ok_or_else(|| DecodeError {
        error: Error::field("command", format!("expected {}", Kind::list())),
        guarded: true,
    })?;
    let (kind, command) = from_protobuf(command);
    command.map_err(|error| DecodeError {
        error,
        guarded: !kind.is_open(),
    })
}

fn as_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

impl Decoder for ProtobufCodec {
    fn decode(&self, incoming: &Incoming<'_>) -> (ReplyTo, Result<ClientCommand, DecodeError>) {
        // The only copy: the decoded message shares it.
        let message = bytes(incoming).and_then(|bytes| {
            ClientMessage::decode(Bytes::copy_from_slice(bytes))
                .map_err(|_| Error::invalid("expected a protobuf ClientMessage"))
        });
        match message {
            Ok(message) => (reply_to(&message.id), command(message)),
            Err(error) => (ReplyTo::default(), Err(error.into())),
        }
    }

    fn reply_to(&self, incoming: &Incoming<'_>) -> ReplyTo {
        let head = bytes(incoming).ok().and_then(|b| Head::decode(b).ok());
        reply_to(&head.unwrap_or_default().id)
    }
}

impl Encoder for ProtobufCodec {
    fn encode(
        &self,
        reply_to: &ReplyTo,
        message: &ServerMessage<'_>,
        out: &mut dyn FnMut(Encoded<'_>),
    ) {
        let id = match &reply_to.id {
            RequestId::Given(GivenId::Text(id) | GivenId::Number(id)) => String::from(&**id),
            RequestId::None | RequestId::Token(_) => String::new(),
        };
        let encoded = proto::ServerMessage {
            id,
            message: Some(encode::message(message)),
            confirm: false,
        };
        out(Encoded {
            name: message.name(),
            body: &encoded.encode_to_vec(),
            token: None,
        });
    }

    fn encode_event(&self, out: &mut BytesMut, event: &Event) {
        let event = schema::event(event);
        let len = event.encoded_len();
        out.reserve(key_len(EVENT) + encoded_len_varint(as_u64(len)) + len);
        encode_key(EVENT, WireType::LengthDelimited, out);
        encode_varint(as_u64(len), out);
        event.encode_raw(out);
    }

    fn encode_event_to_confirm(&self, out: &mut BytesMut, event: &Event) -> bool {
        self.encode_event(out, event);
        encode_key(CONFIRM, WireType::Varint, out);
        encode_varint(u64::from(true), out);
        true
    }

    fn event_size(&self, event: &Event) -> usize {
        crate::event::json::size(event)
    }

    fn is_binary(&self) -> bool {
        true
    }
}
