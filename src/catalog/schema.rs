//! JSON Schema (2020-12) validation of payloads.
//!
//! A schema is self-contained: references point to its own parts or to the meta-schemas, never to
//! another file or the network. Regular expressions run in linear time, so look-around and
//! back-references are refused. `format` is an annotation, which is the standard's default.

use std::fmt;
use std::sync::Arc;

use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use serde_json::Value;

use super::expected::{clipped, expected};
use crate::event::strict_json;

/// The most violations reported for one payload.
pub const MAX_VIOLATIONS: usize = 8;
/// The accepted values of `$schema`.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// The largest compiled regular expression, and the largest cache of its automaton, in bytes.
const MAX_PATTERN: usize = 1 << 20;
/// The longest reported JSON Pointer, in bytes.
const MAX_PATH: usize = 512;
/// The largest payload for which all violations are collected, in bytes. The library collects them
/// eagerly, at a few hundred bytes each.
const MAX_COLLECTED: usize = 64 * 1024;
/// Keywords for which even the first violation collects those of every alternative.
const ALTERNATIVES: [&str; 2] = ["anyOf", "oneOf"];

/// A compiled schema. Clones share it.
#[derive(Clone)]
pub struct Schema(Arc<Inner>);

struct Inner {
    text: String,
    value: Value,
    validator: Validator,
    /// Whether it may contain one of [`ALTERNATIVES`].
    alternatives: bool,
}

/// A violation of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The location in the payload, as a JSON Pointer (RFC 6901). Empty for the whole payload. If
    /// the pointer is too long, that of an ancestor.
    pub path: String,
    /// What was expected. Never contains a value of the payload.
    pub message: String,
}

/// Why a text is not a usable schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaError(String);

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SchemaError {}

impl Schema {
    /// Compiles a schema and validates its `examples`. The caller bounds its size.
    ///
    /// # Errors
    /// Not JSON, not 2020-12, not a valid schema, an external or dangling reference, a regular
    /// expression that is not allowed, or an invalid example.
    pub fn compile(text: &str) -> Result<Schema, SchemaError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
        let value = strict_json::operators_value(text.as_bytes())
            .map_err(|flaw| SchemaError(format!("{flaw}")))?;
        check_dialect(&value)?;
        let patterns = PatternOptions::regex()
            .size_limit(MAX_PATTERN)
            .dfa_size_limit(MAX_PATTERN);
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .offline()
            .with_pattern_options(patterns)
            .build(&value)
            .map_err(|error| refusal(&error))?;
        let alternatives = ALTERNATIVES.iter().any(|keyword| text.contains(keyword));
        let schema = Schema(Arc::new(Inner {
            text: text.to_owned(),
            value,
            validator,
            alternatives,
        }));
        schema.check_examples()?;
        Ok(schema)
    }

    /// The source of the schema.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The parsed schema.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.0.value
    }

    /// Its `description`.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.0.value.get("description")?.as_str()
    }

    /// Its `examples`.
    #[must_use]
    pub fn examples(&self) -> &[Value] {
        let examples = self.0.value.get("examples").and_then(Value::as_array);
        examples.map_or(&[], Vec::as_slice)
    }

    /// The violations of a payload, at most [`MAX_VIOLATIONS`]. For a large payload only the first
    /// one, and without its location if the schema has alternatives.
    #[must_use]
    pub fn violations(&self, data: &[u8]) -> Vec<Violation> {
        let value = match strict_json::value(data) {
            Ok(value) => value,
            Err(flaw) => return vec![Violation::of_all(flaw.to_string())],
        };
        let validator = &self.0.validator;
        // Validates without collecting violations.
        if validator.is_valid(&value) {
            return Vec::new();
        }
        let found: Vec<Violation> = if data.len() <= MAX_COLLECTED {
            let errors = validator.iter_errors(&value).take(MAX_VIOLATIONS);
            errors.map(|error| Violation::from_error(&error)).collect()
        } else if self.0.alternatives {
            Vec::new()
        } else {
            let first = validator.validate(&value).err();
            first.iter().map(Violation::from_error).collect()
        };
        if found.is_empty() {
            return vec![Violation::of_all("expected what the schema describes")];
        }
        found
    }

    fn check_examples(&self) -> Result<(), SchemaError> {
        for (index, example) in self.examples().iter().enumerate() {
            if let Some(violation) = self.violations(example.to_string().as_bytes()).first() {
                return Err(SchemaError(format!(
                    "its own example is not valid: examples/{index}{}: {}",
                    violation.path, violation.message
                )));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.0.text).finish()
    }
}

impl Violation {
    /// A violation of the payload as a whole.
    pub fn of_all(expected: impl Into<String>) -> Self {
        Violation {
            path: String::new(),
            message: expected.into(),
        }
    }

    /// The text in the error of a publish: `data/items/0: expected …`, without a location if it
    /// concerns the whole payload.
    #[must_use]
    pub fn in_data(&self) -> String {
        if self.path.is_empty() {
            return self.message.clone();
        }
        format!("data{}: {}", self.path, self.message)
    }

    fn from_error(error: &ValidationError<'_>) -> Self {
        Violation {
            path: bounded(error.instance_path().as_str()).to_owned(),
            message: expected(error.kind()),
        }
    }
}

/// The pointer, or that of an ancestor if it is too long.
fn bounded(pointer: &str) -> &str {
    if pointer.len() <= MAX_PATH {
        return pointer;
    }
    let start = pointer.as_bytes().get(..MAX_PATH).unwrap_or_default();
    let end = start.iter().rposition(|byte| *byte == b'/');
    end.and_then(|end| pointer.get(..end)).unwrap_or_default()
}

fn check_dialect(schema: &Value) -> Result<(), SchemaError> {
    match schema.get("$schema") {
        None => Ok(()),
        Some(Value::String(uri)) if uri.trim_end_matches('#') == DIALECT => Ok(()),
        Some(_) => Err(SchemaError(format!("$schema: expected \"{DIALECT}\""))),
    }
}

/// Why the library refuses a schema.
fn refusal(error: &ValidationError<'_>) -> SchemaError {
    if let jsonschema::error::ValidationErrorKind::Referencing(error) = error.kind() {
        let text = clipped(&error.to_string());
        return SchemaError(format!(
            "a reference leads out of the file or nowhere: {text}"
        ));
    }
    let path = error.instance_path().as_str();
    let keyword = path.rsplit('/').next().unwrap_or_default();
    let expected = match (error.kind().keyword(), keyword) {
        ("format" | "pattern", "pattern" | "patternProperties") => String::from(
            "expected a regular expression without look-around and back-references, at most 1 MiB when compiled",
        ),
        _ => expected(error.kind()),
    };
    SchemaError(format!(
        "not a valid JSON Schema (2020-12): {}: {expected}",
        bounded(path)
    ))
}

#[cfg(test)]
mod tests;
