//! Names, literals and comments in TypeScript.

use std::collections::BTreeSet;

use serde_json::Value;

/// Reserved parts where a property name may stand. They are quoted.
const MODIFIERS: [&str; 9] = [
    "abstract",
    "async",
    "constructor",
    "get",
    "new",
    "private",
    "readonly",
    "set",
    "static",
];

/// A type name: `JobProgress` for `job.progress`. Starts with a capital letter.
pub(super) fn pascal(name: &str) -> String {
    let parts = name.split(|c: char| !c.is_ascii_alphanumeric());
    let mut pascal = String::new();
    for part in parts {
        let mut letters = part.chars();
        pascal.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        pascal.push_str(letters.as_str());
    }
    if pascal.starts_with(|c: char| c.is_ascii_uppercase()) {
        pascal
    } else {
        format!("Part{pascal}")
    }
}

/// The name, with a numeric suffix if it is taken. It is reserved from then on.
pub(super) fn unique(name: &str, taken: &mut BTreeSet<String>) -> String {
    let numbered = (2_u64..).map(|number| format!("{name}{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    let free = names.find(|name| taken.insert(name.clone()));
    free.unwrap_or_else(|| name.to_owned())
}

/// A string literal.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A property name, quoted if necessary.
pub(super) fn property(name: &str) -> String {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '$');
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    if starts && name.chars().all(plain) && !MODIFIERS.contains(&name) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

/// A value as a literal type.
pub(super) fn literal(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(literal).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(members) if members.is_empty() => String::from("Record<string, never>"),
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(name, value)| format!("{}: {}", property(name), literal(value)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join("; "))
        }
    }
}

/// A documentation comment. Nothing for an empty text.
pub(super) fn doc(text: &str, indent: &str) -> String {
    let text = text.trim().replace("*/", "*\\/");
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    match lines.as_slice() {
        [] => String::new(),
        [line] => format!("{indent}/** {line} */\n"),
        lines => {
            let mut comment = format!("{indent}/**\n");
            for line in lines {
                comment.push_str(format!("{indent} * {line}").trim_end());
                comment.push('\n');
            }
            comment.extend([indent, " */\n"]);
            comment
        }
    }
}
