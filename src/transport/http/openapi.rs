//! `GET /openapi.json`: the HTTP API, described in OpenAPI 3.1.

mod names;
mod operations;
mod paths;
mod schemas;
mod sources;

use std::sync::LazyLock;

use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::caller::Reader;
use super::reply;

/// The description; it is the same for every server of this version.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());

/// Responds with the document.
pub(super) async fn show(_: Reader) -> Response {
    reply::json_text(DOCUMENT.clone())
}

/// The operations whose handlers are annotated, with the types that they name.
#[derive(OpenApi)]
#[openapi(components(schemas(crate::api::Stats)))]
struct Annotated;

/// The whole description.
pub(super) fn document() -> Value {
    let mut document = by_hand();
    let annotated = serde_json::to_value(Annotated::openapi()).unwrap_or_default();
    for pointer in ["/paths", "/components/schemas"] {
        let annotated = annotated.pointer(pointer).and_then(Value::as_object);
        let members = document.pointer_mut(pointer).and_then(Value::as_object_mut);
        if let (Some(annotated), Some(members)) = (annotated, members) {
            members.extend(annotated.clone());
        }
    }
    document
}

/// What is not annotated yet.
fn by_hand() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidings",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Publishing, reading and watching events over HTTP.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": [
            { "name": "events", "description": "Publishing and following." },
            { "name": "connections", "description": "For operators: role `admin`, or `viewer` to look." },
            { "name": "channels", "description": "History and presence." },
            { "name": "catalog", "description": "The known event types." },
            { "name": "older", "description": "Paths of systems that came before." },
            { "name": "server", "description": "Health and descriptions." },
        ],
        "security": [{ "bearer": [] }],
        "paths": paths::all(),
        "components": {
            "schemas": schemas::all(),
            "responses": responses(),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
                "token": { "type": "apiKey", "in": "query", "name": "token" },
            },
        },
    })
}

/// The error responses that many operations share.
fn responses() -> Value {
    let problem = |description: &str| {
        json!({
            "description": description,
            "content": {
                "application/problem+json": {
                    "schema": { "$ref": "#/components/schemas/Problem" },
                },
            },
        })
    };
    let mut unauthenticated = problem("There is no valid token.");
    if let Some(response) = unauthenticated.as_object_mut() {
        let header = json!({ "WWW-Authenticate": { "schema": { "const": "Bearer" } } });
        response.insert("headers".to_owned(), header);
    }
    json!({
        "BadRequest": problem("The request is wrong; `errors` names the field."),
        "Unauthenticated": unauthenticated,
        "PermissionDenied": problem("The token's roles, or the namespace's rules, do not allow it."),
        "NotFound": problem("There is no such thing."),
        "TooLarge": problem("The body or the payload is over the limit."),
        "UnsupportedMediaType": problem("The content type is none of those that are taken."),
        "ResourceExhausted": problem("A limit was reached; `Retry-After` says when to try again."),
        "Unavailable": problem("Not now; `Retry-After` says when to try again."),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described() {
        let document = document();
        let described = document["paths"].as_object().unwrap();
        for (path, _) in super::super::api() {
            let path = path.replace("{*channel}", "{channel}/history");
            assert!(described.contains_key(&path), "{path}");
        }
    }

    #[test]
    fn every_reference_resolves() {
        fn walk(value: &Value, document: &Value) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(reference)) = members.get("$ref") {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                    }
                    members.values().for_each(|member| walk(member, document));
                }
                Value::Array(entries) => entries.iter().for_each(|entry| walk(entry, document)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let document = document();
        walk(&document, &document);
    }
}
