//! The only reader for JSON from outside.
//!
//! Whatever is accepted must be readable by every later consumer: filters, rules, schemas,
//! conflation and all codecs. All of them use this reader, and [`check`] accepts exactly what
//! [`value`] reads. It accepts RFC 8259 with three restrictions of I-JSON (RFC 7493): no lone
//! surrogates (§2.1), no numbers outside the range of double precision (§2.2), and at most
//! [`MAX_DEPTH`] levels. If an object repeats a name, the last value counts, as in `JSON.parse`.
//! [`members`] refuses repeated names.
//!
//! `serde_json::Value` is never deserialized from outside. With the feature `raw_value`, its
//! implementation treats an object whose first name is `$serde_json::private::RawValue` as JSON
//! within a string, and would read something other than what the client sent.

mod members;
mod numbers;
mod path;
#[cfg(test)]
pub(crate) mod properties;

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

pub use members::{Text, members, pairs};
pub use numbers::{OffsetText, identifier, with_exact_numbers};
pub use path::find;

/// The deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 64;

/// The deepest nesting in operators' files, which is `serde_json`'s own limit.
const OPERATORS_DEPTH: usize = 127;

/// The byte order mark in UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Why a text is not acceptable JSON. It never contains parts of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// It begins with a byte order mark.
    Bom,
    /// Its nesting exceeds this many levels.
    Deep(usize),
    /// It is not UTF-8.
    Encoding,
    /// An object repeats a name.
    TwiceNamed,
    /// It violates the grammar, or contains a lone surrogate or a number out of range.
    Grammar {
        /// Starts at 1.
        line: usize,
        /// Starts at 1, in bytes.
        column: usize,
        /// What the parser expected or found.
        reason: String,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Bom => f.write_str("expected JSON without a byte order mark (RFC 8259 §8.1)"),
            Flaw::Deep(most) => write!(f, "expected JSON at most {most} levels deep"),
            Flaw::Encoding => f.write_str("expected JSON in UTF-8"),
            Flaw::TwiceNamed => f.write_str("expected each name once in an object"),
            Flaw::Grammar {
                line,
                column,
                reason,
            } => write!(
                f,
                "expected valid JSON: line {line} column {column}: {reason}"
            ),
        }
    }
}

impl std::error::Error for Flaw {}

impl Flaw {
    /// Maps an error of `serde_json`.
    #[must_use]
    pub fn of(error: &serde_json::Error, text: &[u8]) -> Self {
        if text.starts_with(BOM) {
            return Flaw::Bom;
        }
        if std::str::from_utf8(text).is_err() {
            return Flaw::Encoding;
        }
        let (line, column) = (error.line(), error.column());
        let mut reason = error.to_string();
        if let Some(at) = reason.rfind(" at line ") {
            reason.truncate(at);
        }
        if reason.contains("surrogate") || reason == "unexpected end of hex escape" {
            reason = String::from("a lone surrogate (RFC 7493 §2.1)");
        }
        Flaw::Grammar {
            line,
            column,
            reason,
        }
    }
}

/// The text without its byte order mark. RFC 8259 §8.1 lets parsers ignore one. Bodies of requests,
/// messages and schema files may have one.
#[must_use]
pub fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(BOM).unwrap_or(text)
}

/// Accepts exactly what [`value`] reads, without building a value.
///
/// # Errors
/// The first flaw.
pub fn check(text: &[u8]) -> Result<(), Flaw> {
    read(text, MAX_DEPTH, Check)
}

/// Like [`check`], and refuses repeated names at any depth.
///
/// # Errors
/// The first flaw.
pub fn check_names_once(text: &[u8]) -> Result<(), Flaw> {
    read(text, MAX_DEPTH, NamesOnce)
}

/// Parses a text. Integers beyond 64 bits are rounded to double precision.
///
/// # Errors
/// The first flaw.
pub fn value(text: &[u8]) -> Result<Value, Flaw> {
    read(text, MAX_DEPTH, Build)
}

/// Like [`value`], for operators' files. A schema nests twice as deep as the values that it
/// describes.
///
/// # Errors
/// The first flaw.
pub fn operators_value(text: &[u8]) -> Result<Value, Flaw> {
    read(text, OPERATORS_DEPTH, Build)
}

/// The result of reading a text. Both implementations are driven by the same visitor, so neither
/// accepts what the other refuses.
trait Reading: Copy {
    type Made;
    type Items: Default;
    type Entries: Default;
    fn scalar(self, value: impl FnOnce() -> Value) -> Self::Made;
    fn item(self, items: &mut Self::Items, made: Self::Made);
    fn items(self, items: Self::Items) -> Self::Made;
    /// Returns false if the name must not occur here.
    fn entry(self, entries: &mut Self::Entries, name: &str, made: Self::Made) -> bool;
    fn entries(self, entries: Self::Entries) -> Self::Made;
}

/// Builds nothing. This runs for every publish.
#[derive(Clone, Copy)]
struct Check;

impl Reading for Check {
    type Made = ();
    type Items = ();
    type Entries = ();

    fn scalar(self, _: impl FnOnce() -> Value) {}

    fn item(self, (): &mut (), (): ()) {}

    fn items(self, (): ()) {}

    fn entry(self, (): &mut (), _: &str, (): ()) -> bool {
        true
    }

    fn entries(self, (): ()) {}
}

/// Builds nothing, but records the names of each object.
#[derive(Clone, Copy)]
struct NamesOnce;

impl Reading for NamesOnce {
    type Made = ();
    type Items = ();
    type Entries = HashSet<Box<str>>;

    fn scalar(self, _: impl FnOnce() -> Value) {}

    fn item(self, (): &mut (), (): ()) {}

    fn items(self, (): ()) {}

    fn entry(self, names: &mut HashSet<Box<str>>, name: &str, (): ()) -> bool {
        names.insert(Box::from(name))
    }

    fn entries(self, _: HashSet<Box<str>>) {}
}

#[derive(Clone, Copy)]
struct Build;

impl Reading for Build {
    type Made = Value;
    type Items = Vec<Value>;
    type Entries = Map<String, Value>;

    fn scalar(self, value: impl FnOnce() -> Value) -> Value {
        value()
    }

    fn item(self, items: &mut Vec<Value>, made: Value) {
        items.push(made);
    }

    fn items(self, items: Vec<Value>) -> Value {
        Value::Array(items)
    }

    fn entry(self, entries: &mut Map<String, Value>, name: &str, made: Value) -> bool {
        entries.insert(name.to_owned(), made);
        true
    }

    fn entries(self, entries: Map<String, Value>) -> Value {
        Value::Object(entries)
    }
}

fn read<R: Reading>(text: &[u8], most: usize, reading: R) -> Result<R::Made, Flaw> {
    // Checking UTF-8 once for the whole text is faster than the parser's check of each string.
    let as_text = std::str::from_utf8(text).map_err(|_| Flaw::Encoding)?;
    let mut parser = serde_json::Deserializer::from_str(as_text);
    let at = Level {
        reading,
        left: most,
    };
    let made = at.deserialize(&mut parser);
    let whole = made.and_then(|made| parser.end().map(|()| made));
    whole.map_err(|error| match (error.is_data(), Flaw::of(&error, text)) {
        (true, Flaw::Grammar { reason, .. }) if reason == TOO_DEEP => Flaw::Deep(most),
        (true, Flaw::Grammar { reason, .. }) if reason == TWICE => Flaw::TwiceNamed,
        (false, Flaw::Grammar { reason, .. }) if reason == PARSERS_DEPTH => Flaw::Deep(most),
        (_, flaw) => flaw,
    })
}

const TOO_DEEP: &str = "too deep";
const TWICE: &str = "a name stands twice";
/// The message of `serde_json` at its own depth limit.
const PARSERS_DEPTH: &str = "recursion limit exceeded";

/// Reads a value with this many levels of nesting left, which bounds the recursion.
#[derive(Clone, Copy)]
struct Level<R> {
    reading: R,
    left: usize,
}

impl<R> Level<R> {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        let left = self.left.checked_sub(1);
        let left = left.ok_or_else(|| E::custom(TOO_DEEP))?;
        Ok(Level { left, ..self })
    }
}

impl<'de, R: Reading> DeserializeSeed<'de> for Level<R> {
    type Value = R::Made;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<R::Made, D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'de, R: Reading> Visitor<'de> for Level<R> {
    type Value = R::Made;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<R::Made, E> {
        Ok(self.reading.scalar(|| Value::Null))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<R::Made, E> {
        Ok(self.reading.scalar(|| Value::Bool(truth)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<R::Made, E> {
        Ok(self.reading.scalar(|| Value::from(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<R::Made, E> {
        Ok(self.reading.scalar(|| Value::from(number)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<R::Made, E> {
        // The parser refuses numbers that are not finite.
        let number = Number::from_f64(number);
        Ok(self
            .reading
            .scalar(|| number.map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<R::Made, E> {
        Ok(self.reading.scalar(|| Value::from(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<R::Made, A::Error> {
        let below = self.below()?;
        let mut items = R::Items::default();
        while let Some(made) = list.next_element_seed(below)? {
            self.reading.item(&mut items, made);
        }
        Ok(self.reading.items(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<R::Made, A::Error> {
        let below = self.below()?;
        let mut entries = R::Entries::default();
        while let Some(name) = object.next_key::<Text<'de>>()? {
            let made = object.next_value_seed(below)?;
            if !self.reading.entry(&mut entries, &name.0, made) {
                return Err(A::Error::custom(TWICE));
            }
        }
        Ok(self.reading.entries(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_json_is_refused_with_reason() {
        for (text, expected) in [
            (r#"{"t":"\ud83d"}"#, "line 1 column 13: a lone surrogate"),
            (r#"{"\ud83d":1}"#, "a lone surrogate"),
            (r#"["\ud83dx"]"#, "a lone surrogate"),
            (r#"["\udc00"]"#, "a lone surrogate"),
            ("[1e400]", "line 1 column 6: number out of range"),
            ("-1e309", "number out of range"),
            ("\u{feff}{}", "without a byte order mark"),
            ("{} x", "trailing characters"),
            ("", "EOF"),
            ("\"\u{0}\"", "control character"),
        ] {
            let flaw = check(text.as_bytes()).unwrap_err().to_string();
            assert!(flaw.contains(expected), "{text}: {flaw}");
            assert_eq!(value(text.as_bytes()).unwrap_err().to_string(), flaw);
        }
        assert_eq!(check(b"\"\xff\""), Err(Flaw::Encoding));
        let deep = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(check(deep(64).as_bytes()), Ok(()));
        assert_eq!(check(deep(65).as_bytes()), Err(Flaw::Deep(64)));
        assert!(operators_value(deep(127).as_bytes()).is_ok());
        let too_deep = operators_value(deep(128).as_bytes());
        assert_eq!(too_deep, Err(Flaw::Deep(127)));
        assert_eq!(check("[".repeat(1 << 20).as_bytes()), Err(Flaw::Deep(64)));
    }

    #[test]
    fn odd_but_unambiguous_json_is_accepted() {
        let read = |text: &str| value(text.as_bytes()).unwrap();
        assert_eq!(read(r#""a\u0000b""#), Value::from("a\0b"));
        assert_eq!(read(r#""\ud83d\ude00""#), Value::from("😀"));
        assert_eq!(read(r#"{"a":1,"a":2}"#)["a"], 2, "the last counts");
        assert_eq!(read("18446744073709551615"), Value::from(u64::MAX));
        assert_eq!(
            read("9007199254740993"),
            Value::from(9_007_199_254_740_993_u64)
        );
        assert_eq!(read("1e-400"), Value::from(0.0));
        let long = format!("0.{}", "1".repeat(100_000));
        assert!(read(&long).is_f64());
    }

    #[test]
    fn raw_value_token_is_an_ordinary_name() {
        let text = br#"{"$serde_json::private::RawValue":"[1]"}"#;
        let read = value(text).unwrap();
        assert_eq!(read["$serde_json::private::RawValue"], "[1]");
        assert_eq!(check(br#"{"$serde_json::private::RawValue":5}"#), Ok(()));
        assert_eq!(check(br#"{"$serde_json::private::Number":5}"#), Ok(()));
    }

    #[test]
    fn duplicate_names_are_refused_at_any_depth() {
        assert_eq!(check_names_once(br#"{"a":{"b":1},"b":1}"#), Ok(()));
        for twice in [r#"{"a":1,"a":1}"#, r#"[{"a":{"b":1,"\u0062":2}}]"#] {
            assert_eq!(check_names_once(twice.as_bytes()), Err(Flaw::TwiceNamed));
        }
    }
}
