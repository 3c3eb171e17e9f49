//! The framing of packets: a WebSocket frame each, or a payload of several.

use bytes::{BufMut, Bytes, BytesMut};

use super::packet::SEPARATOR;
use tidings_websocket::Compression;
use tidings_websocket::frame::{self, Opcode};

/// The framing of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// A trailing separator: packets may be joined, and a payload omits the last separator.
    Polling,
    /// A text frame.
    Frames(Compression),
}

impl Packing {
    /// How many there are.
    pub(super) const COUNT: usize = 4;

    /// Each at its [`Packing::index`].
    pub(super) const ALL: [Packing; Self::COUNT] = [
        Packing::Frames(Compression::Off),
        Packing::Frames(Compression::Full),
        Packing::Frames(Compression::Small),
        Packing::Polling,
    ];

    /// Its index in [`Packing::ALL`].
    pub(super) const fn index(self) -> usize {
        match self {
            Packing::Frames(Compression::Off) => 0,
            Packing::Frames(Compression::Full) => 1,
            Packing::Frames(Compression::Small) => 2,
            Packing::Polling => 3,
        }
    }

    /// Frames a packet that many connections share.
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

    /// Frames a packet for one client, uncompressed: compression would cost more than it saves.
    pub(super) fn pack_one(self, packet: &[u8]) -> Bytes {
        match self {
            Packing::Frames(_) => frame::text(packet),
            Packing::Polling => self.pack(packet),
        }
    }

    /// Frames packets that waited for the next poll.
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
    fn repack_frames_each_packet_of_a_payload() {
        let waiting = [
            Bytes::from_static(b"42[\"a\"]\x1e42[\"b\"]\x1e"),
            Bytes::from_static(b"2\x1e"),
        ];
        let frames = Packing::Frames(Compression::Off).repack(&waiting);
        assert_eq!(frames, &b"\x81\x0742[\"a\"]\x81\x0742[\"b\"]\x81\x012"[..]);
    }

    #[test]
    fn every_packing_has_its_own_index() {
        for (at, packing) in Packing::ALL.iter().enumerate() {
            assert_eq!(packing.index(), at);
        }
    }
}
