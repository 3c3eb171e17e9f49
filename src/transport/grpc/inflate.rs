//! Messages compressed with gzip (RFC 1952), inflated within limits.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};

use super::inbound::{HEAD, too_long};
use crate::error::{Error, Result};
use crate::session::Reservation;

/// The memory of an inflater, in bytes: its state and a window of 32 KiB.
const INFLATER: usize = 64 * 1024;
/// The initial capacity for the inflated message, in bytes.
const FIRST: usize = 4 * 1024;

/// A compressed message that is arriving.
pub(super) struct Inflating {
    stream: Decompress,
    inflated: Vec<u8>,
    /// Whether the compressed data has ended.
    ended: bool,
    limit: usize,
    reservation: Arc<Mutex<Reservation>>,
    /// The reservation before this message.
    before: usize,
}

impl Inflating {
    /// A message of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// `resource_exhausted` if nothing can be reserved.
    pub(super) fn begin(limit: usize, reservation: &Arc<Mutex<Reservation>>) -> Result<Self> {
        let mut held = reservation.lock().unwrap_or_else(PoisonError::into_inner);
        let before = held.bytes();
        held.grow_to(before.saturating_add(INFLATER))?;
        drop(held);
        Ok(Inflating {
            stream: Decompress::new_gzip(15),
            inflated: Vec::new(),
            ended: false,
            limit,
            reservation: Arc::clone(reservation),
            before,
        })
    }

    /// Inflates the next part of the message.
    ///
    /// # Errors
    ///
    /// `invalid_argument` if it is not gzip, `out_of_range` if the message is too long,
    /// `resource_exhausted` if its bytes can't be reserved.
    pub(super) fn push(&mut self, mut input: &[u8]) -> Result<()> {
        let mut full = false;
        while !input.is_empty() || full {
            if self.ended {
                return Err(broken());
            }
            if self.inflated.len() == self.inflated.capacity() {
                self.make_room()?;
            }
            let before = (self.stream.total_in(), self.inflated.len());
            let status = self
                .stream
                .decompress_vec(input, &mut self.inflated, FlushDecompress::None)
                .map_err(|_| broken())?;
            let taken = usize::try_from(self.stream.total_in() - before.0).unwrap_or(usize::MAX);
            let stuck = taken == 0 && self.inflated.len() == before.1;
            self.ended = status == Status::StreamEnd;
            if stuck && !self.ended && !input.is_empty() {
                return Err(broken());
            }
            input = input.get(taken..).unwrap_or_default();
            // The message may exceed the initial capacity.
            full = !self.ended && self.inflated.len() == self.inflated.capacity();
        }
        Ok(())
    }

    /// Grows the buffer. The bytes are reserved twice, because gRPC copies the message once more
    /// before it is decoded.
    fn make_room(&mut self) -> Result<()> {
        let capacity = self.inflated.capacity();
        if self.inflated.len() > self.limit {
            return Err(too_long(self.limit));
        }
        // One byte over the limit shows that it is exceeded.
        let wanted = capacity
            .saturating_mul(2)
            .clamp(FIRST, self.limit.saturating_add(1).max(FIRST));
        let all = self
            .before
            .saturating_add(INFLATER)
            .saturating_add(wanted.saturating_mul(2));
        self.reservation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .grow_to(all)?;
        self.inflated.reserve_exact(wanted - self.inflated.len());
        Ok(())
    }

    /// The whole message, after a head that marks it as uncompressed.
    ///
    /// # Errors
    ///
    /// As [`Inflating::push`].
    pub(super) fn finish(self) -> Result<[Bytes; 2]> {
        if !self.ended {
            return Err(broken());
        }
        let length = self.inflated.len();
        let Some(length_field) = u32::try_from(length).ok().filter(|_| length <= self.limit) else {
            return Err(too_long(self.limit));
        };
        let mut head = BytesMut::with_capacity(HEAD);
        head.put_u8(0);
        head.put_u32(length_field);
        Ok([head.freeze(), self.inflated.into()])
    }
}

fn broken() -> Error {
    Error::invalid("expected a message that is compressed with gzip")
}
