//! `GET /asyncapi.json`: the events, described in AsyncAPI 3.0 from the namespaces and the catalog.

use std::collections::BTreeSet;

use axum::extract::State;
use http::HeaderMap;
use http::header::HOST;
use serde_json::{Map, Value, json};

use super::Shared;
use super::reply::{self, Answer};
use crate::catalog::{Catalog, KnownType};

/// Answers with the description of the events that are known now.
pub(super) async fn show(State(shared): State<Shared>, headers: HeaderMap) -> Answer {
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
    json!({
        "name": known.name.as_str(),
        "title": known.name.as_str(),
        "summary": known.description,
        "contentType": "application/json",
        "payload": {
            "type": "object",
            "required": ["type", "id", "timestamp"],
            "properties": {
                "type": { "const": known.name.as_str() },
                "channel": text,
                "id": { "type": "string", "format": "uuid" },
                "timestamp": { "type": "string", "format": "date-time" },
                "offset": { "type": "integer", "minimum": 1 },
                "headers": { "type": "object", "additionalProperties": text },
                "data": {},
                "traceparent": text,
            },
        },
    })
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
}
