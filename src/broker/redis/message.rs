//! Messages between nodes: a line that says what follows, then the sealed record of an event.

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use crate::event::{ChannelName, Epoch};

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// An event with an offset.
    Kept {
        channel: ChannelName,
        epoch: Epoch,
        offset: u64,
        record: Bytes,
    },
    /// An event of a channel without history.
    Plain {
        channel: ChannelName,
        count: Count,
        record: Bytes,
    },
    /// An event for its audience.
    Direct { record: Bytes },
}

/// Where an event without an offset stands among those of its node and channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    /// The process that published it.
    pub(super) node: u64,
    /// The number of the event of this channel before it. 0 if the node does not know.
    pub(super) before: u64,
    /// Its own number, greater than any before it.
    pub(super) number: u64,
}

impl Count {
    /// As the messages hold it.
    pub(super) fn text(self) -> String {
        format!("{:x} {} {}", self.node, self.before, self.number)
    }
}

/// A message for an audience.
pub(super) fn direct(record: &[u8]) -> Vec<u8> {
    [b"3\n", record].concat()
}

/// The epoch that clients see: of the channel's own one, and of the generation of the bucket's data.
pub(super) fn epoch(generation: &str, channel: &str) -> Epoch {
    let mut sum = Xxh3::new();
    sum.update(generation.as_bytes());
    sum.update(b" ");
    sum.update(channel.as_bytes());
    // 0 is what a client's malformed epoch becomes.
    Epoch::from_bits(sum.digest().max(1))
}

/// Parses a message. `None` if it is malformed or of a newer version.
pub(super) fn parse(message: &Bytes) -> Option<Message> {
    let end = memchr::memchr(b'\n', message)?;
    let (line, _) = message.split_at_checked(end)?;
    let record = message.slice(end + 1..);
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    match words.next()? {
        "1" => {
            let (generation, own) = (words.next()?, words.next()?);
            Some(Message::Kept {
                epoch: epoch(generation, own),
                offset: words.next()?.parse().ok()?,
                channel: ChannelName::new(words.next()?).ok()?,
                record,
            })
        }
        "2" => Some(Message::Plain {
            count: Count {
                node: u64::from_str_radix(words.next()?, 16).ok()?,
                before: words.next()?.parse().ok()?,
                number: words.next()?.parse().ok()?,
            },
            channel: ChannelName::new(words.next()?).ok()?,
            record,
        }),
        "3" => Some(Message::Direct { record }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_parsed() {
        let channel = ChannelName::new("a:1").unwrap();
        let record = Bytes::from_static(b"rec\nord");
        assert_eq!(
            parse(&Bytes::from_static(b"1 gen own 7 a:1\nrec\nord")),
            Some(Message::Kept {
                channel: channel.clone(),
                epoch: epoch("gen", "own"),
                offset: 7,
                record: record.clone()
            })
        );
        let count = Count {
            node: 0xab,
            before: 4,
            number: 6,
        };
        let plain = format!("2 {} a:1\nrec\nord", count.text());
        assert_eq!(
            parse(&Bytes::from(plain)),
            Some(Message::Plain {
                channel,
                count,
                record: record.clone()
            })
        );
        assert_eq!(
            parse(&direct(&record).into()),
            Some(Message::Direct { record })
        );
        for malformed in [
            "",
            "1 a",
            "1 g o x a:1\n",
            "9 g\n",
            "2 z 1 2 a\n",
            "1 g o 1 #\n",
        ] {
            assert_eq!(parse(&Bytes::from(malformed)), None, "{malformed}");
        }
    }

    #[test]
    fn each_generation_has_other_epochs() {
        assert_eq!(epoch("g", "e"), epoch("g", "e"));
        assert_ne!(epoch("g", "e"), epoch("h", "e"));
        assert_ne!(epoch("g", "e"), epoch("g", "f"));
    }
}
