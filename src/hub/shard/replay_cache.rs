//! A cache of frames of replayed events: after a restart, every client resumes from the same
//! positions.

use std::collections::HashMap;
use std::sync::Arc;

use crate::event::Event;
use crate::hub::dialect_ids::DialectId;
use crate::hub::protocol::Protocol;
use crate::hub::shard::chunk::{Chunk, Frame};

/// The size of the cache per shard, in bytes: a term of the server's memory bound.
pub const REPLAY_BYTES: usize = 4 << 20;

/// The cached frames.
#[derive(Default)]
pub(super) struct Replays {
    frames: HashMap<(u32, u64, DialectId), Frame>,
    bytes: usize,
}

impl Replays {
    /// The frame of an event of the topic serial `numbering`, encoded if it is not cached.
    pub(super) fn frame(
        &mut self,
        numbering: u32,
        event: &Event,
        dialect: DialectId,
        protocol: &dyn Protocol,
    ) -> Frame {
        let offset = event.position.map_or(0, |position| position.offset);
        let key = (numbering, offset, dialect);
        if let Some(frame) = self.frames.get(&key) {
            return Arc::clone(frame);
        }
        let frame = Chunk::event(protocol.event(event), offset, 0);
        if self.bytes + frame.len() > REPLAY_BYTES {
            self.clear();
        }
        self.bytes += frame.len();
        self.frames.insert(key, Arc::clone(&frame));
        frame
    }

    /// Frees the cache, after a while without work.
    pub(super) fn clear(&mut self) {
        self.frames = HashMap::new();
        self.bytes = 0;
    }
}
