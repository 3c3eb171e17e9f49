//! Subjects: where a channel is in the engine.
//!
//! `<name>.s.<stream>.<ns>.<bb>.<channel>` is a channel's log, `<name>.e.<ns>.<bb>.<channel>` its
//! live events. A channel name is one token: `.` is written `%`, which no name contains. `<bb>` are
//! two hex digits of the channel's hash, so that a namespace can be spread over several streams.

use xxhash_rust::xxh3::xxh3_64;

use crate::event::{ChannelName, ChannelPattern};

/// The stream token of channels that belong to no declared namespace.
pub(super) const UNDECLARED: &str = "+";

/// A name as one token of a subject.
fn token(name: &str) -> String {
    name.replace('.', "%")
}

/// The name that a token stands for.
fn name_of(token: &str) -> String {
    token.replace('%', ".")
}

/// The number of a channel's bucket.
pub(super) fn bucket(channel: &ChannelName) -> u8 {
    xxh3_64(channel.as_str().as_bytes()).to_le_bytes()[0]
}

/// What follows the kind of subject: namespace, bucket, channel.
fn tail(channel: &ChannelName) -> String {
    let namespace = token(channel.namespace());
    let bucket = bucket(channel);
    format!("{namespace}.{bucket:02x}.{}", token(channel.as_str()))
}

/// The subject of a channel's log in the stream of this token.
pub(super) fn log(prefix: &str, stream: &str, channel: &ChannelName) -> String {
    format!("{prefix}.s.{}.{}", token(stream), tail(channel))
}

/// The subjects of a stream.
pub(super) fn logs(prefix: &str, stream: &str) -> String {
    format!("{prefix}.s.{}.>", token(stream))
}

/// The subject of a channel's live events.
pub(super) fn live(prefix: &str, channel: &ChannelName) -> String {
    format!("{prefix}.e.{}", tail(channel))
}

/// The subject of the live events of a pattern.
pub(super) fn live_of(prefix: &str, pattern: &ChannelPattern) -> String {
    match pattern {
        ChannelPattern::Exact(channel) => live(prefix, channel),
        ChannelPattern::Namespace(namespace) => format!("{prefix}.e.{}.>", token(namespace)),
        ChannelPattern::All => format!("{prefix}.e.>"),
    }
}

/// The subject of events without a channel.
pub(super) fn direct(prefix: &str) -> String {
    format!("{prefix}.d")
}

/// The channel of a log's or a live subject.
pub(super) fn channel_of(subject: &str) -> Option<ChannelName> {
    let (_, channel) = subject.rsplit_once('.')?;
    ChannelName::new(name_of(channel)).ok()
}

/// A name within a stream's name, which allows `A-Z a-z 0-9 _ -` only.
pub(super) fn stream_part(namespace: &str) -> String {
    let mut part = String::with_capacity(namespace.len());
    for byte in namespace.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            part.push(char::from(byte));
        } else {
            part.push_str(&format!("={byte:02X}"));
        }
    }
    part
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn subjects_are_bijective_and_well_formed(name in "[A-Za-z0-9_.:@/~-]{1,40}") {
            let channel = ChannelName::new(&name).unwrap();
            for subject in [log("t", "+", &channel), live("t", &channel)] {
                prop_assert_eq!(channel_of(&subject), Some(channel.clone()));
                prop_assert!(subject.split('.').all(|token| !token.is_empty()), "{}", subject);
                prop_assert!(!subject.contains(['*', '>', ' ']));
            }
            let part = stream_part(&name);
            prop_assert!(part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-=".contains(&b)));
        }
    }

    #[test]
    fn pattern_covers_the_channels_of_its_namespace() {
        let channel = ChannelName::new("a.b:c").unwrap();
        let live = live("t", &channel);
        let of = live_of("t", &ChannelPattern::Namespace("a.b".into()));
        assert!(live.starts_with(of.trim_end_matches('>')), "{live} {of}");
    }
}
