//! The arguments of a client's message, parsed one by one with errors that name them.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::event::strict_json::{self, OffsetText, Text};
use crate::event::{Position, names_receivers};
use crate::protocol::command::Kind;
use crate::protocol::custom::Template;
use crate::protocol::request::GivenId;

/// The members of a message; values are parsed on demand.
pub(in crate::protocol) struct Arguments<'a> {
    outer: HashMap<Cow<'a, str>, &'a RawValue>,
    inner: HashMap<Cow<'a, str>, &'a RawValue>,
    /// Renamed members: the client's name and the built-in one.
    renamed: &'a [(String, String)],
    /// The template of the channel names, if the message does not name channels.
    template: Option<&'a Template>,
}

impl<'a> Arguments<'a> {
    /// Parses a message.
    ///
    /// # Errors
    ///
    /// `invalid_argument` if it is not a JSON object, or a member is duplicate.
    pub(in crate::protocol) fn parse(text: &'a str) -> Result<Self> {
        let text = strict_json::without_bom(text.as_bytes());
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(Error::invalid("expected a JSON object with a `type`"));
        }
        Ok(Arguments {
            outer: strict_json::members(text)?,
            inner: HashMap::new(),
            renamed: &[],
            template: None,
        })
    }

    /// Also takes arguments from the object under `data`, if there is one. Not for messages whose
    /// `data` is a payload.
    ///
    /// # Errors
    /// `invalid_argument` as for [`Arguments::parse`].
    pub(in crate::protocol) fn with_data(mut self) -> Result<Self> {
        if let Some(data) = self.outer.get("data")
            && data.get().starts_with('{')
        {
            self.inner = strict_json::members(data.get().as_bytes())
                .map_err(|error| error.within("data"))?;
        }
        Ok(self)
    }

    /// Reads members under other names, and builds channel names from a template.
    #[must_use]
    pub(in crate::protocol) fn translated(
        mut self,
        renamed: &'a [(String, String)],
        template: Option<&'a Template>,
    ) -> Self {
        self.renamed = renamed;
        self.template = template;
        self
    }

    /// Whether the message itself, not the object under its `data`, names a channel.
    #[must_use]
    pub(in crate::protocol) fn names_channel(&self) -> bool {
        let renamed = self.renamed.iter().filter(|(_, ours)| ours == "channel");
        let of_template = self.template.into_iter().flat_map(Template::members);
        self.has_outer("channel")
            || renamed
                .into_iter()
                .any(|(theirs, _)| self.has_outer(theirs))
            || of_template.into_iter().any(|member| self.has_outer(member))
    }

    /// Whether the message itself has this member.
    #[must_use]
    pub(in crate::protocol) fn has_outer(&self, name: &str) -> bool {
        self.outer.contains_key(name)
    }

    /// An argument as raw JSON, `null` included.
    #[must_use]
    pub(in crate::protocol) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        match self.their_name(name) {
            Some(theirs) => self.member(theirs),
            None => self.member(name),
        }
    }

    /// The client's name of a renamed argument, if the message has it.
    fn their_name(&self, name: &str) -> Option<&'a str> {
        let mut renamed = self.renamed.iter().filter(|(_, ours)| ours == name);
        renamed
            .find(|(theirs, _)| self.member(theirs).is_some())
            .map(|(theirs, _)| theirs.as_str())
    }

    /// Refuses members that the command does not have, because they would be ignored silently.
    /// Without `all`, only members that name receivers are refused.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the member.
    pub(in crate::protocol) fn only(&self, kind: Kind, all: bool) -> Result<()> {
        // Clients send a timestamp with any message; in a `publish` it would be the event's time.
        let is_envelope = |name: &str| {
            matches!(name, "type" | "id" | "data") || (name == "timestamp" && kind != Kind::Publish)
        };
        let is_known = |name: &str| {
            let mut made_of = self.template.into_iter().flat_map(Template::members);
            is_envelope(name)
                || kind.members().contains(&name)
                || self.renamed.iter().any(|(theirs, _)| theirs == name)
                || made_of.any(|member| member == name)
        };
        let names = self.outer.keys().chain(self.inner.keys());
        let mut unknown = names.filter(|name| !is_known(name));
        let Some(name) = unknown.find(|name| all || names_receivers(name)) else {
            return Ok(());
        };
        let name: String = name.chars().take(64).collect();
        let expected = format!("expected one of {}", kind.members().join(", "));
        Err(Error::field(name, expected))
    }

    /// The error of an argument, under the client's name for it.
    fn wrong(&self, name: &'static str, expected: &'static str) -> Error {
        match self.their_name(name) {
            Some(theirs) => Error::field(theirs.to_owned(), expected),
            None => Error::field(name, expected),
        }
    }

    /// A member of the client's message under its own name.
    pub(in crate::protocol) fn member(&self, name: &str) -> Option<&'a RawValue> {
        let found = match self.outer.get(name) {
            // A `data` object that contains the arguments is not an argument itself.
            Some(_) if name == "data" && !self.inner.is_empty() => self.inner.get(name),
            Some(value) => Some(value),
            None => self.inner.get(name),
        };
        found.copied()
    }

    /// An argument; `null` counts as absent.
    #[must_use]
    pub(in crate::protocol) fn given(&self, name: &str) -> Option<&'a RawValue> {
        self.raw(name).filter(|value| value.get() != "null")
    }

    fn take<T: Deserialize<'a>>(
        &self,
        name: &'static str,
        expected: &'static str,
    ) -> Result<Option<T>> {
        let Some(raw) = self.given(name) else {
            return Ok(None);
        };
        serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|_| self.wrong(name, expected))
    }

    /// A string.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the field if it has another type.
    pub(in crate::protocol) fn text(&self, name: &'static str) -> Result<Option<Cow<'a, str>>> {
        Ok(self
            .take::<Text<'a>>(name, "expected a string")?
            .map(|text| text.0))
    }

    /// A required string.
    ///
    /// # Errors
    ///
    /// As [`Arguments::text`], and if it is missing.
    pub(in crate::protocol) fn required_text(&self, name: &'static str) -> Result<Cow<'a, str>> {
        self.text(name)?
            .ok_or_else(|| self.wrong(name, "expected a string, and it is missing"))
    }

    /// The channels of the message: listed, or from the template.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the field.
    pub(in crate::protocol) fn channels(&self) -> Result<Vec<String>> {
        let Some(template) = self.template else {
            return self.texts("channels");
        };
        let channels = template.fill(|member| self.member(member))?;
        if channels.is_empty() {
            let member = template.members().next().unwrap_or("channels").to_owned();
            return Err(Error::field(member, "expected one value or more"));
        }
        Ok(channels)
    }

    /// The channel of the message.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the field.
    pub(in crate::protocol) fn channel(&self) -> Result<String> {
        let Some(template) = self.template else {
            return Ok(self.required_text("channel")?.into_owned());
        };
        let mut channels = template.fill(|member| self.member(member))?;
        if let (Some(channel), true) = (channels.pop(), channels.is_empty()) {
            return Ok(channel);
        }
        let member = template.members().next().unwrap_or("channel").to_owned();
        Err(Error::field(member, "expected one value, not a list"))
    }

    /// A list of strings; empty if it is missing.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the field if it has another type.
    pub(in crate::protocol) fn texts(&self, name: &'static str) -> Result<Vec<String>> {
        Ok(self
            .take(name, "expected a list of strings")?
            .unwrap_or_default())
    }

    /// A whole number.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the field if it has another type.
    pub(in crate::protocol) fn number(&self, name: &'static str) -> Result<Option<u32>> {
        self.take(name, "expected a whole number from 0 to 4294967295")
    }

    /// A boolean; false if it is missing.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the field if it has another type.
    pub(in crate::protocol) fn flag(&self, name: &'static str) -> Result<bool> {
        Ok(self
            .take(name, "expected true or false")?
            .unwrap_or_default())
    }

    /// Pairs of strings; none if it is missing.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the field if it has another type.
    pub(in crate::protocol) fn pairs(&self, name: &'static str) -> Result<HashMap<String, String>> {
        let expected = "expected an object of strings, each name once";
        let Some(raw) = self.given(name) else {
            return Ok(HashMap::new());
        };
        strict_json::pairs(raw).ok_or_else(|| self.wrong(name, expected))
    }

    /// A position `{epoch, offset}`.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the field if it has another type.
    pub(in crate::protocol) fn position(&self, name: &'static str) -> Result<Option<Position>> {
        let wire: Option<WirePosition> = self.take(name, "expected {epoch, offset}")?;
        wire.map(WirePosition::position).transpose()
    }

    /// Positions by channel.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the field if it has another type.
    pub(in crate::protocol) fn positions(
        &self,
        name: &'static str,
    ) -> Result<HashMap<String, Position>> {
        let wrong = || {
            self.wrong(
                name,
                "expected {channel: {epoch, offset}}, each channel once",
            )
        };
        let Some(raw) = self.given(name) else {
            return Ok(HashMap::new());
        };
        let members = strict_json::members(raw.get().as_bytes()).map_err(|_| wrong())?;
        let positions = members.into_iter().map(|(channel, wire)| {
            let wire: WirePosition = serde_json::from_str(wire.get()).map_err(|_| wrong())?;
            Ok((channel.into_owned(), wire.position()?))
        });
        positions.collect()
    }
}

#[derive(Deserialize)]
struct WirePosition {
    epoch: String,
    offset: OffsetText,
}

impl WirePosition {
    fn position(self) -> Result<Position> {
        let epoch = self
            .epoch
            .parse()
            .map_err(|error: Error| error.within("since"))?;
        Ok(Position {
            epoch,
            offset: self.offset.0,
        })
    }
}

/// The longest `id` of a message, in bytes: a string's text, or a number's digits.
const MAX_ID: usize = 255;

/// The `id` of a message, to be echoed: a string or a number, which keeps its digits.
///
/// # Errors
///
/// `invalid_argument` for the field `id`.
pub(in crate::protocol) fn request_id(arguments: &Arguments<'_>) -> Result<Option<GivenId>> {
    let Some(raw) = arguments
        .outer
        .get("id")
        .copied()
        .filter(|raw| raw.get() != "null")
    else {
        return Ok(None);
    };
    let id = match raw.get().as_bytes().first() {
        Some(b'"') => serde_json::from_str::<Text<'_>>(raw.get())
            .ok()
            .filter(|text| text.0.len() <= MAX_ID)
            .map(|text| GivenId::Text(Box::from(&*text.0))),
        Some(b'-' | b'0'..=b'9') if raw.get().len() <= MAX_ID => {
            let number = strict_json::check(raw.get().as_bytes());
            number
                .is_ok()
                .then(|| GivenId::Number(Box::from(raw.get())))
        }
        _ => None,
    };
    let expected = "expected a string or a number, of at most 255 bytes";
    id.map(Some).ok_or_else(|| Error::field("id", expected))
}

/// For `fuzz/`: parses any text as a message, and every argument by its type.
#[cfg(feature = "fuzzing")]
pub(in crate::protocol) fn read_all(text: &str) {
    let Ok(arguments) = Arguments::parse(text) else {
        return;
    };
    let Ok(arguments) = arguments.with_data() else {
        return;
    };
    drop(request_id(&arguments));
    for name in [
        "type",
        "channel",
        "event_type",
        "filter",
        "key",
        "traceparent",
    ] {
        drop(arguments.text(name));
    }
    drop((arguments.texts("channels"), arguments.texts("event_types")));
    drop((arguments.position("since"), arguments.positions("since")));
    drop((arguments.number("rewind"), arguments.flag("presence")));
    drop(
        arguments
            .pairs("headers")
            .and_then(crate::event::Headers::new),
    );
    drop(arguments.raw("data").map(crate::event::Payload::from_json));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_at_top_level_or_under_data() {
        let top = Arguments::parse(r#"{"type":"subscribe","channels":["a"]}"#)
            .unwrap()
            .with_data()
            .unwrap();
        let under = Arguments::parse(r#"{"type":"subscribe","data":{"channels":["a"]}}"#)
            .unwrap()
            .with_data()
            .unwrap();
        assert_eq!(top.texts("channels").unwrap(), ["a"]);
        assert_eq!(under.texts("channels").unwrap(), ["a"]);
    }

    #[test]
    fn argument_of_wrong_type_is_named() {
        let arguments =
            Arguments::parse(r#"{"channels":[1],"rewind":-1,"since":{"a":{"epoch":"x"}}}"#)
                .unwrap();
        assert_eq!(
            arguments.texts("channels").unwrap_err().field_name(),
            Some("channels")
        );
        assert_eq!(
            arguments.number("rewind").unwrap_err().field_name(),
            Some("rewind")
        );
        assert_eq!(
            arguments.positions("since").unwrap_err().field_name(),
            Some("since")
        );
    }

    #[test]
    fn non_object_message_is_refused() {
        for text in ["", "[]", "1", "\"x\"", "nul", "{", "{\"a\":}"] {
            assert!(Arguments::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ids_are_strings_or_numbers() {
        let id = |text: &str| request_id(&Arguments::parse(text).unwrap());
        let number = |text: &str| Some(GivenId::Number(text.into()));
        let text = |text: &str| Some(GivenId::Text(text.into()));
        assert_eq!(id(r#"{"id":7}"#).unwrap(), number("7"));
        let big = "18446744073709551616";
        assert_eq!(id(&format!(r#"{{"id":{big}}}"#)).unwrap(), number(big));
        assert_eq!(id(r#"{"id":-1.50e3}"#).unwrap(), number("-1.50e3"));
        assert_eq!(id(r#"{"id":"a\u0062"}"#).unwrap(), text("ab"));
        assert_eq!(id(r#"{"id":null}"#).unwrap(), None);
        let long = format!(r#"{{"id":{}}}"#, "1".repeat(256));
        for wrong in [
            r#"{"id":[]}"#,
            r#"{"id":"\ud800"}"#,
            r#"{"id":1e400}"#,
            &long,
        ] {
            assert_eq!(id(wrong).unwrap_err().field_name(), Some("id"), "{wrong}");
        }
    }

    #[test]
    fn duplicate_member_is_named() {
        let field = |text| {
            let read = Arguments::parse(text).and_then(Arguments::with_data);
            let read = read.and_then(|arguments| {
                arguments.pairs("headers")?;
                arguments.positions("since")
            });
            read.unwrap_err().field_name().map(str::to_owned)
        };
        for (text, name) in [
            (r#"{"type":"ping","type":"pong"}"#, "type"),
            (r#"{"data":{"limit":1,"limit":2}}"#, "data.limit"),
            (r#"{"headers":{"a":"1","a":"2"}}"#, "headers"),
            (
                r#"{"since":{"a":{"epoch":"e","offset":1},"a":{"epoch":"e","offset":2}}}"#,
                "since",
            ),
        ] {
            assert_eq!(field(text).as_deref(), Some(name), "{text}");
        }
    }

    #[test]
    fn offset_is_number_or_string() {
        let since = |offset: &str| {
            let text = format!(r#"{{"since":{{"epoch":"00000000000000aa","offset":{offset}}}}}"#);
            let read = Arguments::parse(&text).unwrap().position("since");
            read.map(|position| position.unwrap().offset)
        };
        assert_eq!(since("9007199254740993").unwrap(), 9_007_199_254_740_993);
        assert_eq!(
            since("\"9007199254740993\"").unwrap(),
            9_007_199_254_740_993
        );
        for wrong in ["1.0", "1e3", "\"1.0\"", "-1", "null"] {
            assert_eq!(
                since(wrong).unwrap_err().field_name(),
                Some("since"),
                "{wrong}"
            );
        }
    }
}
