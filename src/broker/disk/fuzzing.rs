//! Reads arbitrary bytes as the disk's formats, for `fuzz/`, and briefly with the unit tests.

use super::journal;
use super::record::{ChannelRecord, EventRecord, KeyRecord, Manifest, MarkRecord, seal, unseal};
use crate::event::{ChannelName, Epoch, Position};

/// Decodes bytes as each kind of record, unchanged and with a valid checksum. A readable event must
/// be equal after being encoded and decoded again.
///
/// # Panics
/// It is not.
pub fn records(key: &[u8], bytes: &[u8]) {
    read::<ChannelRecord>(key, bytes);
    read::<KeyRecord>(key, bytes);
    read::<Manifest>(key, bytes);
    read::<MarkRecord>(key, bytes);
    let Ok(channel) = ChannelName::new("room:1") else {
        return;
    };
    let position = Position {
        epoch: Epoch::from_bits(7),
        offset: 9,
    };
    for record in read::<EventRecord>(key, bytes) {
        let Ok(event) = record.event(&channel, position) else {
            continue;
        };
        let again = seal(key, &EventRecord::new(&event, 1, 2));
        let back = unseal::<EventRecord>(key, &again).and_then(|r| r.event(&channel, position));
        let same = back.as_ref().is_ok_and(|back| {
            (back.id, &back.event_type, back.time) == (event.id, &event.event_type, event.time)
                && back.payload.data() == event.payload.data()
                && back.headers == event.headers
                && back.key == event.key
        });
        assert!(same, "{event:?} came back as {back:?}");
    }
}

/// Decodes bytes as one kind, both as a record and as the message in one.
fn read<M: prost::Message + Default>(key: &[u8], bytes: &[u8]) -> Vec<M> {
    let bare = M::decode(bytes).ok();
    let sealed = bare.map(|message| unseal::<M>(key, &seal(key, &message)));
    if let Some(Err(error)) = &sealed {
        panic!("what was sealed can't be unsealed: {error}");
    }
    let read = [Some(unseal::<M>(key, bytes)), sealed]
        .into_iter()
        .flatten();
    read.filter_map(Result::ok).collect()
}

/// Checks bytes as a journal. Returns where it is damaged.
///
/// # Panics
/// The position is outside of the bytes.
#[must_use]
pub fn journal(bytes: &[u8]) -> Option<u64> {
    let damaged = journal::damaged(bytes);
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    assert!(
        damaged.is_none_or(|at| at < length),
        "{damaged:?} of {length}"
    );
    damaged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An item in the format of a journal.
    fn item(key: &[u8], value: &[u8]) -> Vec<u8> {
        let length = u32::try_from(value.len()).unwrap().to_le_bytes();
        let key_length = u16::try_from(key.len()).unwrap().to_le_bytes();
        let head = [&[2, 0, 0][..], &[0; 8], &key_length, &length, &length];
        [&head.concat(), key, value].concat()
    }

    /// A batch with an item and a manifest, in the format of a journal.
    fn batch(number: u64, value: &[u8]) -> Vec<u8> {
        let manifest = Manifest {
            batch: number,
            previous: number - 1,
            synced: number - 1,
            sequence: number,
            ..Manifest::default()
        };
        let key = b"manifest";
        let items = [item(b"k", value), item(key, &seal(key, &manifest))].concat();
        let sum = xxhash_rust::xxh3::xxh3_64(&items).to_le_bytes();
        let start = [&[1, 2, 0, 0, 0][..], &number.to_le_bytes()].concat();
        [&start, &items, &[3][..], &sum, b"FJL\x03"].concat()
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_decoded_without_panic(key: [u8; 8], bytes: Vec<u8>) {
            records(&key, &bytes);
            let damaged = journal(&bytes);
            prop_assert!(bytes.len() > 17 || damaged.is_none(), "too short for a seam");
        }

        #[test]
        fn truncated_journal_is_valid_but_hole_is_not(
            value in proptest::collection::vec(1_u8..255, 0..300),
            batches in 4_u64..12,
            cut in 0.0_f64..1.0,
        ) {
            let whole: Vec<Vec<u8>> = (1..=batches).map(|number| batch(number, &value)).collect();
            let bytes = whole.concat();
            prop_assert_eq!(journal(&bytes), None);
            #[expect(clippy::as_conversions, clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
            let cut = (bytes.len() as f64 * cut) as usize;
            prop_assert_eq!(journal(&bytes[..cut]), None);
            // The tag of the second batch is missing.
            let second = whole[0].len();
            let mut broken = bytes;
            broken[second] = 77;
            prop_assert_eq!(journal(&broken), Some(u64::try_from(second).unwrap()));
        }

        #[test]
        fn record_with_flipped_bit_is_refused(key: [u8; 4], id: u64, at: prop::sample::Index, bit in 0_u8..8) {
            let message = Manifest { batch: id, channels: 3, next_id: 4, era: 5, at: 6, ..Manifest::default() };
            let mut record = seal(&key, &message);
            prop_assert_eq!(unseal::<Manifest>(&key, &record), Ok(message));
            let at = at.index(record.len());
            record[at] ^= 1 << bit;
            prop_assert!(unseal::<Manifest>(&key, &record).is_err());
        }
    }
}
