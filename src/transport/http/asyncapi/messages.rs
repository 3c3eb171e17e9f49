//! Events and the server's own messages, in the form of a dialect.

use serde_json::{Map, Value, json};

use super::GLOBAL;
use crate::catalog::{KnownType, Schema, embedded};
use crate::event::json::Member;
use crate::event::strict_json;
use crate::protocol::{ControlMember, Definition};

/// An event of one type, or a message of the server, in the form of a text frame.
pub(super) fn message(known: &KnownType, words: &Definition) -> Value {
    let mut message = json!({
        "name": known.name.as_str(),
        "title": known.name.as_str(),
        "summary": known.description,
        "contentType": "application/json",
        "payload": payload(known, words),
    });
    if let (Value::Object(message), Some(example)) = (&mut message, example(known, words)) {
        message.insert("examples".to_owned(), json!([{ "payload": example }]));
    }
    message
}

/// The member that the schema describes; empty if its members are at the top level.
fn carrier<'w>(known: &KnownType, words: &'w Definition) -> &'w str {
    if known.control {
        &words.control.data
    } else {
        &words.event.data
    }
}

fn payload(known: &KnownType, words: &Definition) -> Value {
    let (mut members, mut required) = (Map::new(), Vec::new());
    for (name, schema, always) in envelope(known, words) {
        members.insert(name.to_owned(), schema);
        if always {
            required.push(name);
        }
    }
    let carrier = carrier(known, words);
    let reference = known
        .schema
        .as_ref()
        .map(|_| json!({ "$ref": schema_place(known) }));
    if !carrier.is_empty() {
        if reference.is_some() {
            required.push(carrier);
        }
        members.insert(carrier.to_owned(), reference.unwrap_or(json!({})));
        return json!({ "type": "object", "required": required, "properties": members });
    }
    let named = json!({ "type": "object", "required": required, "properties": members });
    match reference {
        Some(reference) => json!({ "allOf": [named, reference] }),
        None => named,
    }
}

/// The members besides the data: names, schemas, and whether they are always present.
fn envelope(known: &KnownType, words: &Definition) -> Vec<(&'static str, Value, bool)> {
    let text = json!({ "type": "string" });
    let time = json!({ "type": "string", "format": "date-time" });
    let named = json!({ "const": known.name.as_str() });
    if known.control {
        let members = words.control.members.iter().map(|member| match member {
            ControlMember::Type => ("type", named.clone(), true),
            ControlMember::Timestamp => ("timestamp", time.clone(), true),
        });
        return members.collect();
    }
    let members = words.event.members.iter().flat_map(|member| match member {
        Member::Type => vec![("type", named.clone(), true)],
        Member::Channel => vec![("channel", text.clone(), false)],
        Member::Id => {
            let id = json!({ "type": "string", "format": "uuid" });
            vec![("id", id, true)]
        }
        Member::Timestamp => vec![("timestamp", time.clone(), true)],
        Member::Offset => {
            let offset = json!({ "type": "integer", "minimum": 1 });
            vec![("offset", offset, false)]
        }
        Member::Headers => {
            let headers = json!({ "type": "object", "additionalProperties": text });
            vec![("headers", headers, false)]
        }
        Member::Traceparent => vec![
            ("traceparent", text.clone(), false),
            ("tracestate", text.clone(), false),
        ],
        Member::Position => {
            let position = json!({
                "type": "object",
                "required": ["channel", "epoch", "offset"],
                "properties": {
                    "channel": text,
                    "epoch": text,
                    "offset": { "type": "integer", "minimum": 1 },
                },
            });
            vec![("position", position, false)]
        }
    });
    members.collect()
}

/// A message of this type with the example as its data.
fn example(known: &KnownType, words: &Definition) -> Option<Value> {
    let data: Value = strict_json::value(known.example.as_deref()?.as_bytes()).ok()?;
    let channel = match known.namespace.as_str() {
        "" | "*" | GLOBAL => GLOBAL.to_owned(),
        namespace => format!("{namespace}:1"),
    };
    let mut example = Map::new();
    for (name, _, _) in envelope(known, words) {
        let value = match name {
            "type" => json!(known.name.as_str()),
            "channel" => json!(channel),
            "id" => json!("01a1fd92-b923-70e4-ab79-c09a91e88b58"),
            "timestamp" => json!("2026-11-21T10:06:53.731Z"),
            "offset" => json!(1),
            _ => continue,
        };
        example.insert(name.to_owned(), value);
    }
    match (carrier(known, words), data) {
        // The data's own members take precedence over the envelope's, except for the type.
        ("", Value::Object(data)) => {
            let own = data.into_iter().filter(|(name, _)| name != "type");
            example.extend(own);
        }
        ("", data) => {
            example.insert("data".to_owned(), data);
        }
        (carrier, data) => {
            example.insert(carrier.to_owned(), data);
        }
    }
    Some(Value::Object(example))
}

/// The reference to the schema of a type's data in the document.
fn schema_place(known: &KnownType) -> String {
    format!("#/components/schemas/{}", known.name)
}

/// The schema of a type's data, adapted for the document.
pub(super) fn payload_schema(known: &KnownType, schema: &Schema) -> Value {
    embedded(schema.value().clone(), &schema_place(known))
}

#[cfg(test)]
mod tests {
    use super::super::tests::known;
    use super::*;

    #[test]
    fn messages_are_described_in_dialect_form() {
        let sample = KnownType {
            schema: Some(Schema::compile(r#"{"required": ["n"]}"#).unwrap()),
            example: Some(r#"{"n":1}"#.into()),
            ..known("sample", "room")
        };
        let mut words = Definition::default();
        words.event.data = String::from("payload");
        words.event.members = vec![Member::Type];
        let wrapped = message(&sample, &words);
        assert_eq!(wrapped["payload"]["required"], json!(["type", "payload"]));
        let example = json!({ "type": "sample", "payload": { "n": 1 } });
        assert_eq!(wrapped["examples"][0]["payload"], example);
        words.event.data = String::new();
        let flat = message(&sample, &words);
        assert_eq!(flat["payload"]["allOf"][0]["required"], json!(["type"]));
        let example = json!({ "type": "sample", "n": 1 });
        assert_eq!(flat["examples"][0]["payload"], example);
    }
}
