//! Encodes and decodes messages: protobuf, with buffers that suit many quiet streams.

use std::marker::PhantomData;

use bytes::Buf as _;
use prost::Message;
use prost::encoding::decode_varint;
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

/// The initial size of a call's buffers, in bytes. A subscriber that waits for a rare event should
/// not own more; a larger message grows the buffer.
const BUFFER: usize = 1024;
/// Messages that are ready together are passed to HTTP/2 from this many bytes on.
const HAND_OVER: usize = 32 * 1024;

/// The most fields of a message, without those in nested messages. An empty nested message takes
/// two bytes of the message and some hundred once it is decoded.
const FIELDS: usize = 65_536;

/// Whether a message has at most [`FIELDS`] fields. Malformed messages are left to the decoder.
fn has_few_fields(mut message: &[u8]) -> bool {
    for _ in 0..FIELDS {
        if message.is_empty() || skip(&mut message).is_none() {
            return true;
        }
    }
    message.is_empty()
}

/// Skips one field, including its key.
fn skip(message: &mut &[u8]) -> Option<()> {
    let key = decode_varint(message).ok()?;
    let length = match key & 7 {
        0 => {
            decode_varint(message).ok()?;
            0
        }
        1 => 8,
        2 => usize::try_from(decode_varint(message).ok()?).ok()?,
        5 => 4,
        _ => return None,
    };
    *message = message.get(length..)?;
    Some(())
}

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER, HAND_OVER)
}

/// Protobuf with small buffers.
#[derive(Debug, Clone, Copy)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Codec(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = SizedEncoder<T>;
    type Decoder = CarefulDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        SizedEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        CarefulDecoder(ProstDecoder::new(buffers()))
    }
}

/// Reserves memory for the whole message before it encodes it.
#[derive(Debug, Clone, Copy)]
pub struct SizedEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for SizedEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.encoded_len());
        item.encode(buffer)
            .map_err(|_| Status::internal("a message did not fit its buffer"))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

/// Reports bytes that can't be decoded as an error of the caller.
#[derive(Debug, Clone)]
pub struct CarefulDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default> Decoder for CarefulDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if !has_few_fields(bytes.chunk()) {
            return Err(Status::invalid_argument(format!(
                "expected at most {FIELDS} fields in a message"
            )));
        }
        self.0
            .decode(bytes)
            .map_err(|_| Status::invalid_argument("expected a protobuf message of this call"))
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{PublishBatchRequest, PublishRequest};

    #[test]
    fn message_with_too_many_fields_is_refused() {
        let batch = |count: usize| {
            let requests = vec![PublishRequest::default(); count];
            PublishBatchRequest { requests }.encode_to_vec()
        };
        assert!(has_few_fields(&batch(FIELDS)));
        assert!(!has_few_fields(&batch(FIELDS + 1)));
        let whole = PublishRequest {
            channels: vec!["a:1".into()],
            data: vec![0; 100_000].into(),
            ..PublishRequest::default()
        };
        assert!(has_few_fields(&whole.encode_to_vec()));
        for broken in [&[0xff; 20][..], &[0x0a, 0x7f, 1], &[0x0b; 3]] {
            assert!(has_few_fields(broken), "it is the decoder's to say");
        }
    }
}
