//! Renders the event types as a TypeScript module. Its interface `Events` maps each name to the
//! type of the event's data.
//!
//! TypeScript cannot express all of JSON Schema. Formats, patterns, bounds and conditions are
//! omitted, and objects list only the properties that the schema names. The output always compiles.

mod references;
mod shape;
mod writing;

use std::collections::BTreeSet;

use serde_json::Value;

use super::embedded::embedded;
use shape::Shapes;
use writing::{doc, pascal, quoted, unique};

/// The header of the module.
const HEAD: &str = "// Made by `tidings catalog typescript` from the server's catalog: make it anew when that changes.\n\
    /* eslint-disable */\n\n";

/// One event type, as far as the module needs it.
#[derive(Debug, Clone, Copy)]
pub struct Described<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its description. May be empty.
    pub description: &'a str,
    /// The JSON Schema of its data. Empty if there is none.
    pub schema: &'a str,
}

/// The module for these types. A schema that is not JSON is ignored.
#[must_use]
pub fn module<'a>(types: impl IntoIterator<Item = Described<'a>>) -> String {
    let mut taken = BTreeSet::from([String::from("Events")]);
    let mut members = String::new();
    let mut declared = String::new();
    for described in types {
        let schema = serde_json::from_str::<Value>(described.schema).ok();
        let data = match schema {
            // References then resolve from the schema's root, however they were written.
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
