//! `GET /openapi.json`: the HTTP API in OpenAPI 3.1, generated from the annotations of the handlers and
//! the types of `crate::api`, whose first comment says how to add an operation.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::response::Response;
use bytes::Bytes;
use http::Method;
use serde_json::Value;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, PathItem, RefOr, Required, Schema};
use utoipa::{Modify, OpenApi};

use super::caller::Reader;
use super::{
    asyncapi, catalog, channels, connections, events, older, operations, pages, reply, rpc, sse,
    stream, webhooks,
};
use crate::api::refusals::{self, Guarded};
use crate::api::{self, problem::Problem};

/// The description; it is the same for every server of this version.
static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| serde_json::to_vec(&document()).unwrap_or_default().into());
/// The query parameters of each operation, by path and method.
static QUERIES: LazyLock<BTreeMap<(String, Method), Vec<String>>> = LazyLock::new(queries);

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidings",
        description = "Publishing, reading and watching events over HTTP.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    servers((url = "/")),
    tags(
        (name = "events", description = "Publishing and subscribing."),
        (
            name = "connections",
            description = "For operators: role `admin`, or `viewer` for reading.",
        ),
        (name = "channels", description = "History and presence."),
        (name = "catalog", description = "The declared event types."),
        (name = "older", description = "The paths of the older systems."),
        (name = "server", description = "Health and descriptions."),
    ),
    security(("bearer" = [])),
    paths(
        events::publish,
        events::publish_cloud_event,
        events::publish_cloud_event_batch,
        rpc::call,
        sse::open,
        stream::open,
        operations::stats,
        operations::stats_history,
        operations::server,
        operations::explain,
        operations::refusals,
        operations::sources,
        webhooks::list,
        webhooks::resend,
        connections::list,
        connections::end_all,
        connections::show,
        connections::end,
        channels::list,
        channels::history,
        channels::purge,
        channels::presence,
        catalog::list,
        catalog::show,
        catalog::validate,
        older::connections,
        older::broadcast,
        older::stats,
        older::clients,
        older::disconnect,
        pages::healthy,
        pages::ready,
        show,
        asyncapi::show,
    ),
    components(schemas(Problem)),
    modifiers(&Shared),
)]
struct Document;

/// The parts that many operations and schemas share.
struct Shared;

impl Modify for Shared {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.responses.extend(refusals::all());
        add_security(components);
        add_conditions(components);
        let paths = &mut document.paths.paths;
        for (path, of, operation_id) in ALIASES {
            if let Some(mut item) = paths.get(*of).cloned() {
                for operation in operations(&mut item) {
                    operation.operation_id = Some((*operation_id).to_owned());
                }
                paths.insert((*path).to_owned(), item);
            }
        }
        let operations = paths.values_mut().flat_map(operations);
        let parameters = operations.filter_map(|operation| operation.parameters.as_mut());
        parameters.flatten().for_each(allow_empty);
    }
}

/// Paths that are aliases: the alias, its path, and the id of the alias' operation.
const ALIASES: &[(&str, &str, &str)] = &[
    (
        "/websocket/broadcast",
        "/api/v1/websocket/broadcast",
        "broadcast",
    ),
    ("/websocket/stats", "/api/v1/websocket/stats", "clientStats"),
];

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.delete]
        .into_iter()
        .flatten()
}

/// An empty query parameter counts as missing.
fn allow_empty(parameter: &mut RefOr<Parameter>) {
    if let RefOr::T(parameter) = parameter
        && parameter.parameter_in == ParameterIn::Query
        && parameter.required != Required::True
    {
        let empty = Extensions::from_iter([("allowEmptyValue", true)]);
        parameter.extensions.get_or_insert_default().merge(empty);
    }
}

fn add_security(components: &mut Components) {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT");
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    let token = ApiKey::Query(ApiKeyValue::new("token"));
    components.add_security_scheme("token", SecurityScheme::ApiKey(token));
}

/// Adds the conditions on several members of a type together.
fn add_conditions(components: &mut Components) {
    for (name, conditions) in api::conditions() {
        if let Some(RefOr::T(Schema::Object(object))) = components.schemas.get_mut(name) {
            let keywords = Extensions::from_iter(conditions);
            object.extensions.get_or_insert_default().merge(keywords);
        }
    }
}

/// This description
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "server",
    operation_id = "describeHttp",
    security((), ("bearer" = [])),
    responses((status = 200, description = "Done.", body = Value), Guarded),
)]
pub(super) async fn show(_: Reader) -> Response {
    reply::json_text(DOCUMENT.clone())
}

/// The whole description.
pub(super) fn document() -> Value {
    serde_json::to_value(Document::openapi()).unwrap_or_default()
}

/// The names of the query parameters of an operation.
pub(super) fn query_of(path: &str, method: &Method) -> &'static [String] {
    let key = (path.to_owned(), method.clone());
    QUERIES.get(&key).map_or(&[], Vec::as_slice)
}

fn queries() -> BTreeMap<(String, Method), Vec<String>> {
    let mut queries = BTreeMap::new();
    for (path, item) in Document::openapi().paths.paths {
        let operations = [
            (Method::GET, item.get),
            (Method::POST, item.post),
            (Method::DELETE, item.delete),
        ];
        for (method, operation) in operations {
            let parameters = operation.and_then(|operation| operation.parameters);
            let names = parameters.into_iter().flatten();
            let names = names.filter_map(|parameter| match parameter {
                RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => {
                    Some(parameter.name)
                }
                RefOr::T(_) | RefOr::Ref(_) => None,
            });
            queries.insert((path.clone(), method), names.collect());
        }
    }
    queries
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

    #[test]
    fn each_request_body_has_one_media_type() {
        let document = document();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let body = operation.pointer("/requestBody/content");
                let types = body
                    .and_then(Value::as_object)
                    .map_or(0, serde_json::Map::len);
                assert!(types <= 1, "{method} {path}");
            }
        }
    }

    #[test]
    fn conditions_are_in_their_schemas() {
        let document = document();
        for (name, conditions) in api::conditions() {
            let schema = &document["components"]["schemas"][name];
            for (keyword, condition) in conditions {
                assert_eq!(schema[keyword], condition, "{name}");
            }
        }
    }

    #[test]
    fn publish_request_accepts_the_members_of_its_schema() {
        let document = document();
        let schema = &document["components"]["schemas"]["PublishRequest"]["properties"];
        let described: Vec<&String> = schema.as_object().unwrap().keys().collect();
        let mut taken = api::PublishRequest::MEMBERS;
        taken.sort_unstable();
        assert_eq!(described, taken);
    }
}
