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

/// Rewrites the schema for embedding at `place`, such as `#/components/schemas/a.b`: its internal
/// references point to its own parts there. References to other schemas stay. The result is always
/// an object, as AsyncAPI requires.
#[must_use]
pub fn embedded(mut schema: Value, place: &str) -> Value {
    if let Value::Bool(everything) = schema {
        return if everything {
            json!({})
        } else {
            json!({ "not": {} })
        };
    }
    let mut places = HashMap::from([(String::new(), place.to_owned())]);
    walk(&mut schema, place, "", &mut |schema, place, base| {
        if schema.contains_key("$id") {
            places.insert(base.to_owned(), place.to_owned());
        }
        for keyword in ["$anchor", "$dynamicAnchor"] {
            if let Some(name) = schema.get(keyword).and_then(Value::as_str) {
                places.insert(format!("{base}#{name}"), place.to_owned());
            }
        }
    });
    walk(&mut schema, place, "", &mut |schema, _, base| {
        if let Some(Value::String(reference)) = schema.get_mut("$ref")
            && let Some(target) = target(reference, base, &places)
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
fn target(reference: &str, base: &str, places: &HashMap<String, String>) -> Option<String> {
    let (uri, fragment) = reference.split_once('#').unwrap_or((reference, ""));
    let base = if uri.is_empty() { base } else { uri };
    if fragment.is_empty() || fragment.starts_with('/') {
        return Some(format!("{}{fragment}", places.get(base)?));
    }
    places.get(&format!("{base}#{fragment}")).cloned()
}

/// Visits a schema and all of its subschemas, each with its JSON Pointer and its base `$id`. Data,
/// such as `const` and `enum`, is not visited.
fn walk(
    schema: &mut Value,
    place: &str,
    base: &str,
    visit: &mut impl FnMut(&mut Map<String, Value>, &str, &str),
) {
    let Value::Object(schema) = schema else {
        return;
    };
    let id = schema.get("$id").and_then(Value::as_str);
    let base = id.map_or(base, |id| id.trim_end_matches('#')).to_owned();
    visit(schema, place, &base);
    for (keyword, value) in schema {
        let place = format!("{place}/{keyword}");
        let keyword = keyword.as_str();
        if ONE.contains(&keyword) {
            walk(value, &place, &base, visit);
        } else if LIST.contains(&keyword)
            && let Value::Array(list) = value
        {
            for (index, schema) in list.iter_mut().enumerate() {
                walk(schema, &format!("{place}/{index}"), &base, visit);
            }
        } else if NAMED.contains(&keyword)
            && let Value::Object(named) = value
        {
            for (name, schema) in named {
                let place = format!("{place}/{}", pointer_part(name));
                walk(schema, &place, &base, visit);
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
    fn references_lead_to_the_schemas_own_parts() {
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
