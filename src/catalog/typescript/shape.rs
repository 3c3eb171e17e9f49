//! Converts a schema to a TypeScript type.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::references::{is_circular, last_part, target};
use super::writing::{doc, literal, pascal, property, unique};

/// The type of unknown values.
const ANYTHING: &str = "unknown";
/// The type of an object with unknown properties.
const ANY_OBJECT: &str = "{ [key: string]: unknown }";
/// The most tuple items that are written out.
const MAX_TUPLE: usize = 64;

/// The types of one schema: its own, and one for each referenced part.
pub(super) struct Shapes<'a> {
    root: &'a Value,
    taken: &'a mut BTreeSet<String>,
    /// The names of types, by reference.
    names: BTreeMap<String, String>,
    /// References whose types are not generated yet.
    open: Vec<String>,
}

impl<'a> Shapes<'a> {
    /// Starts with this name for the schema's own type.
    pub(super) fn new(root: &'a Value, name: &str, taken: &'a mut BTreeSet<String>) -> Self {
        Shapes {
            root,
            taken,
            names: BTreeMap::from([(String::from("#"), name.to_owned())]),
            open: vec![String::from("#")],
        }
    }

    /// Generates all types. The schema's own type gets this description, unless it has one.
    pub(super) fn declarations(mut self, description: &str) -> String {
        let mut text = String::new();
        while let Some(reference) = self.open.pop() {
            let (Some(schema), Some(name)) = (
                target(self.root, &reference),
                self.names.get(&reference).cloned(),
            ) else {
                continue;
            };
            let own = if reference == "#" { description } else { "" };
            let shape = if is_circular(self.root, &reference) {
                String::from(ANYTHING)
            } else {
                self.shape(schema, "")
            };
            text.push('\n');
            text.push_str(&doc(described(schema).unwrap_or(own), ""));
            text.extend(["export type ", &name, " = ", &shape, ";\n"]);
        }
        text
    }

    /// The type of a schema.
    fn shape(&mut self, schema: &Value, indent: &str) -> String {
        let schema = match schema {
            Value::Bool(false) => return String::from("never"),
            Value::Object(schema) => schema,
            Value::Bool(true)
            | Value::Null
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => return String::from(ANYTHING),
        };
        if schema
            .get("not")
            .is_some_and(|not| not == &Value::Bool(true) || is_empty(not))
        {
            return String::from("never");
        }
        let mut parts: Vec<String> = Vec::new();
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            parts.push(self.named(reference));
        }
        let combined = ["allOf", "anyOf", "oneOf"]
            .map(|keyword| (keyword, schema.get(keyword).and_then(Value::as_array)));
        for (keyword, branches) in combined {
            let Some(branches) = branches else { continue };
            let shapes = branches.iter().map(|branch| self.shape(branch, indent));
            let shapes: Vec<String> = shapes.collect();
            if keyword == "allOf" {
                parts.extend(shapes);
            } else {
                parts.push(union(shapes));
            }
        }
        if let Some(own) = self.own(schema, indent) {
            // Skip a type that only says object or array, if the others imply it.
            if parts.is_empty() || !matches!(&*own, ANY_OBJECT | "unknown[]") {
                parts.insert(0, own);
            }
        }
        intersection(parts)
    }

    /// The type from the schema's own keywords. `None` if they say nothing.
    fn own(&mut self, schema: &Map<String, Value>, indent: &str) -> Option<String> {
        if let Some(value) = schema.get("const") {
            return Some(literal(value));
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            return Some(union(values.iter().map(literal).collect()));
        }
        match schema.get("type") {
            Some(Value::String(name)) => Some(self.of_type(name, schema, indent)),
            Some(Value::Array(names)) => {
                let names = names.iter().filter_map(Value::as_str);
                let shapes = names.map(|name| self.of_type(name, schema, indent));
                Some(union(shapes.collect()))
            }
            _ => {
                let has = |names: &[&str]| names.iter().any(|name| schema.contains_key(*name));
                if has(&[
                    "properties",
                    "required",
                    "additionalProperties",
                    "patternProperties",
                ]) {
                    Some(self.object(schema, indent))
                } else if has(&["items", "prefixItems"]) {
                    Some(self.list(schema, indent))
                } else {
                    None
                }
            }
        }
    }

    fn of_type(&mut self, name: &str, schema: &Map<String, Value>, indent: &str) -> String {
        match name {
            "object" => self.object(schema, indent),
            "array" => self.list(schema, indent),
            "integer" | "number" => String::from("number"),
            "string" | "boolean" | "null" => name.to_owned(),
            _ => String::from(ANYTHING),
        }
    }

    fn object(&mut self, schema: &Map<String, Value>, indent: &str) -> String {
        let none = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        let properties = properties.unwrap_or(&none);
        let required: BTreeSet<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let inner = format!("{indent}  ");
        let mut members: Vec<String> = Vec::new();
        for (name, schema) in properties {
            let optional = !required.contains(name.as_str());
            let shape = self.shape(schema, &inner);
            let comment = doc(described(schema).unwrap_or_default(), &inner);
            let mark = if optional { "?" } else { "" };
            let name = property(name);
            members.push(format!("{comment}{inner}{name}{mark}: {shape};\n"));
        }
        let unnamed = required
            .into_iter()
            .filter(|name| !properties.contains_key(*name));
        for name in unnamed {
            members.push(format!("{inner}{}: unknown;\n", property(name)));
        }
        if let Some(others) = self.others(schema, members.is_empty(), &inner) {
            if members.is_empty() {
                return format!("{{ [key: string]: {others} }}");
            }
            members.push(format!("{inner}[key: string]: {others};\n"));
        } else if members.is_empty() {
            let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
            let empty = if closed {
                "Record<string, never>"
            } else {
                ANY_OBJECT
            };
            return String::from(empty);
        }
        format!("{{\n{}{indent}}}", members.concat())
    }

    /// The type of additional properties. `None` if nothing is declared.
    fn others(&mut self, schema: &Map<String, Value>, alone: bool, indent: &str) -> Option<String> {
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        let patterns = patterns.filter(|patterns| !patterns.is_empty());
        match (schema.get("additionalProperties"), patterns) {
            (None | Some(Value::Bool(false)), None) => None,
            // TypeScript requires the named properties to be assignable to the index signature.
            (Some(others), None) if alone => Some(self.shape(others, indent)),
            (Some(Value::Bool(false)), Some(patterns)) if alone => {
                let shapes = patterns.values().map(|schema| self.shape(schema, indent));
                Some(union(shapes.collect()))
            }
            _ => Some(String::from(ANYTHING)),
        }
    }

    fn list(&mut self, schema: &Map<String, Value>, indent: &str) -> String {
        let first = schema.get("prefixItems").and_then(Value::as_array);
        let first = first.filter(|items| (1..=MAX_TUPLE).contains(&items.len()));
        let rest = schema.get("items");
        let Some(first) = first else {
            let any = Value::Bool(true);
            let items = if schema.contains_key("prefixItems") {
                None
            } else {
                rest
            };
            return list_of(&self.shape(items.unwrap_or(&any), indent));
        };
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        let least = usize::try_from(least).unwrap_or(usize::MAX);
        let mut items: Vec<String> = Vec::with_capacity(first.len() + 1);
        for (index, schema) in first.iter().enumerate() {
            let mark = if index < least { "" } else { "?" };
            items.push(format!("{}{mark}", grouped(&self.shape(schema, indent))));
        }
        if rest != Some(&Value::Bool(false)) {
            let any = Value::Bool(true);
            let rest = self.shape(rest.unwrap_or(&any), indent);
            items.push(format!("...{}", list_of(&rest)));
        }
        format!("[{}]", items.join(", "))
    }

    /// The name of the type that a reference points to.
    fn named(&mut self, reference: &str) -> String {
        if target(self.root, reference).is_none() {
            return String::from(ANYTHING);
        }
        if let Some(name) = self.names.get(reference) {
            return name.clone();
        }
        let own = self.names.get("#").map_or("", String::as_str);
        let wanted = format!("{own}{}", pascal(&last_part(reference)));
        let name = unique(&wanted, self.taken);
        self.names.insert(reference.to_owned(), name.clone());
        self.open.push(reference.to_owned());
        name
    }
}

fn is_empty(schema: &Value) -> bool {
    schema.as_object().is_some_and(Map::is_empty)
}

fn described(schema: &Value) -> Option<&str> {
    let text = schema.get("description").or(schema.get("title"))?.as_str();
    text.filter(|text| !text.trim().is_empty())
}

fn union(mut shapes: Vec<String>) -> String {
    let mut seen = BTreeSet::new();
    shapes.retain(|shape| seen.insert(shape.clone()));
    match shapes.as_slice() {
        [] => String::from("never"),
        [one] => one.clone(),
        _ => shapes.join(" | "),
    }
}

fn intersection(mut shapes: Vec<String>) -> String {
    let mut seen = BTreeSet::new();
    shapes.retain(|shape| shape != ANYTHING && seen.insert(shape.clone()));
    match shapes.as_slice() {
        [] => String::from(ANYTHING),
        [one] => one.clone(),
        _ => {
            let shapes: Vec<String> = shapes.iter().map(|shape| grouped(shape)).collect();
            shapes.join(" & ")
        }
    }
}

fn list_of(shape: &str) -> String {
    format!("{}[]", grouped(shape))
}

/// Parenthesizes a type to which a suffix would otherwise bind too tightly.
fn grouped(shape: &str) -> String {
    if shape.contains(" | ") || shape.contains(" & ") {
        format!("({shape})")
    } else {
        shape.to_owned()
    }
}
