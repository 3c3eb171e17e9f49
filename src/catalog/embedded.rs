//! A JSON Schema embedded in another document.
//!
//! References in a stand-alone schema resolve against the schema itself. Tools for `AsyncAPI`
//! resolve every reference against the whole document, and ignore `$id` and `$anchor`.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// Keywords whose value is a schema.
const ONE: [&str; 11] = [
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords whose value is a list of schemas.
const LIST: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
/// Keywords whose value maps names to schemas.
const NAMED: [&str; 5] = [
    "$defs",
    "definitions",
    "dependentSchemas",
    "patternProperties",
    "properties",
];

/// Rewrites the schema for embedding at `pointer`, such as `#/components/schemas/a.b`: its internal
/// references point to its own parts there. References to other schemas stay. The result is always
/// an object, as AsyncAPI requires.
#[must_use]
pub fn embedded(mut schema: Value, pointer: &str) -> Value {
    if let Value::Bool(everything) = schema {
        return if everything {
            json!({})
        } else {
            json!({ "not": {} })
        };
    }
    let mut pointers = HashMap::from([(String::new(), pointer.to_owned())]);
    walk(&mut schema, pointer, "", &mut |schema, pointer, base| {
        if schema.contains_key("$id") {
            pointers.insert(base.to_owned(), pointer.to_owned());
        }
        for keyword in ["$anchor", "$dynamicAnchor"] {
            if let Some(name) = schema.get(keyword).and_then(Value::as_str) {
                pointers.insert(format!("{base}#{name}"), pointer.to_owned());
            }
        }
    });
    walk(&mut schema, pointer, "", &mut |schema, _, base| {
        if let Some(Value::String(reference)) = schema.get_mut("$ref")
            && let Some(target) = target(reference, base, &pointers)
        {
            *reference = target;
        }
        for keyword in ["$schema", "$id", "$anchor"] {
            schema.remove(keyword);
        }
    });
    schema
}

/// The target of a reference. `None` if it is not within this schema.
fn target(reference: &str, base: &str, pointers: &HashMap<String, String>) -> Option<String> {
    let (uri, fragment) = reference.split_once('#').unwrap_or((reference, ""));
    let base = if uri.is_empty() { base } else { uri };
    if fragment.is_empty() || fragment.starts_with('/') {
        return Some(format!("{}{fragment}", pointers.get(base)?));
    }
    pointers.get(&format!("{base}#{fragment}")).cloned()
}

/// Visits a schema and all of its subschemas, each with its JSON Pointer and its base `$id`. Data,
/// such as `const` and `enum`, is not visited.
fn walk(
    schema: &mut Value,
    pointer: &str,
    base: &str,
    visit: &mut impl FnMut(&mut Map<String, Value>, &str, &str),
) {
    let Value::Object(schema) = schema else {
        return;
    };
    let id = schema.get("$id").and_then(Value::as_str);
    let base = id.map_or(base, |id| id.trim_end_matches('#')).to_owned();
    visit(schema, pointer, &base);
    for (keyword, value) in schema {
        let pointer = format!("{pointer}/{keyword}");
        let keyword = keyword.as_str();
        if ONE.contains(&keyword) {
            walk(value, &pointer, &base, visit);
        } else if LIST.contains(&keyword)
            && let Value::Array(list) = value
        {
            for (index, schema) in list.iter_mut().enumerate() {
                walk(schema, &format!("{pointer}/{index}"), &base, visit);
            }
        } else if NAMED.contains(&keyword)
            && let Value::Object(named) = value
        {
            for (name, schema) in named {
                let pointer = format!("{pointer}/{}", pointer_part(name));
                walk(schema, &pointer, &base, visit);
            }
        }
    }
}

/// One token of a JSON Pointer (RFC 6901 §3).
#[must_use]
pub fn pointer_part(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_point_to_embedded_parts() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": "https://example.com/tree",
            "properties": {
                "itself": { "$ref": "#" },
                "part": { "$ref": "#/$defs/n" },
                "absolute": { "$ref": "https://example.com/tree#/$defs/n" },
                "anchor": { "items": { "$ref": "#leaf" } },
                "inner": { "anyOf": [{ "$ref": "inner" }, { "$ref": "https://other.example/" }] },
                "const": { "const": { "$ref": "#/data" } },
            },
            "$defs": {
                "n": { "type": "integer" },
                "a/b": { "$anchor": "leaf" },
                "i": { "$id": "inner", "properties": { "up": { "$ref": "#/$defs/z" } } },
            },
        });
        let expected = json!({
            "properties": {
                "itself": { "$ref": "#/s/t" },
                "part": { "$ref": "#/s/t/$defs/n" },
                "absolute": { "$ref": "#/s/t/$defs/n" },
                "anchor": { "items": { "$ref": "#/s/t/$defs/a~1b" } },
                "inner": {
                    "anyOf": [{ "$ref": "#/s/t/$defs/i" }, { "$ref": "https://other.example/" }],
                },
                "const": { "const": { "$ref": "#/data" } },
            },
            "$defs": {
                "n": { "type": "integer" },
                "a/b": {},
                "i": { "properties": { "up": { "$ref": "#/s/t/$defs/i/$defs/z" } } },
            },
        });
        assert_eq!(embedded(schema, "#/s/t"), expected);
        assert_eq!(embedded(json!(true), "#/s/t"), json!({}));
        assert_eq!(embedded(json!(false), "#/s/t"), json!({ "not": {} }));
    }
}
