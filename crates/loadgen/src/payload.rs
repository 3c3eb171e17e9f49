//! The payload of a test event: JSON with a stamp that can be found without a JSON parser.
//!
//! `{"bench":"<32 letters>","part":7,"pad":"xxx…"}`. The letters are nibbles, `@` for 0 to `O` for
//! 15, so that eight of them become a number with a few shifts: the client shares the machine with
//! the server that it measures, and every nanosecond spent here is taken from the server. The part
//! is the last digit of the event's number, for filters to select by.

use crate::error::{Error, Result};

/// The type of every test event.
pub const EVENT_TYPE: &str = "bench.tick";
/// The smallest payload that holds a stamp, in bytes.
pub const MIN_BYTES: usize = 64;
/// How many parts there are: 0 to 9.
pub const PARTS: u32 = 10;
/// The largest payload, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// The namespace of every test channel: `bench:0`, `bench:1`, …
pub const NAMESPACE: &str = "bench";

const MARKER: &[u8] = b"{\"bench\":\"";
const STAMP_BYTES: usize = 32;
const PART: &[u8] = b"\",\"part\":";
const TAIL: &[u8] = b",\"pad\":\"";
const END: &[u8] = b"\"}";

/// The data that an event carries about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When it was due to be published, in nanoseconds of [`crate::clock::now`].
    pub sent: u64,
    /// Its number within its task and channel: 0, 1, 2, …
    pub sequence: u32,
    /// The task that published it. A task is a source of ordered events.
    pub task: u32,
}

/// A payload whose stamp can be replaced repeatedly.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
}

impl Template {
    /// A payload of `size` bytes.
    ///
    /// # Errors
    /// If `size` is less than [`MIN_BYTES`] or more than [`MAX_BYTES`].
    pub fn new(size: usize) -> Result<Self> {
        if !(MIN_BYTES..=MAX_BYTES).contains(&size) {
            return Err(Error::field(
                "size",
                format!("{MIN_BYTES} to {MAX_BYTES} bytes"),
            ));
        }
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(MARKER);
        bytes.resize(MARKER.len() + STAMP_BYTES, b'@');
        bytes.extend_from_slice(PART);
        bytes.push(b'0');
        bytes.extend_from_slice(TAIL);
        bytes.resize(size - END.len(), b'x');
        bytes.extend_from_slice(END);
        Ok(Self { bytes })
    }

    /// The payload with `stamp` in it.
    pub fn stamped(&mut self, stamp: Stamp) -> &[u8] {
        let (high, low) = halves(stamp.sent);
        let words = [high, low, stamp.sequence, stamp.task];
        let stamp_bytes = self.bytes.iter_mut().skip(MARKER.len());
        let letters = words.iter().flat_map(|word| spread(*word));
        for (target, letter) in stamp_bytes.zip(letters) {
            *target = letter;
        }
        let part = MARKER.len() + STAMP_BYTES + PART.len();
        if let Some(digit) = self.bytes.get_mut(part) {
            *digit = b'0' + u8::try_from(stamp.sequence % PARTS).unwrap_or(0);
        }
        &self.bytes
    }
}

/// Finds stamps in messages. Remembers the position of the last one, because messages of one
/// connection mostly have it at the same position.
#[derive(Debug, Clone, Copy, Default)]
pub struct Finder {
    offset: usize,
}

impl Finder {
    /// The stamp in `message`, if there is one.
    pub fn find(&mut self, message: &[u8]) -> Option<Stamp> {
        if let Some(stamp) = stamp_at(message, self.offset) {
            return Some(stamp);
        }
        let offset = message
            .windows(MARKER.len())
            .position(|window| window == MARKER)?;
        self.offset = offset;
        stamp_at(message, offset)
    }
}

fn stamp_at(message: &[u8], offset: usize) -> Option<Stamp> {
    let letters = message
        .get(offset..)?
        .strip_prefix(MARKER)?
        .first_chunk::<STAMP_BYTES>()?;
    let (words, _) = letters.as_chunks::<8>();
    let mut words = words.iter().map(|word| gather(*word));
    let (high, low) = (words.next()?, words.next()?);
    Some(Stamp {
        sent: (u64::from(high) << 32) | u64::from(low),
        sequence: words.next()?,
        task: words.next()?,
    })
}

fn halves(number: u64) -> (u32, u32) {
    let low = u32::try_from(number & 0xffff_ffff).unwrap_or(0);
    let high = u32::try_from(number >> 32).unwrap_or(0);
    (high, low)
}

/// Eight letters for the eight nibbles of `number`, the highest first.
fn spread(number: u32) -> [u8; 8] {
    let mut wide = u64::from(number);
    wide = (wide | wide << 16) & 0x0000_ffff_0000_ffff;
    wide = (wide | wide << 8) & 0x00ff_00ff_00ff_00ff;
    wide = (wide | wide << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    (wide | 0x4040_4040_4040_4040).to_be_bytes()
}

/// The number whose nibbles are the eight `letters`.
fn gather(letters: [u8; 8]) -> u32 {
    let mut wide = u64::from_be_bytes(letters) & 0x0f0f_0f0f_0f0f_0f0f;
    wide = (wide | wide >> 4) & 0x00ff_00ff_00ff_00ff;
    wide = (wide | wide >> 8) & 0x0000_ffff_0000_ffff;
    u32::try_from((wide | wide >> 16) & 0xffff_ffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        sent: 0x0123_4567_89ab_cdef,
        sequence: 4_000_000_007,
        task: 513,
    };

    #[test]
    fn payload_is_json_of_requested_size() {
        for size in [MIN_BYTES, 200, 16_384] {
            let mut template = Template::new(size).unwrap();
            let bytes = template.stamped(STAMP);
            assert_eq!(bytes.len(), size);
            let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            assert_eq!(value["part"], 7, "the last digit of the number");
        }
        assert_eq!(
            Template::new(MIN_BYTES - 1).unwrap_err().field_name(),
            Some("size")
        );
        assert_eq!(
            Template::new(MAX_BYTES + 1).unwrap_err().field_name(),
            Some("size")
        );
    }

    #[test]
    fn stamp_is_found_at_any_position() {
        let mut template = Template::new(100).unwrap();
        let payload = template.stamped(STAMP).to_vec();
        let mut finder = Finder::default();
        for before in [
            "",
            r#"{"type":"bench.tick","data":"#,
            r#"{"type":"bench.tick","offset":7,"data":"#,
        ] {
            let mut message = before.as_bytes().to_vec();
            message.extend_from_slice(&payload);
            assert_eq!(finder.find(&message), Some(STAMP));
            assert_eq!(
                finder.find(&message),
                Some(STAMP),
                "at the remembered offset"
            );
        }
    }

    #[test]
    fn message_without_whole_stamp_has_none() {
        let mut finder = Finder::default();
        assert_eq!(finder.find(br#"{"type":"heartbeat"}"#), None);
        assert_eq!(finder.find(br#"{"data":{"bench":"@@@@"#), None);
    }
}
