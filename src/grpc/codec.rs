//! How messages become bytes: protobuf, with buffers that suit many quiet streams.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

/// What a call's buffers start with, in bytes. A follower that waits for a rare event should not
/// own more; a larger message makes room for itself.
const BUFFER: usize = 1024;
/// From how many bytes on messages that are ready together are handed to HTTP/2.
const HAND_OVER: usize = 32 * 1024;

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

/// Makes room for a whole message before it writes it.
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

/// Says of bytes that are not the message that it is the caller's doing.
#[derive(Debug, Clone)]
pub struct CarefulDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default> Decoder for CarefulDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        self.0
            .decode(bytes)
            .map_err(|_| Status::invalid_argument("expected a protobuf message of this call"))
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}
