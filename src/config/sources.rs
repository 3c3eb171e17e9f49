//! Checks of `[[source]]`.

use super::declarations::duplicates;
use super::validate::Check;
use super::{Config, SourceKindName};
use crate::event::{ChannelName, EventType};

/// The most sources: each has a connection, and a label in metrics.
const MOST: usize = 32;
/// The longest name.
const LONGEST_NAME: usize = 64;

/// Reports invalid sources.
pub(super) fn check(config: &Config, check: &mut Check<'_>) {
    check.expect(
        config.source.len() <= MOST,
        "source",
        format!("expected at most {MOST} sources"),
    );
    for (index, (source, settings)) in config.source.iter().zip(config.sources()).enumerate() {
        let at = |key: &str| format!("source[{index}].{key}");
        check.expect(
            is_name(&source.name),
            &at("name"),
            "expected 1 to 64 of A-Z a-z 0-9 _ - .",
        );
        if let Err(expected) = settings.check() {
            check.expect(false, &at("url"), expected);
        }
        check.expect(!source.poll.is_zero(), &at("poll"), "expected more than 0s");
        let channel = source.channel.as_ref();
        if let Some(Err(error)) = channel.map(ChannelName::new) {
            check.expect(false, &at("channel"), error.description().to_owned());
        }
        let event_type = source.event_type.as_ref();
        if let Some(Err(error)) = event_type.map(EventType::new) {
            check.expect(false, &at("event_type"), error.description().to_owned());
        }
        let streams = source.kind != SourceKindName::Postgres;
        for (key, value) in [("stream", &source.stream), ("group", &source.group)] {
            check.expect(!streams || !value.is_empty(), &at(key), "expected a name");
        }
        let is_nats = source.kind == SourceKindName::Nats;
        check.expect(
            is_nats || source.credentials_file.is_none(),
            &at("credentials_file"),
            "is for kind = \"nats\": the others have user and password in the URL",
        );
    }
    duplicates(
        config.source.iter().map(|source| source.name.as_str()),
        "source",
        check,
    );
}

fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use crate::config::tests::problems;

    #[test]
    fn source_problems_name_the_key_and_never_the_url() {
        let one = |keys: &str| problems(&format!("[[source]]\nname = \"orders\"\n{keys}"));
        let postgres = "kind = \"postgres\"\nurl = \"postgres://app:hunter2@db/app\"\n";
        assert_eq!(one(postgres), "");
        for (keys, key) in [
            (
                "kind = \"postgres\"\nurl = \"mysql://app:hunter2@db/app\"",
                "url",
            ),
            ("kind = \"redis\"\nurl = \"http://app:hunter2@db\"", "url"),
            ("kind = \"nats\"\nurl = \"nats//app:hunter2@db\"", "url"),
            (
                "kind = \"nats\"\nurl = \"nats://db\"\nstream = \"\"",
                "stream",
            ),
            (&format!("{postgres}poll = \"0s\""), "poll"),
            (&format!("{postgres}channel = \"a b\""), "channel"),
            (&format!("{postgres}event_type = \"9\""), "event_type"),
            (
                &format!("{postgres}credentials_file = \"a\""),
                "credentials_file",
            ),
        ] {
            let says = one(keys);
            assert!(
                says.contains(&format!("source[0].{key}: ")),
                "{keys}: {says}"
            );
            assert!(!says.contains("hunter2"), "{says}");
        }
        let twice = format!("[[source]]\nname = \"a\"\n{postgres}");
        assert!(problems(&format!("{twice}{twice}")).contains("declared twice"));
    }
}
