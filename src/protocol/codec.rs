//! The two traits of a codec, free of any framing, and an encoder with the framing of a transport.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::command::ClientCommand;
use super::request::{DecodeError, Incoming, ReplyTo};
use super::server_message::ServerMessage;
use crate::event::Event;
use crate::hub::ConnCtx;

/// Decodes what clients send. One value serves all connections of its codec, so it holds no state of
/// any.
pub trait Decoder: Send + Sync {
    /// Decodes a message: the context of its reply, and the command or the error.
    fn decode(&self, incoming: &Incoming<'_>) -> (ReplyTo, Result<ClientCommand, DecodeError>);

    /// The context of the reply, for a message that is not decoded further.
    fn reply_to(&self, incoming: &Incoming<'_>) -> ReplyTo;
}

/// Encodes what the server sends. One value serves all connections of its codec.
pub trait Encoder: Send + Sync {
    /// Encodes a message into zero or more payloads, in the order in which they are sent.
    fn encode(
        &self,
        reply_to: &ReplyTo,
        message: &ServerMessage<'_>,
        out: &mut dyn FnMut(Encoded<'_>),
    );

    /// Appends the payload of [`ServerMessage::Event`]. Called once for all connections of the codec,
    /// so it must not differ between them.
    fn encode_event(&self, out: &mut BytesMut, event: &Event);

    /// Appends the same event with `confirm`; false, with nothing appended, if the codec has no
    /// form for that.
    fn encode_event_to_confirm(&self, out: &mut BytesMut, event: &Event) -> bool {
        let _ = (out, event);
        false
    }

    /// The approximate number of bytes that [`Encoder::encode_event`] appends.
    fn event_size(&self, event: &Event) -> usize;

    /// Whether payloads are bytes, not text.
    fn is_binary(&self) -> bool {
        false
    }
}

/// A payload without framing.
#[derive(Debug, Clone, Copy)]
pub struct Encoded<'m> {
    /// The message's name, for transports that send names separately from payloads.
    pub name: &'m str,
    /// The payload: UTF-8 unless [`Encoder::is_binary`].
    pub body: &'m [u8],
    /// The transport's own number of the request that it answers
    /// ([`RequestId::Token`](super::RequestId::Token)).
    pub token: Option<u64>,
}

/// Both directions of one codec.
#[derive(Clone)]
pub struct Codec {
    /// Decodes client messages.
    pub decoder: Arc<dyn Decoder>,
    /// Encodes server messages.
    pub encoder: Arc<dyn Encoder>,
}

impl Codec {
    /// A codec whose decoder and encoder are one value.
    pub fn new(codec: impl Decoder + Encoder + 'static) -> Self {
        let codec = Arc::new(codec);
        let decoder: Arc<dyn Decoder> = codec.clone();
        Codec {
            decoder,
            encoder: codec,
        }
    }
}

/// Wraps a payload in a transport's frame; consecutive frames may share one buffer.
type Framing = dyn Fn(&Encoded<'_>) -> Bytes + Send + Sync;

/// An encoder with the framing of a transport.
#[derive(Clone)]
pub struct MessageWriter {
    encoder: Arc<dyn Encoder>,
    framing: Arc<Framing>,
}

impl MessageWriter {
    /// Writes with this encoder into these frames.
    pub fn new(
        encoder: Arc<dyn Encoder>,
        framing: impl Fn(&Encoded<'_>) -> Bytes + Send + Sync + 'static,
    ) -> Self {
        MessageWriter {
            encoder,
            framing: Arc::new(framing),
        }
    }

    /// Sends a message on a connection.
    pub fn send(&self, cx: &mut ConnCtx<'_>, reply_to: &ReplyTo, message: &ServerMessage<'_>) {
        let mut send = |payload: Encoded<'_>| cx.send((self.framing)(&payload));
        self.encoder.encode(reply_to, message, &mut send);
    }

    /// The frames of a message that is not a reply; `None` if the codec has no form for it.
    #[must_use]
    pub fn frames(&self, message: &ServerMessage<'_>) -> Option<Bytes> {
        frames(&*self.encoder, &*self.framing, message)
    }
}

/// The frames of a message that is not a reply; `None` if the codec has no form for it.
#[must_use]
pub fn frames(
    encoder: &dyn Encoder,
    framing: &dyn Fn(&Encoded<'_>) -> Bytes,
    message: &ServerMessage<'_>,
) -> Option<Bytes> {
    let mut frames: Vec<Bytes> = Vec::new();
    let mut push = |payload: Encoded<'_>| frames.push(framing(&payload));
    encoder.encode(&ReplyTo::default(), message, &mut push);
    match frames.len() {
        0 | 1 => frames.pop(),
        _ => Some(frames.concat().into()),
    }
}
