//! Splits an object into its direct members.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Flaw, without_bom};
use crate::error::{Error, Result};

/// The longest part of a client's name in an error, in characters.
const MAX_EXCERPT: usize = 64;

/// A string. It borrows from the JSON if that has no escapes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// The members of a request's object. Their values stay raw JSON and are not checked. A leading
/// byte order mark is skipped.
///
/// # Errors
/// `invalid_argument` if the text is not a JSON object. Also if a name is repeated, because readers
/// differ in whether the first or the last value counts.
pub fn members(text: &[u8]) -> Result<HashMap<Cow<'_, str>, &RawValue>> {
    let text = without_bom(text);
    let mut parser = serde_json::Deserializer::from_slice(text);
    let read = parser.deserialize_map(Whole);
    match read.and_then(|object| parser.end().map(|()| object)) {
        Ok(Object {
            twice: Some(name), ..
        }) => Err(Error::field(name, "expected once, but it is duplicate")),
        Ok(object) => Ok(object.members),
        Err(error) => Err(Error::invalid(Flaw::of(&error, text).to_string())),
    }
}

/// Parses an object of strings. `None` if it is not one, or if a name is repeated.
#[must_use]
pub fn pairs(raw: &RawValue) -> Option<HashMap<String, String>> {
    let members = members(raw.get().as_bytes()).ok()?.into_iter();
    let pairs = members.map(|(name, value)| {
        let value: String = serde_json::from_str(value.get()).ok()?;
        Some((name.into_owned(), value))
    });
    pairs.collect()
}

#[derive(Default)]
struct Object<'a> {
    members: HashMap<Cow<'a, str>, &'a RawValue>,
    /// The first repeated name.
    twice: Option<String>,
}

struct Whole;

impl<'de> Visitor<'de> for Whole {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = Object::default();
        while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            match object.members.entry(name.0) {
                Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                Entry::Occupied(entry) if object.twice.is_none() => {
                    object.twice = Some(entry.key().chars().take(MAX_EXCERPT).collect());
                }
                Entry::Occupied(_) => {}
            }
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_member_is_refused() {
        let taken = members(b"\xef\xbb\xbf { \"a\" : 1 , \"\\u0062\":[ ] }").unwrap();
        assert_eq!((taken["a"].get(), taken["b"].get()), ("1", "[ ]"));
        for twice in [r#"{"a":1,"b":2,"a":1}"#, r#"{"a":1,"\u0061":null,"a":2}"#] {
            let error = members(twice.as_bytes()).unwrap_err();
            assert_eq!(error.field_name(), Some("a"), "{twice}");
        }
        for broken in ["", "[]", "5", "{", "{} {}", "{\"a\":}", "{\"\\ud800\":1}"] {
            assert!(members(broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
