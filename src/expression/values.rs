//! Values as CEL sees them.

use std::any::Any;
use std::collections::HashMap;

use cel::ExecutionError;
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt, Type,
};
use cel::common::value::{CowVal, StaticVal, Val};
use serde_json::Value;

/// A text, borrowed.
#[must_use]
pub fn text(text: &str) -> CowVal<'_, '_> {
    CowVal::owned(CelString::from(text))
}

/// A list of texts, borrowed.
pub fn texts<'a>(items: impl IntoIterator<Item = &'a str>) -> CowVal<'a, 'a> {
    let items: Vec<Box<dyn Val + 'a>> = items
        .into_iter()
        .map(|item| -> Box<dyn Val + 'a> { Box::new(CelString::from(item)) })
        .collect();
    CowVal::owned(CelList::from(items))
}

/// A map with these entries.
pub fn map<'a>(entries: impl IntoIterator<Item = (&'a str, CowVal<'a, 'a>)>) -> CowVal<'a, 'a> {
    let entries: HashMap<CelMapKey<'a>, Box<dyn Val + 'a>> = entries
        .into_iter()
        .map(|(name, value)| (CelMapKey::from(name), value.into_owned()))
        .collect();
    CowVal::owned(CelMap::from(entries))
}

/// A parsed JSON value. Whole numbers become `int` (`uint` above its range), others `double`.
#[must_use]
pub fn json(value: Value) -> Box<dyn Val> {
    match value {
        Value::Null => json_null(),
        Value::Bool(value) => Box::new(CelBool::from(value)),
        Value::Number(number) => {
            if let Some(number) = number.as_i64() {
                Box::new(CelInt::from(number))
            } else if let Some(number) = number.as_u64() {
                Box::new(CelUInt::from(number))
            } else {
                Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN)))
            }
        }
        Value::String(value) => Box::new(CelString::from(value)),
        Value::Array(items) => {
            let items: Vec<Box<dyn Val>> = items.into_iter().map(json).collect();
            Box::new(CelList::from(items))
        }
        Value::Object(entries) => {
            let entries: HashMap<CelMapKey<'static>, Box<dyn Val>> = entries
                .into_iter()
                .map(|(name, value)| (CelMapKey::from(name), json(value)))
                .collect();
            Box::new(CelMap::from(entries))
        }
    }
}

/// JSON's `null`.
#[must_use]
pub fn json_null() -> Box<dyn Val> {
    Box::new(CelNull)
}

static PATTERN: Type = Type::new_unspecified_type("regex");

/// A regular expression that was compiled with its expression.
#[derive(Debug, Clone)]
pub(super) struct Pattern(regex::Regex);

impl Pattern {
    /// Patterns are variables named by this and their index. No source text can spell it.
    pub(super) const PREFIX: &str = "@pattern";
    /// The longest pattern, in bytes.
    const MAX_LEN: usize = 256;
    /// The most memory for a compiled pattern, and for its cache, in bytes.
    const MAX_SIZE: usize = 256 * 1024;

    /// Compiles a pattern, or says why not.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        if pattern.len() > Self::MAX_LEN {
            return Err(String::from(
                "expected a regular expression of at most 256 bytes",
            ));
        }
        regex::RegexBuilder::new(pattern)
            .size_limit(Self::MAX_SIZE)
            .dfa_size_limit(Self::MAX_SIZE)
            .nest_limit(32)
            .build()
            .map(Pattern)
            .map_err(|error| {
                String::from(if matches!(error, regex::Error::CompiledTooBig(_)) {
                    "the regular expression is too large when compiled"
                } else {
                    "not a valid regular expression"
                })
            })
    }
}

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        &PATTERN
    }

    fn cel_type() -> &'static Type {
        &PATTERN
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

/// `text.matches(pattern)`.
#[expect(clippy::needless_pass_by_value, reason = "the library's function type")]
pub(super) fn matches<'b, 'v>(
    arguments: Vec<CowVal<'b, 'v>>,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [subject, pattern] = arguments.as_slice() else {
        return Err(ExecutionError::invalid_argument_count(2, arguments.len()));
    };
    match (
        subject.downcast_ref::<CelString>(),
        pattern.downcast_ref::<Pattern>(),
    ) {
        (Some(subject), Some(Pattern(pattern))) => Ok(CowVal::owned(CelBool::from(
            pattern.is_match(subject.inner()),
        ))),
        _ => Err(ExecutionError::function_error(
            "matches",
            "expected a string",
        )),
    }
}
