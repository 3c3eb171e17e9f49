//! Where references within a schema lead.

use std::collections::BTreeSet;

use serde_json::Value;

/// What a reference such as `#/$defs/part` leads to; `None` where it leads out of the schema.
pub(super) fn target<'s>(root: &'s Value, reference: &str) -> Option<&'s Value> {
    let pointer = reference.strip_prefix('#')?;
    root.pointer(&decoded(pointer)?)
}

/// The last part of a reference, for a name; empty for the schema itself.
pub(super) fn last_part(reference: &str) -> String {
    let last = reference.rsplit('/').next().unwrap_or_default();
    decoded(last)
        .unwrap_or_default()
        .replace("~1", "/")
        .replace("~0", "~")
}

/// Takes the percent-encoding of a URI's fragment away (RFC 6901 §6).
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// True if a type alias of the schema at `from` would be made of nothing but itself: TypeScript
/// looks through references, unions and intersections at once, and only objects and lists let it
/// stop.
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

/// The references that a schema's alias is directly made of.
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
