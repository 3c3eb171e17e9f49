//! Chunks: encoded bytes shared by many connections.

use std::sync::Arc;

use bytes::Bytes;

/// A shared chunk. It belongs to one shard, but small rounds use it on publishers' threads.
pub(super) type Frame = Arc<Chunk>;

/// A frame, or the concatenated frames of several events of one channel: one buffer, so that the
/// kernel copies it at once, however many events it has.
#[derive(Debug)]
pub(super) struct Chunk {
    bytes: Bytes,
    parts: Box<[Part]>,
}

/// One event's frame within a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// The end of the frame.
    end: usize,
    /// The event's offset; 0 if its channel keeps no history.
    pub(super) offset: u64,
    /// A hash of the event's key; 0 if it has none.
    pub(super) key: u64,
}

impl Chunk {
    /// A reply or a notice.
    #[must_use]
    pub(super) fn plain(bytes: Bytes) -> Frame {
        Arc::new(Chunk {
            bytes,
            parts: Box::default(),
        })
    }

    /// One event.
    #[must_use]
    pub(super) fn event(bytes: Bytes, offset: u64, key: u64) -> Frame {
        let end = bytes.len();
        Arc::new(Chunk {
            bytes,
            parts: Box::new([Part { end, offset, key }]),
        })
    }

    /// The concatenated frames of several events.
    #[must_use]
    pub(super) fn joined(frames: &[Frame]) -> Frame {
        let mut bytes = Vec::with_capacity(frames.iter().map(|frame| frame.len()).sum());
        let mut parts = Vec::with_capacity(frames.len());
        for frame in frames {
            let before = bytes.len();
            bytes.extend_from_slice(&frame.bytes);
            parts.extend(frame.parts.iter().map(|part| Part {
                end: before + part.end,
                ..*part
            }));
        }
        Arc::new(Chunk {
            bytes: bytes.into(),
            parts: parts.into(),
        })
    }

    /// Its length in bytes.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// All of its bytes.
    #[must_use]
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The event, if there is only one.
    #[must_use]
    pub(super) fn part(&self) -> Option<Part> {
        match *self.parts {
            [part] => Some(part),
            _ => None,
        }
    }

    /// How many of its events end after this many bytes; 0 if it has no events.
    #[must_use]
    pub(super) fn events_after(&self, written: usize) -> usize {
        let parts = self.parts.iter();
        parts.filter(|part| part.end > written).count()
    }

    /// Its events, each as a chunk that shares the memory.
    pub(super) fn split(&self) -> impl Iterator<Item = Frame> {
        self.parts.iter().scan(0, |start, part| {
            let bytes = self.bytes.slice(*start..part.end);
            *start = part.end;
            Some(Chunk::event(bytes, part.offset, part.key))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_chunk_splits_into_its_events() {
        let frames: Vec<Frame> = [("one", 1), ("three", 3), ("", 4), ("nine", 9)]
            .into_iter()
            .map(|(text, offset)| Chunk::event(Bytes::from(text), offset, offset * 7))
            .collect();
        let joined = Chunk::joined(&frames);
        assert_eq!(joined.bytes().as_ref(), b"onethreenine");
        assert!(joined.part().is_none(), "it is more than one event");
        let again: Vec<Frame> = joined.split().collect();
        assert_eq!(again.len(), frames.len());
        for (one, other) in frames.iter().zip(&again) {
            assert_eq!(one.bytes(), other.bytes());
            let place = |frame: &Frame| frame.part().map(|part| (part.offset, part.key));
            assert_eq!(place(one), place(other));
        }
    }
}
