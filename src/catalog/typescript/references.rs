//! Resolves references within a schema.

use std::collections::BTreeSet;

use percent_encoding::percent_decode_str;
use serde_json::Value;

/// The target of a reference such as `#/$defs/part`. `None` if it points outside of the schema.
pub(super) fn target<'s>(root: &'s Value, reference: &str) -> Option<&'s Value> {
    let pointer = reference.strip_prefix('#')?;
    root.pointer(&decoded(pointer)?)
}

/// The last token of a reference, used as a name. Empty for the schema itself.
pub(super) fn last_part(reference: &str) -> String {
    let last = reference.rsplit('/').next().unwrap_or_default();
    decoded(last)
        .unwrap_or_default()
        .replace("~1", "/")
        .replace("~0", "~")
}

/// Decodes the percent-encoding of a URI's fragment (RFC 6901 §6).
fn decoded(text: &str) -> Option<String> {
    let plain = percent_decode_str(text).decode_utf8().ok()?;
    Some(plain.into_owned())
}

/// True if a type alias for the schema at `from` would be circular. TypeScript resolves references,
/// unions and intersections eagerly; only objects and arrays defer it.
pub(super) fn is_circular(root: &Value, from: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(reference) = open.pop() {
        let Some(schema) = target(root, &reference) else {
            continue;
        };
        let mut found = Vec::new();
        at_once(schema, &mut found);
        for next in found {
            if next == from {
                return true;
            }
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    false
}

/// The references of which a schema's alias directly consists.
fn at_once(schema: &Value, found: &mut Vec<String>) {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        found.push(reference.to_owned());
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        let branches = schema.get(keyword).and_then(Value::as_array);
        for branch in branches.into_iter().flatten() {
            at_once(branch, found);
        }
    }
}
