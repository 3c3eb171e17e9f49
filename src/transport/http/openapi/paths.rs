//! The operations, resource by resource.

use serde_json::{Map, Value, json};

use super::{names, operations, sources};
use crate::telemetry::Transport;

/// All paths with their operations.
pub(super) fn all() -> Value {
    let parts = [
        events(),
        connections(),
        channels(),
        catalog(),
        older(),
        server(),
        operations::paths(),
        sources::paths(),
    ];
    let mut paths = Map::new();
    for part in parts {
        if let Value::Object(part) = part {
            paths.extend(part);
        }
    }
    Value::Object(paths)
}

pub(super) fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn json_content(schema: &Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

fn response(name: &str) -> Value {
    json!({ "$ref": format!("#/components/responses/{name}") })
}

/// An operation that needs a token, with its success and error responses.
pub(super) fn operation(
    tag: &str,
    id: &str,
    summary: &str,
    ok: &Value,
    refusals: &[&str],
) -> Value {
    let mut responses = Map::new();
    responses.insert(
        "200".to_owned(),
        json!({ "description": "Done.", "content": json_content(ok) }),
    );
    // If the token can't be judged, any operation is unavailable.
    for name in ["Unauthenticated", "PermissionDenied", "Unavailable"]
        .iter()
        .chain(refusals)
    {
        let status = match *name {
            "BadRequest" => "400",
            "Unauthenticated" => "401",
            "PermissionDenied" => "403",
            "NotFound" => "404",
            "TooLarge" => "413",
            "UnsupportedMediaType" => "415",
            "ResourceExhausted" => "429",
            _ => "503",
        };
        responses.insert(status.to_owned(), response(name));
    }
    json!({ "tags": [tag], "operationId": id, "summary": summary, "responses": responses })
}

/// The same with more members, such as parameters and a body.
pub(super) fn with(mut operation: Value, members: Value) -> Value {
    if let (Value::Object(operation), Value::Object(members)) = (&mut operation, members) {
        operation.extend(members);
    }
    operation
}

/// An optional parameter; an empty one counts as missing.
pub(super) fn in_query(name: &str, schema: &Value, description: &str) -> Value {
    json!({
        "name": name, "in": "query", "description": description, "schema": schema,
        "allowEmptyValue": true,
    })
}

pub(super) fn text() -> Value {
    json!({ "type": "string" })
}

pub(super) fn number(from: u32, to: u32) -> Value {
    json!({ "type": "integer", "minimum": from, "maximum": to })
}

pub(super) fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn in_path(name: &str, schema: &Value, description: &str) -> Value {
    json!({
        "name": name, "in": "path", "required": true, "description": description,
        "schema": schema,
    })
}

/// The parameters of paging, with the schema of this list's tokens.
fn page(token: &Value) -> [Value; 2] {
    let size = number(0, 1000);
    [
        in_query("page_size", &size, "At most 1000; 100 if absent or 0."),
        in_query("page_token", token, "`next_page_token` of the page before."),
    ]
}

fn events() -> Value {
    let publish = with(
        operation(
            "events",
            "publish",
            "Publishes an event, or CloudEvents 1.0",
            &json!({ "anyOf": [
                schema("Published"), { "type": "array", "items": schema("Published") },
            ] }),
            &[
                "BadRequest",
                "TooLarge",
                "UnsupportedMediaType",
                "ResourceExhausted",
                "Unavailable",
            ],
        ),
        json!({
            "description": "Role `service`, or what the namespace's rules allow. A CloudEvent may \
                also come in the binary mode: its attributes as `ce-` headers, its data as the \
                body. A batch answers a list, with `error` in place of what was refused.",
            "requestBody": { "required": true, "content": {
                "application/json": { "schema": schema("PublishRequest") },
                "application/cloudevents+json": { "schema": schema("CloudEvent") },
                "application/cloudevents-batch+json": { "schema": {
                    "type": "array", "maxItems": 1000,
                    "items": { "description": "A CloudEvent each, judged by itself." },
                } },
            } },
        }),
    );
    let mut follow = with(
        operation(
            "events",
            "follow",
            "Follows channels as server-sent events",
            &json!({ "type": "string" }),
            &["BadRequest", "ResourceExhausted", "Unavailable"],
        ),
        json!({
            "description": "The first message is `event: subscribed`; events have no `event` \
                field; `id` is EPOCH/OFFSET, with several channels one for each separated by \
                commas, and resumes all of them as `Last-Event-ID`.",
            "security": [{ "bearer": [] }, { "token": [] }, {}],
            "parameters": [
                {
                    "name": "channel", "in": "query", "required": true, "explode": true,
                    "description": "A channel, or a pattern such as `project:*`; may be repeated.",
                    "schema": { "type": "array", "minItems": 1, "items": text() },
                },
                in_query("event_types", &text(), "Exact names or with a trailing `*`, by commas."),
                in_query("filter", &text(), "A CEL expression over `event`."),
                in_query("rewind", &number(0, u32::MAX), "Replays the newest so many events first."),
                in_query("presence", &flag(), "Whether to hear who comes and goes."),
                in_query("durable", &durable(), "The name of a durable subscription."),
                in_query("min_interval", &interval(), "The least time between two events of a key."),
                in_query("last_event_id", &text(), "As the header `Last-Event-ID`."),
                in_query("sample", &number(1, 10_000), "At most so many events a second; what is left out is counted by `event: sampled`."),
                {
                    "name": "Last-Event-ID", "in": "header",
                    "description": "Resumes behind this id.", "schema": { "type": "string" },
                },
            ],
        }),
    );
    if let Some(ok) = follow.pointer_mut("/responses/200/content") {
        *ok = json!({ "text/event-stream": { "schema": { "type": "string" } } });
    }
    json!({
        "/api/v1/events": { "post": publish },
        "/sse": { "get": follow },
        "/stream": { "get": stream() },
    })
}

/// The name of a durable subscription; empty for none.
fn durable() -> Value {
    json!({ "type": "string", "pattern": "^[A-Za-z0-9_.-]{0,64}$" })
}

/// 10 ms to 1 h; empty for none.
fn interval() -> Value {
    json!({ "type": "string", "pattern": "^([1-9][0-9]{1,5}ms|[1-9][0-9]?[sm]|1h)?$" })
}

fn stream() -> Value {
    let mut stream = with(
        operation(
            "events",
            "stream",
            "Follows channels as lines of JSON",
            &json!({ "type": "string" }),
            &["BadRequest", "ResourceExhausted", "Unavailable"],
        ),
        json!({
            "description": "Each line is a message as on the WebSocket: first `subscribed`, then \
                events and notices, and last `close`.",
            "security": [{ "bearer": [] }, { "token": [] }, {}],
            "parameters": [
                {
                    "name": "channel", "in": "query", "required": true, "explode": true,
                    "description": "A channel, or a pattern such as `project:*`; may be repeated.",
                    "schema": { "type": "array", "minItems": 1, "items": text() },
                },
                in_query("event_types", &text(), "Exact names or with a trailing `*`, by commas."),
                in_query("filter", &text(), "A CEL expression over `event`."),
                in_query("rewind", &number(0, u32::MAX), "Replays the newest so many events first."),
                in_query("presence", &flag(), "Whether to hear who comes and goes."),
                in_query("durable", &durable(), "The name of a durable subscription."),
                in_query("min_interval", &interval(), "The least time between two events of a key."),
                in_query("since", &text(), "EPOCH/OFFSET, with several channels one for each by \
                    commas, `-` for none: resumes behind it."),
            ],
        }),
    );
    if let Some(ok) = stream.pointer_mut("/responses/200/content") {
        *ok = json!({ "application/x-ndjson": { "schema": { "type": "string" } } });
    }
    stream
}

fn filters() -> Vec<Value> {
    let transport = json!({ "enum": Transport::ALL.map(Transport::as_str) });
    let mut parameters = vec![
        in_query("user", &text(), "Only this user's."),
        in_query("role", &text(), "Only those with this role."),
        in_query(
            "channel",
            &names::channel(),
            "Only those subscribed to this channel.",
        ),
        in_query("transport", &transport, "Only this transport's."),
        in_query(
            "client_type",
            &text(),
            "Only those that registered as this.",
        ),
        in_query(
            "address",
            &text(),
            "Only those from this address or network, such as 192.0.2.0/24.",
        ),
        in_query(
            "order_by",
            &operations::order(&["outbox", "dropped", "bytes", "connected_at", "round_trip"]),
            "The order; a `desc` behind it is as the parameter.",
        ),
        in_query("desc", &flag(), "The largest first; only with `order_by`."),
    ];
    // The node is a number of 16 bits.
    let node = "([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
    let pattern =
        format!("^({node}\\.[0-9]{{1,4}}\\.[0-9]{{1,9}}|[0-9]{{1,20}}\\.[0-9a-f]{{28}})$");
    let token = json!({ "type": "string", "pattern": pattern });
    parameters.extend(page(&token));
    parameters
}

fn connections() -> Value {
    let id = in_path("id", &text(), "The connection's id.");
    let ending = json!([
        in_query(
            "reason",
            &json!({ "type": "string", "maxLength": 123 }),
            "Told to the client; at most 123 bytes."
        ),
        in_query(
            "revoke",
            &flag(),
            "Also takes back the connection's token, or all that the user has by now.",
        ),
    ]);
    let (ok, tag) = (schema("Connection"), "connections");
    let show = operation(
        tag,
        "getConnection",
        "Shows a connection",
        &ok,
        &["NotFound"],
    );
    let mut end = with(
        operation(
            tag,
            "disconnect",
            "Ends a connection (4410)",
            &ok,
            &["BadRequest", "NotFound", "ResourceExhausted"],
        ),
        json!({ "parameters": &ending }),
    );
    if let Some(Value::Object(responses)) = end.get_mut("responses") {
        responses.remove("200");
        responses.insert("204".to_owned(), json!({ "description": "Ended." }));
    }
    let list = operation(
        tag,
        "listConnections",
        "Lists connections",
        &schema("ConnectionPage"),
        &["BadRequest"],
    );
    let ended = schema("Disconnected");
    let mut all = json!([{
        "name": "user", "in": "query", "required": true,
        "description": "Whose connections: 1 to 255 bytes without control characters.",
        "schema": {
            "type": "string", "minLength": 1, "maxLength": 255,
            "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        },
    }]);
    if let (Value::Array(all), Value::Array(ending)) = (&mut all, ending) {
        all.extend(ending);
    }
    let end_all = with(
        operation(
            tag,
            "disconnectUser",
            "Ends all connections of a user (4410)",
            &ended,
            &["BadRequest", "ResourceExhausted"],
        ),
        json!({ "parameters": all }),
    );
    json!({
        "/api/v1/connections": {
            "get": with(list, json!({ "parameters": filters() })), "delete": end_all,
        },
        "/api/v1/connections/{id}": { "parameters": [id], "get": show, "delete": end },
    })
}

fn channels() -> Value {
    let tag = "channels";
    let since = names::position("EPOCH/OFFSET");
    let channel = in_path(
        "channel",
        &names::channel(),
        "The channel's name; it may hold `/`.",
    );
    let short = json!({ "type": "string", "maxLength": 255 });
    let [size, token] = page(&short);
    let list = operation(
        tag,
        "listChannels",
        "Lists channels",
        &schema("ChannelPage"),
        &["BadRequest"],
    );
    let history = operation(
        tag,
        "getHistory",
        "Reads history",
        &schema("History"),
        &["BadRequest"],
    );
    let purge = operation(
        tag,
        "purgeHistory",
        "Purges history",
        &schema("Purged"),
        &["BadRequest", "Unavailable"],
    );
    let presence = operation(
        tag,
        "getPresence",
        "Shows who is there",
        &schema("Presence"),
        &["BadRequest"],
    );
    json!({
        "/api/v1/channels": { "get": with(list, json!({ "parameters": [
            in_query("prefix", &short, "Only names that start with this."),
            in_query("order_by", &operations::order(&["rate", "subscribers", "history"]), "The order; by name if absent."),
            in_query("desc", &flag(), "The largest first; only with `order_by`."), size, token,
        ] })) },
        "/api/v1/channels/{channel}/history": {
            "parameters": [channel],
            "get": with(history, json!({ "parameters": [
                in_query("limit", &number(1, 1000), "1 to 1000; 100 if absent."),
                in_query("since", &since, "Only events after this place; before, if `reverse`."),
                in_query("reverse", &flag(), "Newest first."),
            ] })),
            "delete": with(purge, json!({ "parameters": [
                in_query("until_offset", &json!({ "type": "integer", "minimum": 0 }),
                    "Only events up to this offset."),
                in_query("user", &json!({ "type": "string", "maxLength": 255 }),
                    "Only events that this user published or was sent alone."),
            ] })),
        },
        "/api/v1/channels/{channel}/presence": { "parameters": [channel], "get": presence },
    })
}

fn catalog() -> Value {
    let tag = "catalog";
    let kind = in_path("type", &text(), "The event type.");
    let page = page(&text());
    let list = operation(
        tag,
        "listEventTypes",
        "Lists event types",
        &schema("EventTypePage"),
        &["BadRequest"],
    );
    let show = operation(
        tag,
        "getEventType",
        "Shows an event type",
        &schema("EventType"),
        &["NotFound"],
    );
    let validate = operation(
        tag,
        "validateEvent",
        "Says whether a strict catalog would accept the body as a payload",
        &schema("Judgement"),
        &["BadRequest", "NotFound", "TooLarge"],
    );
    let body = json!({ "required": true, "content": json_content(&json!({})) });
    json!({
        "/api/v1/catalog": { "get": with(list, json!({
            "parameters": page,
            "description": "A page ends early when its schemas and examples have a mebibyte.",
        })) },
        "/api/v1/catalog/{type}": { "parameters": [kind], "get": show },
        "/api/v1/catalog/{type}/validate": {
            "parameters": [kind], "post": with(validate, json!({ "requestBody": body })),
        },
    })
}

fn older() -> Value {
    let tag = "older";
    let any = json!({ "type": "object" });
    let broadcast = |id: &str| {
        let body = json!({ "required": true, "content": json_content(&schema("Broadcast")) });
        with(
            operation(
                tag,
                id,
                "Publishes an event",
                &schema("Published"),
                &["BadRequest", "TooLarge", "ResourceExhausted"],
            ),
            json!({ "requestBody": body }),
        )
    };
    let list = |id: &str, summary: &str| {
        let parameters = json!({ "parameters": filters() });
        with(
            operation(tag, id, summary, &any, &["BadRequest"]),
            parameters,
        )
    };
    let stats = |id: &str| operation(tag, id, "Shows the counters", &any, &[]);
    json!({
        "/api/v1/websocket/connections": {
            "get": list("listWebsocketConnections", "Lists connections"),
        },
        "/api/v1/websocket/broadcast": { "post": broadcast("websocketBroadcast") },
        "/api/v1/websocket/stats": { "get": stats("websocketStats") },
        "/websocket/clients": { "get": list("listClients", "Lists clients") },
        "/websocket/broadcast": { "post": broadcast("broadcast") },
        "/websocket/disconnect/{id}": {
            "parameters": [in_path("id", &text(), "The connection's id.")],
            "post": operation(tag, "disconnectClient", "Ends a connection", &any, &["NotFound"]),
        },
        "/websocket/stats": { "get": stats("clientStats") },
    })
}

fn server() -> Value {
    let open = |id: &str, summary: &str, content: &str| {
        json!({ "get": {
            "tags": ["server"], "operationId": id, "summary": summary, "security": [],
            "responses": { "200": {
                "description": "It is.", "content": { content: { "schema": {} } },
            } },
        } })
    };
    let mut ready = open(
        "ready",
        "Whether the server takes connections",
        "text/plain",
    );
    if let Some(Value::Object(responses)) = ready.pointer_mut("/get/responses") {
        responses.insert("503".to_owned(), response("Unavailable"));
    }
    json!({
        "/healthz": open("healthy", "Whether the process runs", "text/plain"),
        "/readyz": ready,
        "/openapi.json": open("describeHttp", "This description", "application/json"),
        "/asyncapi.json": open("describeEvents", "The events, in AsyncAPI", "application/json"),
    })
}
