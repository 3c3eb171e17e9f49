//! The event types as a TypeScript module: an interface `Events` that has, for each name, the type
//! of the event's data.
//!
//! TypeScript can't say all that a schema can: formats, patterns, bounds and conditions are left
//! out, and objects show the properties that the schema names. What comes out always compiles.

mod references;
mod shape;
mod writing;

use std::collections::BTreeSet;

use serde_json::Value;

use super::embedded::embedded;
use shape::Shapes;
use writing::{doc, pascal, quoted, unique};

/// The head of the module.
const HEAD: &str = "// Made by `tidings catalog typescript` from the server's catalog: make it anew when that changes.\n\
    /* eslint-disable */\n\n";

/// One event type, as much as the module needs of it.
#[derive(Debug, Clone, Copy)]
pub struct Described<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it means; may be empty.
    pub description: &'a str,
    /// The JSON Schema of its data, as JSON; empty: none.
    pub schema: &'a str,
}

/// The module for these types. A text that is no JSON counts as no schema.
#[must_use]
pub fn module<'a>(types: impl IntoIterator<Item = Described<'a>>) -> String {
    let mut taken = BTreeSet::from([String::from("Events")]);
    let mut members = String::new();
    let mut declared = String::new();
    for described in types {
        let schema = serde_json::from_str::<Value>(described.schema).ok();
        let data = match schema {
            // References then lead from the schema's root, whatever they were written like.
            Some(schema) => {
                let schema = embedded(schema, "#");
                let name = unique(&pascal(described.name), &mut taken);
                let shapes = Shapes::new(&schema, &name, &mut taken);
                declared.push_str(&shapes.declarations(described.description));
                name
            }
            None => String::from("unknown"),
        };
        members.push_str(&doc(described.description, "  "));
        members.extend(["  ", &quoted(described.name), ": ", &data, ";\n"]);
    }
    format!(
        "{HEAD}/** The event types, each with the type of its `data`. */\n\
         export interface Events {{\n{members}}}\n{declared}"
    )
}

#[cfg(test)]
mod tests;
