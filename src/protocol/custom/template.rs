//! Templates of channel names that insert members of a client's message: `session:{session_id}`.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::event::strict_json;

/// The most channels of one message. The session has a lower limit for subscriptions.
const MAX_CHANNELS: usize = 10_000;
/// The longest inserted value, in bytes: the longest channel name.
const MAX_VALUE: usize = 255;

/// A channel name with placeholders for members of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Member(String),
}

impl Template {
    /// Parses a text in which `{name}` stands for the message's member with that name.
    ///
    /// # Errors
    ///
    /// The problem.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, behind) = after.split_once('}').ok_or("expected a } for each {")?;
            if before.contains('}') {
                return Err("expected a { for each }");
            }
            if name.is_empty() || name.contains('{') {
                return Err("expected a member's name between { and }");
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Member(name.to_owned()));
            rest = behind;
        }
        if rest.contains('}') {
            return Err("expected a { for each }");
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        if pieces.is_empty() {
            return Err("expected a channel's name");
        }
        Ok(Template(pieces))
    }

    /// The members that it inserts.
    pub fn members(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Member(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The channel names: one for each value of each member.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the member that is missing, or is not a string, a whole number in
    /// its plain form, or a list of those: `7` and `7.0` must not become two channels, nor two
    /// large numbers the same one.
    pub(in crate::protocol) fn fill<'a>(
        &self,
        member: impl Fn(&str) -> Option<&'a RawValue>,
    ) -> Result<Vec<String>> {
        let mut made = vec![String::new()];
        for piece in &self.0 {
            let (name, values) = match piece {
                Piece::Text(text) => ("", vec![text.clone()]),
                Piece::Member(name) => (name.as_str(), values(name, member(name))?),
            };
            if made.len().saturating_mul(values.len()) > MAX_CHANNELS {
                let text = "expected values that make at most 10000 channels";
                return Err(Error::field(name.to_owned(), text));
            }
            let joined = made
                .iter()
                .flat_map(|before| values.iter().map(move |value| format!("{before}{value}")));
            made = joined.collect();
        }
        Ok(made)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Member(name) => write!(f, "{{{name}}}"),
        })
    }
}

/// The values of a member.
fn values(name: &str, raw: Option<&RawValue>) -> Result<Vec<String>> {
    let wrong = || {
        let text = "expected a string or a whole number such as 7, or a list of those";
        Error::field(name.to_owned(), text)
    };
    let Some(raw) = raw else {
        return Err(wrong().note("and it is missing"));
    };
    let one = |value: &RawValue| {
        let id = strict_json::identifier(value).filter(|id| id.len() <= MAX_VALUE);
        id.map(Cow::into_owned).ok_or_else(wrong)
    };
    if raw.get().starts_with('[') {
        let list: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| wrong())?;
        return list.into_iter().map(one).collect();
    }
    Ok(vec![one(raw)?])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fill(template: &str, json: &str) -> Result<Vec<String>> {
        let members: std::collections::HashMap<String, Box<RawValue>> =
            serde_json::from_str(json).unwrap();
        let template = Template::parse(template).unwrap();
        template.fill(|name| members.get(name).map(|raw| &**raw))
    }

    #[test]
    fn list_member_makes_one_channel_per_value() {
        let filled = |template, json| fill(template, json).unwrap();
        assert_eq!(filled("global", "{}"), ["global"]);
        assert_eq!(filled("s:{id}", r#"{"id":"x"}"#), ["s:x"]);
        assert_eq!(filled("s:{id}/a", r#"{"id":7}"#), ["s:7/a"]);
        assert_eq!(
            filled("s:{id}", r#"{"id":18446744073709551616}"#),
            ["s:18446744073709551616"]
        );
        assert_eq!(
            filled("{room}", r#"{"room":["a:1","b:2"]}"#),
            ["a:1", "b:2"]
        );
        let product = filled("{a}:{b}", r#"{"a":["x","y"],"b":[1,2]}"#);
        assert_eq!(product, ["x:1", "x:2", "y:1", "y:2"]);
        assert_eq!(filled("{a}", r#"{"a":[]}"#), Vec::<String>::new());
    }

    #[test]
    fn invalid_member_is_refused_by_name() {
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(256));
        let many = format!(r#"{{"id":{:?}}}"#, vec![1; 10_001]);
        for json in [
            "{}",
            r#"{"id":null}"#,
            r#"{"id":true}"#,
            r#"{"id":1.0}"#,
            r#"{"id":[1,1e3]}"#,
            r#"{"id":"\ud83d"}"#,
            r#"{"id":{}}"#,
            r#"{"id":[[1]]}"#,
            &long,
            &many,
        ] {
            let error = fill("s:{id}", json).unwrap_err();
            assert_eq!(error.field_name(), Some("id"), "{json}");
        }
    }

    #[test]
    fn invalid_template_is_refused() {
        for text in ["", "{", "}", "a{b", "a}b", "{}", "{{a}}", "a}{b}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn template_display_round_trips(text in "[a-z:{}]{0,12}") {
            if let Ok(template) = Template::parse(&text) {
                prop_assert_eq!(template.to_string(), text);
            }
        }

        #[test]
        fn filled_template_contains_each_value(
            before in "[a-z:]{0,5}", after in "[a-z:]{0,5}", values in prop::collection::vec("[^\u{0}]{0,9}", 0..9),
        ) {
            let template = Template::parse(&format!("{before}{{m}}{after}")).unwrap();
            let json = serde_json::to_string(&values).unwrap();
            let raw = RawValue::from_string(json).unwrap();
            let expected: Vec<String> =
                values.iter().map(|value| format!("{before}{value}{after}")).collect();
            prop_assert_eq!(template.fill(|_| Some(&*raw)).unwrap(), expected);
        }
    }
}
