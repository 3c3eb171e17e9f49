//! Describes violations: what was expected. The texts contain names of properties and the schema's
//! own values, never values of the payload.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each function handles some kinds of keywords; the library may add kinds"
)]

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};

/// The longest excerpt of a schema or payload, in characters.
const MAX_TEXT: usize = 200;
/// The most property names in one message.
const MAX_NAMES: usize = 3;

/// What the schema expected at this violation.
pub(super) fn expected(kind: &Kind) -> String {
    if let Some(text) = expected_number(kind).or_else(|| expected_shape(kind)) {
        return text;
    }
    match kind {
        Kind::Constant { expected_value } => format!("expected {}", json(expected_value)),
        Kind::Enum { options } => format!("expected one of {}", json(options)),
        Kind::Format { format } => format!("expected the format {}", clipped(format)),
        Kind::Pattern { pattern } => format!("expected a text that matches {}", clipped(pattern)),
        Kind::ContentEncoding { content_encoding } => {
            format!("expected the encoding {}", clipped(content_encoding))
        }
        Kind::ContentMediaType { content_media_type } => {
            format!("expected the media type {}", clipped(content_media_type))
        }
        Kind::Custom { message, .. } => clipped(message),
        Kind::Type { kind } => match kind {
            TypeKind::Single(one) => format!("expected the type {one}"),
            TypeKind::Multiple(several) => {
                let names: Vec<String> = several.iter().map(|one| one.to_string()).collect();
                format!("expected one of the types {}", names.join(", "))
            }
        },
        Kind::AnyOf { .. } => "expected a value that fits one of the schemas of anyOf".into(),
        Kind::OneOfNotValid { .. } => {
            "expected a value that fits one of the schemas of oneOf".into()
        }
        Kind::OneOfMultipleValid { .. } => {
            "expected a value that fits only one of the schemas of oneOf".into()
        }
        Kind::Not { .. } => "expected a value that does not fit the schema of not".into(),
        Kind::FalseSchema => "expected nothing here".into(),
        _ => "expected what the schema describes".into(),
    }
}

/// For keywords that compare or count.
fn expected_number(kind: &Kind) -> Option<String> {
    Some(match kind {
        Kind::Minimum { limit } => format!("expected at least {}", json(limit)),
        Kind::Maximum { limit } => format!("expected at most {}", json(limit)),
        Kind::ExclusiveMinimum { limit } => format!("expected more than {}", json(limit)),
        Kind::ExclusiveMaximum { limit } => format!("expected less than {}", json(limit)),
        Kind::MultipleOf { multiple_of } => format!("expected a multiple of {multiple_of}"),
        Kind::MinLength { limit } => format!("expected at least {limit} characters"),
        Kind::MaxLength { limit } => format!("expected at most {limit} characters"),
        Kind::MinItems { limit } => format!("expected at least {limit} items"),
        Kind::MaxItems { limit } => format!("expected at most {limit} items"),
        Kind::AdditionalItems { limit } => format!("expected at most {limit} items"),
        Kind::MinProperties { limit } => format!("expected at least {limit} properties"),
        Kind::MaxProperties { limit } => format!("expected at most {limit} properties"),
        _ => return None,
    })
}

/// For keywords on the items of arrays and the properties of objects.
fn expected_shape(kind: &Kind) -> Option<String> {
    Some(match kind {
        Kind::Required { property } => format!("expected the property {}", json(property)),
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            format!("expected no property {}", names(unexpected))
        }
        Kind::PropertyNames { error } => {
            format!("in the name of a property: {}", expected(error.kind()))
        }
        Kind::UnevaluatedItems { unexpected } => {
            format!("expected {} items fewer", unexpected.len())
        }
        Kind::UniqueItems => "expected items that all differ".into(),
        Kind::Contains => "expected items as contains asks for".into(),
        _ => return None,
    })
}

/// Truncates a long text.
pub(super) fn clipped(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn json(value: &serde_json::Value) -> String {
    clipped(&value.to_string())
}

fn names(names: &[String]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(MAX_NAMES)
        .map(|name| format!("{:?}", clipped(name)))
        .collect();
    let shown = shown.join(", ");
    match names.len().saturating_sub(MAX_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
