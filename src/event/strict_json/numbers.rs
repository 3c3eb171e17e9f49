//! Numbers used as identifiers: their digits are preserved.
//!
//! Double precision cannot distinguish adjacent integers beyond 2^53, and `1`, `1.0` and `1e0`
//! spell one number. An identifier must be subject to neither.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Text, check, value};

/// True for an integer in canonical form: no fraction, no exponent, no leading zero.
fn is_whole(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    let zero = number == "0";
    let plain = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    zero || (plain && !digits.is_empty())
}

/// The identifier that a value represents: the text of a string, or the digits of an integer.
/// `None` for everything else, including `1.0` and `1e3`.
#[must_use]
pub fn identifier(raw: &RawValue) -> Option<Cow<'_, str>> {
    match raw.get() {
        text if text.starts_with('"') => Some(serde_json::from_str::<Text<'_>>(text).ok()?.0),
        number if is_whole(number) => Some(Cow::Borrowed(number)),
        _ => None,
    }
}

/// Parses a value, with integers beyond 64 bits as strings of their digits. Such numbers are
/// identifiers, and rounding must not merge two of them. `None` if [`check`] refuses the text.
#[must_use]
pub fn with_exact_numbers(text: &str) -> Option<Value> {
    check(text.as_bytes()).ok()?;
    exact(text.trim_ascii())
}

/// The recursion is bounded, because [`check`] has checked the depth.
fn exact(text: &str) -> Option<Value> {
    match text.as_bytes().first()? {
        b'{' => {
            let entries: HashMap<Text<'_>, &RawValue> = serde_json::from_str(text).ok()?;
            let entries = entries.into_iter();
            let entries = entries.map(|(name, raw)| Some((name.0.into_owned(), exact(raw.get())?)));
            entries.collect::<Option<Map<_, _>>>().map(Value::Object)
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let items = items.into_iter().map(|raw| exact(raw.get()));
            items.collect::<Option<_>>().map(Value::Array)
        }
        _ => {
            let read = value(text.as_bytes()).ok()?;
            let rounded = read.is_f64() && is_whole(text);
            Some(if rounded { Value::from(text) } else { read })
        }
    }
}

/// An offset: `7`, or `"7"`, as CloudEvents need it, whose integers have 32 bits (§4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetText(pub u64);

impl<'de> Deserialize<'de> for OffsetText {
    fn deserialize<D: Deserializer<'de>>(parser: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = OffsetText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, or a string of one")
            }

            fn visit_u64<E>(self, number: u64) -> Result<OffsetText, E> {
                Ok(OffsetText(number))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OffsetText, E> {
                let number = is_whole(text).then(|| text.parse().ok()).flatten();
                let wrong = || E::custom("expected a whole number");
                number.map(OffsetText).ok_or_else(wrong)
            }
        }
        parser.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn identifier_is_string_or_integer_digits() {
        for (json, id) in [
            (r#""a\u0062""#, Some("ab")),
            ("7", Some("7")),
            ("0", Some("0")),
            ("-7", Some("-7")),
            ("18446744073709551616", Some("18446744073709551616")),
            ("10000000000000000000001", Some("10000000000000000000001")),
            ("1.0", None),
            ("1e3", None),
            ("-0", None),
            ("true", None),
            ("null", None),
            ("[1]", None),
            (r#""\ud800""#, None),
        ] {
            assert_eq!(identifier(&raw(json)).as_deref(), id, "{json}");
        }
    }

    #[test]
    fn integers_beyond_64_bits_keep_digits() {
        let text = r#" {"a":[10000000000000000000001,18446744073709551615],"b":{"c":-9223372036854775809,"d":1e22},"b2":"x"} "#;
        let read = with_exact_numbers(text).unwrap();
        assert_eq!(read["a"][0], "10000000000000000000001");
        assert_eq!(read["a"][1], u64::MAX);
        assert_eq!(read["b"]["c"], "-9223372036854775809");
        assert_eq!(read["b"]["d"], 1e22);
        assert_eq!(with_exact_numbers(r#"{"a":"\ud800"}"#), None);
        assert_eq!(with_exact_numbers("[1e400]"), None);
        let twice = with_exact_numbers(r#"{"a":1,"a":2}"#).unwrap();
        assert_eq!(twice["a"], 2, "as everywhere the last counts");
    }

    #[test]
    fn offset_may_be_a_string() {
        let read = |text| serde_json::from_str::<OffsetText>(text).ok();
        assert_eq!(read("7"), Some(OffsetText(7)));
        assert_eq!(
            read(r#""18446744073709551615""#),
            Some(OffsetText(u64::MAX))
        );
        for wrong in [
            r#""""#,
            r#""+7""#,
            r#""07""#,
            r#""-1""#,
            "7.0",
            "-1",
            "null",
            r#""18446744073709551616""#,
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
