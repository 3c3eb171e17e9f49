//! Reads one member deep within an object and skips the rest.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Text;

/// The value at this path of names. `None` if a step is not an object or lacks the name. If a name
/// is repeated, the last value counts.
pub fn find<'a>(
    text: &'a [u8],
    path: impl Iterator<Item = impl AsRef<str>>,
) -> Option<&'a RawValue> {
    let mut at: Option<&'a RawValue> = None;
    for step in path {
        let inside = at.map_or(text, |raw| raw.get().as_bytes());
        if inside.trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        let mut parser = serde_json::Deserializer::from_slice(inside);
        at = Some(parser.deserialize_map(Step(step.as_ref())).ok()??);
    }
    at
}

struct Step<'n>(&'n str);

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<Text<'de>>()? {
            if name.0 == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_traverses_objects_only() {
        let at = |text: &'static str, path: &str| {
            find(text.as_bytes(), path.split('.')).map(RawValue::get)
        };
        assert_eq!(at(r#" {"a":{"b": 1.50}}"#, "a.b"), Some("1.50"));
        assert_eq!(at(r#"{"a":1,"\u0061":2}"#, "a"), Some("2"));
        for (text, path) in [
            ("5", "a"),
            ("[{\"a\":1}]", "0"),
            (r#"{"a":1}"#, "a.b"),
            ("{}", "a"),
        ] {
            assert_eq!(at(text, path), None, "{text}");
        }
    }
}
