//! An encoded `SubscribeResponse`.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, skip_field};
use prost::{DecodeError, Message};

use crate::proto::SubscribeResponse;
use crate::proto::subscribe_response::Message as Step;

/// The bytes of one `tidings.v1.SubscribeResponse`, shared by all subscribers of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SharedResponse(Bytes);

impl SharedResponse {
    /// Takes bytes that [`SharedResponse::encoded`] made.
    #[must_use]
    pub fn new(encoded: Bytes) -> Self {
        SharedResponse(encoded)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes of one step.
    #[must_use]
    pub fn encoded(step: Step) -> Bytes {
        SubscribeResponse {
            message: Some(step),
        }
        .encode_to_vec()
        .into()
    }
}

impl Message for SharedResponse {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.0);
    }

    /// Servers only send it: fields are ignored when it is decoded.
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, buffer, context)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0 = Bytes::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Gap;

    #[test]
    fn shared_bytes_decode_to_original_message() {
        let gap = Gap {
            channel: "a:1".into(),
            from: 3,
            to: 4,
            reason: "slow_consumer".into(),
        };
        let shared = SharedResponse::new(SharedResponse::encoded(Step::Gap(gap.clone())));
        let read = SubscribeResponse::decode(shared.encode_to_vec().as_slice()).unwrap();
        assert_eq!(read.message, Some(Step::Gap(gap)));
        assert_eq!(shared.encoded_len(), shared.encode_to_vec().len());
    }
}
