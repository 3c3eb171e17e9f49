//! How packets leave: in a frame each, or one behind the other.

use bytes::{BufMut, Bytes, BytesMut};

use super::packet::SEPARATOR;
use tidings_websocket::Compression;
use tidings_websocket::frame::{self, Opcode};

/// What stands around a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// A separator behind it: so many packets may stand in one piece, and the last separator of a
    /// payload is left out.
    Polling,
    /// A text frame.
    Frames(Compression),
}

impl Packing {
    /// How many there are.
    pub(super) const COUNT: usize = 4;

    /// Each with its place in a table.
    pub(super) const ALL: [Packing; Self::COUNT] = [
        Packing::Frames(Compression::Off),
        Packing::Frames(Compression::Full),
        Packing::Frames(Compression::Small),
        Packing::Polling,
    ];

    /// Its place in [`Packing::ALL`].
    pub(super) const fn place(self) -> usize {
        match self {
            Packing::Frames(Compression::Off) => 0,
            Packing::Frames(Compression::Full) => 1,
            Packing::Frames(Compression::Small) => 2,
            Packing::Polling => 3,
        }
    }

    /// The packet, ready for the socket or the pipe.
    pub(super) fn pack(self, packet: &[u8]) -> Bytes {
        match self {
            Packing::Frames(compression) => compression.frame(Opcode::Text, packet),
            Packing::Polling => {
                let mut out = BytesMut::with_capacity(packet.len() + 1);
                out.put_slice(packet);
                out.put_u8(SEPARATOR);
                out.freeze()
            }
        }
    }

    /// A packet for one client: compressing each would cost more than it saves.
    pub(super) fn pack_one(self, packet: &[u8]) -> Bytes {
        match self {
            Packing::Frames(_) => frame::text(packet),
            Packing::Polling => self.pack(packet),
        }
    }

    /// Packets that waited for the next poll.
    pub(super) fn repack(self, waiting: &[Bytes]) -> Bytes {
        let mut out = BytesMut::new();
        for piece in waiting {
            let packets = piece.split(|byte| *byte == SEPARATOR);
            for packet in packets.filter(|packet| !packet.is_empty()) {
                out.put(self.pack_one(packet));
            }
        }
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waited_for_a_poll_leaves_in_frames_packet_by_packet() {
        let waiting = [
            Bytes::from_static(b"42[\"a\"]\x1e42[\"b\"]\x1e"),
            Bytes::from_static(b"2\x1e"),
        ];
        let frames = Packing::Frames(Compression::Off).repack(&waiting);
        assert_eq!(frames, &b"\x81\x0742[\"a\"]\x81\x0742[\"b\"]\x81\x012"[..]);
    }

    #[test]
    fn every_packing_has_its_own_place() {
        for (at, packing) in Packing::ALL.iter().enumerate() {
            assert_eq!(packing.place(), at);
        }
    }
}
