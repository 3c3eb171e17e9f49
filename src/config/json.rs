//! JSON within TOML: a schema, or an example of a payload.

use serde_json::{Map, Number, Value};
use toml_edit::Item;

use crate::event::strict_json;

/// The deepest nesting, in levels; the same as for payloads.
const DEEPEST: usize = 64;

/// Converts an item to JSON text. A string contains JSON itself and is used as it is; an empty
/// string means not set. `None` for values that JSON does not have, and for a string that is not
/// JSON.
pub(super) fn text(item: &Item) -> Option<String> {
    match item.as_str() {
        Some("") => Some(String::new()),
        Some(text) => {
            let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
            strict_json::operators_value(text.as_bytes())
                .is_ok()
                .then(|| text.to_owned())
        }
        None => of_item(item, DEEPEST).map(|value| value.to_string()),
    }
}

fn of_item(item: &Item, levels: usize) -> Option<Value> {
    let below = levels.checked_sub(1)?;
    match item {
        Item::None => None,
        Item::Value(value) => of_value(value, levels),
        Item::Table(table) => {
            let members = table
                .iter()
                .map(|(name, item)| Some((name.to_owned(), of_item(item, below)?)));
            Some(Value::Object(members.collect::<Option<Map<_, _>>>()?))
        }
        Item::ArrayOfTables(tables) => {
            let tables = tables
                .iter()
                .map(|table| of_item(&Item::Table(table.clone()), below));
            Some(Value::Array(tables.collect::<Option<Vec<_>>>()?))
        }
    }
}

fn of_value(value: &toml_edit::Value, levels: usize) -> Option<Value> {
    let below = levels.checked_sub(1)?;
    Some(match value {
        toml_edit::Value::String(text) => Value::from(text.value().as_str()),
        toml_edit::Value::Integer(number) => Value::from(*number.value()),
        toml_edit::Value::Float(number) => Value::Number(Number::from_f64(*number.value())?),
        toml_edit::Value::Boolean(bool) => Value::from(*bool.value()),
        // JSON has no dates; a date is written as a string.
        toml_edit::Value::Datetime(_) => return None,
        toml_edit::Value::Array(array) => {
            let items = array.iter().map(|value| of_value(value, below));
            Value::Array(items.collect::<Option<Vec<_>>>()?)
        }
        toml_edit::Value::InlineTable(table) => {
            let members = table
                .iter()
                .map(|(name, value)| Some((name.to_owned(), of_value(value, below)?)));
            Value::Object(members.collect::<Option<Map<_, _>>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Option<String> {
        let document = toml_edit::ImDocument::parse(toml).expect("TOML");
        text(document.get("x").expect("x"))
    }

    #[test]
    fn tables_become_objects_and_strings_stay() {
        for (toml, json) in [
            (
                "x = { a = [1, 2.5, true], b = { c = \"d\" } }",
                r#"{"a":[1,2.5,true],"b":{"c":"d"}}"#,
            ),
            (
                "[x]\na = 1\n[[x.b]]\nc = 2\n[[x.b]]\nc = 3",
                r#"{"a":1,"b":[{"c":2},{"c":3}]}"#,
            ),
            (
                "x = '{ \"b\": null,  \"a\": 1 }'",
                r#"{ "b": null,  "a": 1 }"#,
            ),
            ("x = 5", "5"),
            ("x = \"\"", ""),
        ] {
            assert_eq!(read(toml).as_deref(), Some(json), "{toml}");
        }
    }

    #[test]
    fn non_json_values_are_refused() {
        let deep = format!("x = {}1{}", "[".repeat(64), "]".repeat(64));
        for toml in [
            "x = nan",
            "x = 2026-11-21",
            "x = \"plain\"",
            "x = [[inf]]",
            &deep,
        ] {
            assert_eq!(read(toml), None, "{toml}");
        }
    }
}
