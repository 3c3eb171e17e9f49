//! The ids by which a stream is resumed.
//!
//! With one channel the id of an event is its position, `EPOCH/OFFSET`. A browser sends only the
//! last id that it received, so with several channels an id holds the position of each: separated by
//! commas, in the order of the request's `channel` parameters, `-` if a channel has none yet. A
//! pattern such as `project:*` has no position and is always `-`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{Error, Result};
use crate::event::{ChannelPattern, Position};
use crate::hub::Joined;

/// The positions of one stream's channels.
pub(super) struct Ids {
    places: Vec<Place>,
}

struct Place {
    channel: String,
    /// False for a pattern.
    exact: bool,
    position: Option<Position>,
}

impl Ids {
    /// The positions of a new stream, or those of the last id that the client received.
    ///
    /// # Errors
    /// `invalid_argument` for the field `last_event_id`.
    pub(super) fn parse(channels: &[&str], last: &str) -> Result<Self> {
        let positions: Vec<Option<Position>> = if last.is_empty() {
            vec![None; channels.len()]
        } else {
            last.split(',').map(place).collect::<Result<_>>()?
        };
        if positions.len() != channels.len() {
            return Err(wrong());
        }
        let places = channels.iter().zip(positions).map(|(channel, position)| {
            let pattern = ChannelPattern::parse(channel);
            let exact = matches!(pattern, Ok(ChannelPattern::Exact(_)));
            Place {
                channel: (*channel).to_owned(),
                exact,
                position: position.filter(|_| exact),
            }
        });
        Ok(Ids {
            places: places.collect(),
        })
    }

    /// The position after which each channel resumes.
    pub(super) fn positions(&self) -> impl Iterator<Item = Option<Position>> {
        self.places.iter().map(|place| place.position)
    }

    /// Sets the positions after the subscriptions have begun. Events that are still to be replayed were
    /// not received yet, so the requested position stays.
    pub(super) fn began(&mut self, joined: &[Joined]) {
        for place in &mut self.places {
            let joined = joined.iter().find(|joined| joined.channel == place.channel);
            if !joined.is_some_and(|joined| joined.recovered) {
                let nothing_before = joined.filter(|joined| joined.replayed == 0);
                place.position = nothing_before.and_then(|joined| joined.position);
            }
        }
    }

    /// The id of the stream's positions; `None` if no channel has one.
    pub(super) fn known(&self) -> Option<String> {
        let positions = || self.places.iter().map(|place| place.position);
        positions().any(|position| position.is_some()).then(|| {
            let texts = positions().map(|p| p.map_or("-".to_owned(), |p| p.to_string()));
            texts.collect::<Vec<_>>().join(",")
        })
    }

    /// Replaces the position of an event by the id of this stream.
    pub(super) fn rewrite(&mut self, frame: Bytes) -> Bytes {
        if let [only] = self.places.as_slice()
            && only.exact
        {
            return frame;
        }
        let Some((position, rest)) = take_id(&frame) else {
            return frame;
        };
        let channel = channel_of(rest);
        let place = self.places.iter_mut().find(|place| {
            place.exact && channel.is_some_and(|channel| channel == place.channel.as_bytes())
        });
        let Some(place) = place else {
            return frame.slice_ref(rest);
        };
        place.position = Some(position);
        let id = self.known().unwrap_or_default();
        let mut out = BytesMut::with_capacity(id.len() + rest.len() + 8);
        out.put_slice(b"id: ");
        out.put_slice(id.as_bytes());
        out.put_slice(b"\n");
        out.put_slice(rest);
        out.freeze()
    }
}

fn wrong() -> Error {
    let expected = "expected an id as the server gave it for the same channels";
    Error::field("last_event_id", expected)
}

fn place(text: &str) -> Result<Option<Position>> {
    match text {
        "-" => Ok(None),
        text => text.parse().map(Some).map_err(|_| wrong()),
    }
}

/// The `id` field of an event, and the rest.
fn take_id(frame: &[u8]) -> Option<(Position, &[u8])> {
    let rest = frame.strip_prefix(b"id: ")?;
    let end = rest.iter().position(|b| *b == b'\n')?;
    let (id, rest) = rest.split_at(end);
    let position = std::str::from_utf8(id).ok()?.parse().ok()?;
    Some((position, rest.get(1..)?))
}

/// The channel of an event, which follows its type; neither contains escapes.
fn channel_of(data: &[u8]) -> Option<&[u8]> {
    let rest = data.strip_prefix(br#"data: {"type":""#)?;
    let end = rest.iter().position(|b| *b == b'"')?;
    let rest = rest.get(end..)?.strip_prefix(br#"","channel":""#)?;
    let end = rest.iter().position(|b| *b == b'"')?;
    rest.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: &str = "00000000000000aa";

    fn frame(channel: &str, offset: u64) -> Bytes {
        let data = format!(r#"data: {{"type":"a.b","channel":"{channel}","id":"x"}}"#);
        format!("id: {EPOCH}/{offset}\n{data}\n\n").into()
    }

    fn id(frame: &Bytes) -> Option<&str> {
        let text = std::str::from_utf8(frame).unwrap();
        text.lines().find_map(|line| line.strip_prefix("id: "))
    }

    #[test]
    fn id_with_one_channel_is_the_position() {
        let mut ids = Ids::parse(&["a"], "").unwrap();
        let event = frame("a", 7);
        assert_eq!(ids.rewrite(event.clone()), event);
    }

    #[test]
    fn last_id_resumes_all_channels() {
        let mut ids = Ids::parse(&["a", "b", "c:*"], "").unwrap();
        let first = ids.rewrite(frame("b", 3));
        assert_eq!(id(&first), Some("-,00000000000000aa/3,-"));
        let second = ids.rewrite(frame("a", 9));
        let last = id(&second).unwrap();
        assert_eq!(last, "00000000000000aa/9,00000000000000aa/3,-");
        let resumed = Ids::parse(&["a", "b", "c:*"], last).unwrap();
        let offsets = resumed.positions().map(|p| p.map(|p| p.offset));
        assert_eq!(offsets.collect::<Vec<_>>(), [Some(9), Some(3), None]);
    }

    #[test]
    fn event_of_a_pattern_has_no_id() {
        let mut ids = Ids::parse(&["c:*"], "").unwrap();
        let event = ids.rewrite(frame("c:1", 3));
        assert_eq!(id(&event), None);
        assert!(event.starts_with(b"data: "));
    }

    #[test]
    fn events_to_replay_keep_the_requested_position() {
        let position: Position = format!("{EPOCH}/9").parse().unwrap();
        let joined = |channel: &str, recovered, replayed| Joined {
            channel: channel.to_owned(),
            position: Some(position),
            recovered,
            replayed,
        };
        let last = format!("{EPOCH}/4,-,-");
        let mut ids = Ids::parse(&["a", "b", "c"], &last).unwrap();
        ids.began(&[
            joined("a", true, 5),
            joined("b", false, 2),
            joined("c", false, 0),
        ]);
        assert_eq!(ids.known(), Some(format!("{EPOCH}/4,-,{EPOCH}/9")));
    }

    #[test]
    fn id_of_other_channels_is_refused() {
        for last in ["x", "aa/1", "aa/1,bb/2,cc/3", "aa/1,"] {
            let refused = Ids::parse(&["a", "b"], last).err().unwrap();
            assert_eq!(refused.field_name(), Some("last_event_id"), "{last}");
        }
    }
}
