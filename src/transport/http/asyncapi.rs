//! `GET /asyncapi.json`: the events, described in AsyncAPI 3.0 from the namespaces and the catalog.
//!
//! AsyncAPI interprets a schema as JSON Schema draft 7, and ignores keywords of 2020-12.

mod messages;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use http::HeaderMap;
use http::header::HOST;
use serde_json::{Map, Value, json};

use super::Shared;
use super::caller::Reader;
use super::reply::{self, Answer};
use crate::api::refusals::Guarded;
use crate::catalog::{Catalog, KnownType, pointer_part};
use crate::protocol::Definition;
use messages::{message, payload_schema};

/// The channel to which everyone is subscribed.
const GLOBAL: &str = "global";
/// The entry for the server's own messages; a namespace can't have this name.
const OWN: &str = "$server";

/// Settings of the document that come from the configuration.
#[derive(Debug, Clone, Default)]
pub struct AsyncApiSettings {
    /// The WebSocket's path.
    pub path: String,
    /// The name of the dialect at that path.
    pub dialect: String,
    /// The definition of that dialect.
    pub words: Arc<Definition>,
    /// The paths of Socket.IO, each with the form of an event's argument there.
    pub socket_io: Vec<(String, String)>,
}

/// The server's data in the document.
#[derive(Debug, Clone)]
pub struct AsyncApiServer {
    /// Its host, with the port if that is not the default.
    pub host: String,
    /// Whether connections need a token.
    pub token_required: bool,
    /// The dialects of each path.
    pub settings: Arc<AsyncApiSettings>,
}

/// The events, in AsyncAPI
#[utoipa::path(
    get,
    path = "/asyncapi.json",
    tag = "server",
    operation_id = "describeEvents",
    security((), ("bearer" = [])),
    responses((status = 200, description = "Done.", body = Value), Guarded),
)]
pub(super) async fn show(_: Reader, State(shared): State<Shared>, headers: HeaderMap) -> Answer {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let catalog = shared.services.catalog.load();
    let namespaces = shared.services.hub.namespaces();
    let declared = namespaces.declared().map(|namespace| &*namespace.name);
    let server = AsyncApiServer {
        host: host.unwrap_or("localhost").to_owned(),
        token_required: shared.services.limits.load().auth_required,
        settings: shared.asyncapi.load_full(),
    };
    reply::json(&document(&server, declared, &catalog))
}

/// The whole document, for these declared namespaces and event types.
pub fn document<'a>(
    server: &AsyncApiServer,
    declared: impl Iterator<Item = &'a str>,
    catalog: &'a Catalog,
) -> Value {
    let words = &*server.settings.words;
    let mut namespaces: BTreeSet<&str> = declared.collect();
    let homes = catalog.after("").filter(|known| !known.is_anywhere());
    namespaces.extend(homes.map(|known| known.namespace.as_str()));
    let (mut channels, mut operations) = (Map::new(), Map::new());
    for namespace in namespaces {
        let types = types(catalog, |known| published_in(known, namespace));
        channels.insert(namespace.to_owned(), channel(namespace, &types));
        operations.insert(format!("send.{namespace}"), operation(namespace, &types));
    }
    let own = types(catalog, |known| known.control);
    if !own.is_empty() {
        channels.insert(OWN.to_owned(), own_channel(&own));
        operations.insert(format!("send.{OWN}"), operation(OWN, &own));
    }
    let messages = catalog
        .after("")
        .map(|known| (known.name.to_string(), message(known, words)));
    let schemas = catalog.after("").filter_map(|known| {
        let schema = payload_schema(known, known.schema.as_ref()?);
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
        "servers": servers(server),
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages.collect::<Map<_, _>>(),
            "schemas": schemas.collect::<Map<_, _>>(),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
                "token": { "type": "httpApiKey", "in": "query", "name": "token" },
            },
        },
    })
}

fn servers(server: &AsyncApiServer) -> Value {
    let AsyncApiSettings {
        path,
        dialect,
        socket_io,
        ..
    } = &*server.settings;
    let need = if server.token_required {
        "Every connection needs a token, in a header, in the query, as the subprotocol \
         `bearer.TOKEN`, or by the message `authenticate`."
    } else {
        "Without a token a connection is anonymous: it receives events for everyone, and none for a user or a role."
    };
    let schemes = ["bearer", "token"]
        .map(|name| json!({ "$ref": format!("#/components/securitySchemes/{name}") }));
    let entry = |path: &str, protocol: &str, text: String| {
        json!({
            "host": server.host, "pathname": path, "protocol": protocol, "security": schemes,
            "description": format!("{text} {need}"),
        })
    };
    let text = format!(
        "JSON text frames in the dialect `{dialect}`, which is used if the client offers no subprotocol."
    );
    let mut servers = Map::new();
    servers.insert("websocket".to_owned(), entry(path, "ws", text));
    for (at, (path, argument)) in socket_io.iter().enumerate() {
        let name = format!("socketio{}", at.saturating_add(1));
        let text = format!(
            "Socket.IO: the event's name is the type of the message, its argument `{argument}`."
        );
        servers.insert(name, entry(path, "socket.io", text));
    }
    Value::Object(servers)
}

/// The names of the types that match.
fn types(catalog: &Catalog, wanted: impl Fn(&KnownType) -> bool) -> Vec<&str> {
    let types = catalog.after("").filter(|known| wanted(known));
    types.map(|known| known.name.as_str()).collect()
}

/// True for events that may be published in this namespace.
fn published_in(known: &KnownType, namespace: &str) -> bool {
    let everyone = namespace == GLOBAL && known.broadcast;
    !known.control && (known.is_anywhere() || known.namespace == namespace || everyone)
}

/// The channels of one namespace.
fn channel(namespace: &str, types: &[&str]) -> Value {
    let messages = messages(types);
    let id = json!({ "description": "The id of the channel." });
    match namespace {
        GLOBAL => json!({
            "address": GLOBAL,
            "description": "The channel for everyone.",
            "messages": messages,
        }),
        "*" => json!({
            "address": "{namespace}:{id}",
            "description": "Every channel of a namespace that is not declared.",
            "parameters": { "namespace": { "description": "Any other." }, "id": id },
            "messages": messages,
        }),
        _ => json!({
            "address": format!("{namespace}:{{id}}"),
            "description": format!("The channel `{namespace}`, and every channel `{namespace}:ID`."),
            "parameters": { "id": id },
            "messages": messages,
        }),
    }
}

/// The server's own messages to a single connection.
fn own_channel(types: &[&str]) -> Value {
    json!({
        "address": null,
        "description": "The server's own messages, which are not events and belong to no channel.",
        "messages": messages(types),
    })
}

fn messages(types: &[&str]) -> Value {
    let messages = types.iter().map(|name| {
        let message = json!({ "$ref": format!("#/components/messages/{name}") });
        ((*name).to_owned(), message)
    });
    Value::Object(messages.collect())
}

/// The operation that sends the messages of one entry.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Mode, Schema};
    use crate::event::EventType;

    pub(super) fn known(name: &str, namespace: &str) -> KnownType {
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

    fn server() -> AsyncApiServer {
        AsyncApiServer {
            host: String::from("localhost:8000"),
            token_required: true,
            settings: Arc::default(),
        }
    }

    #[test]
    fn global_and_server_messages_have_entries() {
        let wide = KnownType {
            broadcast: true,
            ..known("a.b", "room")
        };
        let own = KnownType {
            control: true,
            ..known("hello", "")
        };
        let catalog = Catalog::new(Mode::Open, [wide, own, known("c.d", "*")]);
        let document = document(&server(), ["global", "room"].into_iter(), &catalog);
        let messages = |entry: &str| {
            let messages = document["channels"][entry]["messages"].as_object().unwrap();
            messages.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(messages("global"), ["a.b", "c.d"]);
        assert_eq!(messages("room"), ["a.b", "c.d"]);
        assert_eq!(messages(OWN), ["hello"]);
        assert_eq!(document["channels"]["global"]["address"], "global");
        assert!(document["channels"].get("*").is_none());
    }

    #[test]
    fn namespace_lists_own_and_global_types() {
        let types = [known("a.b", "room"), known("c.d", ""), known("e.f", "a/b")];
        let catalog = Catalog::new(Mode::Open, types);
        let document = document(&server(), ["room", "global"].into_iter(), &catalog);
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
    fn type_shows_schema_and_example() {
        let text = r##"{"$ref": "#/$defs/bill", "$defs": {"bill": {"required": ["n"]}}}"##;
        let bill = KnownType {
            schema: Some(Schema::compile(text).unwrap()),
            example: Some(r#"{"n":1}"#.into()),
            ..known("bill.sent", "room")
        };
        let catalog = Catalog::new(Mode::Open, [bill, known("a.b", "room")]);
        let document = document(&server(), std::iter::empty(), &catalog);
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
