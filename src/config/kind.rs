//! The kinds of values that keys take.

use std::net::SocketAddr;

use toml_edit::{Item, Value};

use super::{duration, json};

/// The largest number of things or bytes that a key accepts by default.
pub(super) const MANY: i64 = 1 << 40;

/// A kind of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// A path; a relative one in a file is relative to that file's directory.
    Path,
    /// An IP address with a port.
    Address,
    /// A string that [`duration::parse`] accepts.
    Duration,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A whole number from the first to the second.
    Whole(i64, i64),
    /// A number from 0 to 1.
    Ratio,
    /// True or false.
    Bool,
    /// An array of texts.
    List,
    /// A text, or an array of texts.
    TextOrList,
    /// JSON, as a text or written in TOML.
    Json,
    /// An array of tables.
    Tables,
    /// A table of texts with arbitrary names.
    Texts,
    /// A table of texts, or arrays of texts, with arbitrary names.
    Names,
}

impl Kind {
    /// The kind of the values in a table with arbitrary names; `None` for other kinds.
    pub(super) fn of_each(self) -> Option<Kind> {
        match self {
            Kind::Texts => Some(Kind::Text),
            Kind::Names => Some(Kind::TextOrList),
            Kind::Text
            | Kind::Path
            | Kind::Address
            | Kind::Duration
            | Kind::OneOf(_)
            | Kind::Whole(..)
            | Kind::Ratio
            | Kind::Bool
            | Kind::List
            | Kind::TextOrList
            | Kind::Json
            | Kind::Tables => None,
        }
    }

    /// A summary of the accepted values, for the reference.
    pub(super) fn summary(self) -> String {
        String::from(match self {
            Kind::Text => "text",
            Kind::Path => "path",
            Kind::Address => "address",
            Kind::Duration => "duration",
            Kind::OneOf(_) => "choice",
            Kind::Whole(least, MANY | 4_294_967_295) => return format!("number ≥ {least}"),
            Kind::Whole(least, most) => return format!("{least} to {most}"),
            Kind::Ratio => "0 to 1",
            Kind::Bool => "boolean",
            Kind::List => "texts",
            Kind::TextOrList => "text or texts",
            Kind::Json => "table, or JSON in a text",
            Kind::Tables => "tables",
            Kind::Texts | Kind::Names => "table",
        })
    }

    /// The expected form, for error messages.
    pub(super) fn expected(self) -> String {
        match self {
            Kind::Text => String::from("expected a text in quotes"),
            Kind::Path => String::from("expected a path in quotes"),
            Kind::Address => {
                String::from("expected an IP address with a port, such as \"127.0.0.1:8000\"")
            }
            Kind::Duration => String::from(duration::EXPECTED),
            Kind::OneOf(names) => {
                let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
                format!("expected one of {}", names.join(", "))
            }
            Kind::Whole(least, MANY) => format!("expected a whole number of at least {least}"),
            Kind::Whole(least, most) => format!("expected a whole number from {least} to {most}"),
            Kind::Ratio => String::from("expected a number from 0 to 1"),
            Kind::Bool => String::from("expected true or false"),
            Kind::List => String::from("expected an array of texts, such as [\"a\", \"b\"]"),
            Kind::TextOrList => String::from("expected a text in quotes, or an array of texts"),
            Kind::Json => String::from("expected a table, or a text that holds JSON"),
            Kind::Tables => String::from("expected an array of tables"),
            Kind::Texts | Kind::Names => String::from("expected a table"),
        }
    }

    /// True if the value is of this kind. Arrays of tables are checked elsewhere.
    pub(super) fn takes(self, value: &Value) -> bool {
        let text = value.as_str();
        match self {
            Kind::Text | Kind::Path => text.is_some(),
            Kind::Address => text.is_some_and(|text| text.parse::<SocketAddr>().is_ok()),
            Kind::Duration => text.is_some_and(|text| duration::parse(text).is_ok()),
            Kind::OneOf(names) => text.is_some_and(|text| names.contains(&text)),
            Kind::Whole(least, most) => value
                .as_integer()
                .is_some_and(|number| (least..=most).contains(&number)),
            Kind::Ratio => {
                let float = value
                    .as_float()
                    .is_some_and(|number| (0.0..=1.0).contains(&number));
                float
                    || value
                        .as_integer()
                        .is_some_and(|number| (0..=1).contains(&number))
            }
            Kind::Bool => value.as_bool().is_some(),
            Kind::List => value
                .as_array()
                .is_some_and(|array| array.iter().all(|entry| entry.as_str().is_some())),
            Kind::TextOrList => Kind::Text.takes(value) || Kind::List.takes(value),
            Kind::Json => json::text(&Item::Value(value.clone())).is_some(),
            Kind::Tables => value.is_array(),
            Kind::Texts | Kind::Names => value.is_inline_table(),
        }
    }

    /// Parses the value of an environment variable: texts without quotes, and lists either
    /// separated by commas or as TOML arrays.
    pub(super) fn read(self, text: &str) -> Option<Value> {
        match self {
            Kind::Text | Kind::Path | Kind::Address | Kind::Duration | Kind::OneOf(_) => {
                Some(Value::from(text))
            }
            Kind::Whole(..) | Kind::Ratio => text
                .trim()
                .parse::<Value>()
                .ok()
                .filter(|value| value.is_integer() || value.is_float()),
            Kind::Bool => text.trim().parse::<bool>().ok().map(Value::from),
            Kind::List if !text.trim_start().starts_with('[') => {
                let entries = text
                    .split(',')
                    .map(str::trim)
                    .filter(|entry| !entry.is_empty());
                Some(Value::Array(entries.collect()))
            }
            Kind::List
            | Kind::TextOrList
            | Kind::Json
            | Kind::Tables
            | Kind::Texts
            | Kind::Names => text.trim().parse::<Value>().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: Kind = Kind::OneOf(&["low", "high"]);

    #[test]
    fn kind_accepts_only_its_own_values() {
        for (kind, good, bad) in [
            (Kind::Text, r#""a""#, "1"),
            (Kind::Path, r#""./a""#, "true"),
            (Kind::Address, r#""[::1]:0""#, r#""localhost:80""#),
            (Kind::Duration, r#""1h""#, "3600"),
            (LEVELS, r#""low""#, r#""Low""#),
            (Kind::Whole(1, 9), "9", "10"),
            (Kind::Whole(1, 9), "1", "1.0"),
            (Kind::Ratio, "0.5", "1.1"),
            (Kind::Ratio, "1", "2"),
            (Kind::Ratio, "0.0", "nan"),
            (Kind::Bool, "true", r#""true""#),
            (Kind::List, r#"["a"]"#, r#"["a", 1]"#),
            (Kind::Json, "{ a = 1 }", "\"a\""),
            (Kind::Tables, "[{}]", "{}"),
            (Kind::TextOrList, "\"a\"", "1"),
            (Kind::TextOrList, "[\"a\"]", "[1]"),
            (Kind::Texts, "{}", "[]"),
            (Kind::Names, "{}", "[]"),
        ] {
            let value = |text: &str| text.parse::<Value>().expect("TOML");
            assert!(kind.takes(&value(good)), "{kind:?} {good}");
            assert!(!kind.takes(&value(bad)), "{kind:?} {bad}");
            assert!(kind.expected().starts_with("expected "));
        }
    }

    #[test]
    fn environment_values_need_no_quotes() {
        for (kind, text, good) in [
            (Kind::Text, "plain text", true),
            (Kind::Text, "42", true),
            (Kind::Whole(0, 9), "7", true),
            (Kind::Whole(0, 9), "seven", false),
            (Kind::Whole(0, 9), "\"7\"", false),
            (Kind::Ratio, "0.25", true),
            (Kind::Bool, "false", true),
            (Kind::Bool, "no", false),
            (Kind::List, "a, b,c", true),
            (Kind::List, "", true),
            (Kind::List, "[\"a\"]", true),
            (Kind::List, "[a]", false),
            (Kind::Tables, "[{ name = \"a\" }]", true),
        ] {
            let value = kind.read(text);
            assert_eq!(
                value.is_some_and(|value| kind.takes(&value)),
                good,
                "{kind:?} {text}"
            );
        }
    }
}
