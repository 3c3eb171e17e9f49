//! `GET /asyncapi.json`: the events, described in AsyncAPI 3.0 from the namespaces and the catalog.
//!
//! AsyncAPI reads a schema as JSON Schema draft 7, and passes over what only 2020-12 has.

mod embedded;

use std::collections::BTreeSet;

use axum::extract::State;
use http::HeaderMap;
use http::header::HOST;
use serde_json::{Map, Value, json};

use super::Shared;
use super::caller::Reader;
use super::reply::{self, Answer};
use crate::catalog::{Catalog, KnownType, Schema};
use embedded::embedded;

/// Answers with the description of the events that are known now.
pub(super) async fn show(_: Reader, State(shared): State<Shared>, headers: HeaderMap) -> Answer {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let catalog = shared.services.catalog.load();
    let namespaces = shared.services.hub.namespaces();
    let declared = namespaces.declared().map(|namespace| &*namespace.name);
    let server = json!({
        "host": host.unwrap_or("localhost"),
        "pathname": &*shared.websocket_path,
        "protocol": "ws",
        "description": "JSON text frames; the subprotocol `tidings.v1.json`.",
        "security": [{ "$ref": "#/components/securitySchemes/bearer" }],
    });
    reply::json(&document(declared, &catalog, &server))
}

/// The whole description.
fn document<'a>(
    declared: impl Iterator<Item = &'a str>,
    catalog: &'a Catalog,
    server: &Value,
) -> Value {
    let mut namespaces: BTreeSet<&str> = declared.collect();
    let named = catalog.after("").map(|known| known.namespace.as_str());
    namespaces.extend(named.filter(|namespace| !namespace.is_empty()));
    let (mut channels, mut operations) = (Map::new(), Map::new());
    for namespace in namespaces {
        let of_namespace =
            |known: &&KnownType| known.namespace.is_empty() || known.namespace == namespace;
        let types: Vec<&str> = catalog
            .after("")
            .filter(of_namespace)
            .map(|known| known.name.as_str())
            .collect();
        channels.insert(namespace.to_owned(), channel(namespace, &types));
        operations.insert(format!("send.{namespace}"), operation(namespace, &types));
    }
    let messages = catalog
        .after("")
        .map(|known| (known.name.to_string(), message(known)));
    let schemas = catalog.after("").filter_map(|known| {
        let schema = payload_schema(known, known.schema.as_ref()?)?;
        Some((known.name.to_string(), schema))
    });
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tidings",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The events of this server, as WebSocket clients receive them.",
        },
        "defaultContentType": "application/json",
        "servers": { "websocket": server },
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages.collect::<Map<_, _>>(),
            "schemas": schemas.collect::<Map<_, _>>(),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
            },
        },
    })
}

/// The channels of one namespace.
fn channel(namespace: &str, types: &[&str]) -> Value {
    let messages = types.iter().map(|name| {
        let message = json!({ "$ref": format!("#/components/messages/{name}") });
        ((*name).to_owned(), message)
    });
    json!({
        "address": format!("{namespace}:{{id}}"),
        "description": format!("The channel `{namespace}`, and every channel `{namespace}:ID`."),
        "parameters": { "id": { "description": "What the channel is about." } },
        "messages": messages.collect::<Map<_, _>>(),
    })
}

/// The server sends the events of one namespace.
fn operation(namespace: &str, types: &[&str]) -> Value {
    let place = format!("#/channels/{}", pointer_part(namespace));
    let messages = types
        .iter()
        .map(|name| json!({ "$ref": format!("{place}/messages/{name}") }));
    json!({
        "action": "send",
        "channel": { "$ref": place },
        "messages": messages.collect::<Vec<_>>(),
    })
}

/// An event of one type, as it stands in a text frame.
fn message(known: &KnownType) -> Value {
    let text = json!({ "type": "string" });
    let mut required = vec!["type", "id", "timestamp"];
    let mut data = json!({});
    if known.schema.is_some() {
        required.push("data");
        data = json!({ "$ref": schema_place(known) });
    }
    let mut message = json!({
        "name": known.name.as_str(),
        "title": known.name.as_str(),
        "summary": known.description,
        "contentType": "application/json",
        "payload": {
            "type": "object",
            "required": required,
            "properties": {
                "type": { "const": known.name.as_str() },
                "channel": text,
                "id": { "type": "string", "format": "uuid" },
                "timestamp": { "type": "string", "format": "date-time" },
                "offset": { "type": "integer", "minimum": 1 },
                "headers": { "type": "object", "additionalProperties": text },
                "data": data,
                "traceparent": text,
                "tracestate": text,
            },
        },
    });
    if let (Value::Object(message), Some(example)) = (&mut message, example(known)) {
        message.insert("examples".to_owned(), json!([{ "payload": example }]));
    }
    message
}

/// An event of this type with the example as its data.
fn example(known: &KnownType) -> Option<Value> {
    let data: Value = serde_json::from_str(known.example.as_deref()?).ok()?;
    let namespace = match known.namespace.as_str() {
        "" => "global",
        namespace => namespace,
    };
    Some(json!({
        "type": known.name.as_str(),
        "channel": format!("{namespace}:1"),
        "id": "01a1fd92-b923-70e4-ab79-c09a91e88b58",
        "timestamp": "2026-11-21T10:06:53.731Z",
        "offset": 1,
        "data": data,
    }))
}

/// Where the schema of a type's data stands in the description.
fn schema_place(known: &KnownType) -> String {
    format!("#/components/schemas/{}", known.name)
}

fn payload_schema(known: &KnownType, schema: &Schema) -> Option<Value> {
    let schema = serde_json::from_str(schema.text()).ok()?;
    Some(embedded(schema, &schema_place(known)))
}

/// One part of a JSON Pointer (RFC 6901 §3).
fn pointer_part(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Mode;
    use crate::event::EventType;

    fn known(name: &str, namespace: &str) -> KnownType {
        KnownType {
            name: EventType::new(name).unwrap(),
            namespace: namespace.to_owned(),
            broadcast: false,
            control: false,
            description: String::new(),
            roles: Vec::new(),
            conflate_key: None,
            schema: None,
            example: None,
        }
    }

    #[test]
    fn every_namespace_has_its_own_types_and_those_of_none() {
        let types = [known("a.b", "room"), known("c.d", ""), known("e.f", "a/b")];
        let catalog = Catalog::new(Mode::Open, types);
        let document = document(["room", "global"].into_iter(), &catalog, &json!({}));
        let messages = |pointer: &str| {
            let messages = document.pointer(pointer).unwrap().as_object().unwrap();
            messages.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(messages("/channels/room/messages"), ["a.b", "c.d"]);
        assert_eq!(messages("/channels/global/messages"), ["c.d"]);
        assert_eq!(messages("/channels/a~1b/messages"), ["c.d", "e.f"]);
        let place = &document["operations"]["send.a/b"]["channel"]["$ref"];
        let pointer = place.as_str().unwrap().strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some());
    }
    #[test]
    fn a_type_with_a_schema_shows_it_and_an_example() {
        let text = r##"{"$ref": "#/$defs/bill", "$defs": {"bill": {"required": ["n"]}}}"##;
        let bill = KnownType {
            schema: Some(Schema::compile(text).unwrap()),
            example: Some(r#"{"n":1}"#.into()),
            ..known("bill.sent", "room")
        };
        let catalog = Catalog::new(Mode::Open, [bill, known("a.b", "room")]);
        let document = document(std::iter::empty(), &catalog, &json!({}));
        let messages = &document["components"]["messages"];
        let place = &messages["bill.sent"]["payload"]["properties"]["data"]["$ref"];
        let pointer = place.as_str().unwrap().strip_prefix('#').unwrap();
        let inner = document.pointer(pointer).unwrap()["$ref"].as_str().unwrap();
        let bill = document.pointer(inner.strip_prefix('#').unwrap()).unwrap();
        assert_eq!(bill["required"], json!(["n"]));
        let example = &messages["bill.sent"]["examples"][0]["payload"];
        assert_eq!(example["data"], json!({ "n": 1 }));
        assert!(messages["a.b"].get("examples").is_none());
    }
}
