//! The catalog over HTTP: listing event types and validating payloads.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Config, Server, Token};

/// A recursive schema with a reference to its own part.
fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.com/bill.json",
        "type": "object",
        "required": ["n"],
        "properties": {
            "n": { "$ref": "#/$defs/count" },
            "parts": { "type": "array", "items": { "$ref": "https://example.com/bill.json" } },
        },
        "$defs": { "count": { "type": "integer", "minimum": 1 } },
        "examples": [{ "n": 2, "parts": [{ "n": 1 }] }],
    })
}

async fn start() -> Server {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bill.json"), schema().to_string()).unwrap();
    let sent =
        "namespace = \"room\"\ndescription = \"A bill went out.\"\nschema_file = \"bill.json\"";
    let config = Config::rooms()
        .event_type("bill.sent", sent)
        .event_type("bill.paid", "namespace = \"room\"");
    Server::start_in(dir, config).await
}

fn service() -> Token {
    Token::new("backend").roles(&["service"])
}

async fn validate(server: &Server, kind: &str, payload: &str) -> Answer {
    let token = format!("Bearer {}", service().sign());
    let headers = [
        ("Authorization", token.as_str()),
        ("Content-Type", "application/json"),
    ];
    let path = format!("/api/v1/catalog/{kind}/validate");
    server.http(Method::POST, &path, &headers, payload).await
}

#[tokio::test]
async fn event_types_are_listed_in_pages_and_singly() {
    let server = start().await;
    let path = "/api/v1/catalog?page_size=1";
    let first = server.get_as(&service(), path).await.json();
    assert_eq!(first["event_types"][0]["name"], "bill.paid");
    assert!(first["event_types"][0].get("schema").is_none(), "{first}");
    let token = first["next_page_token"].as_str().unwrap();
    let path = format!("{path}&page_token={token}");
    let second = server.get_as(&service(), &path).await.json();
    assert_eq!(second["next_page_token"], "");
    let path = "/api/v1/catalog/bill.sent";
    let one = server.get_as(&service(), path).await.json();
    assert_eq!(second["event_types"], json!([one]));
    assert_eq!(one["description"], "A bill went out.");
    assert_eq!(one["schema"], schema());
    assert_eq!(one["example"], schema()["examples"][0]);
    let viewer = Token::new("ann").roles(&["editor"]);
    let refused = server.get_as(&viewer, "/api/v1/catalog").await;
    refused.assert_problem(403);
}

#[tokio::test]
async fn payloads_are_validated_by_schema() {
    let server = start().await;
    let good = json!({ "valid": true, "errors": [] });
    let answer = validate(&server, "bill.sent", r#"{"n":1}"#).await;
    assert_eq!(answer.json(), good);
    let bad = validate(&server, "bill.sent", r#"{"n":1,"parts":[{"n":0}]}"#).await;
    let bad = bad.json();
    assert_eq!(bad["valid"], false);
    assert_eq!(bad["errors"][0]["path"], "/parts/0/n", "{bad}");
    let message = bad["errors"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("expected"), "{bad}");
    let broken = validate(&server, "bill.sent", r#"{"n":"#).await.json();
    assert_eq!(broken["valid"], false);
    assert_eq!(broken["errors"][0]["path"], "");
    let any = validate(&server, "bill.paid", r#"{"n":0}"#).await;
    assert_eq!(any.json(), good);
    let unknown = validate(&server, "no.such", "{}").await;
    unknown.assert_problem(404);
}

#[tokio::test]
async fn asyncapi_contains_schemas_and_examples() {
    let server = start().await;
    let asyncapi = server.get("/asyncapi.json").await.json();
    let follow = |reference: &Value| {
        let reference = reference["$ref"].as_str().unwrap();
        let pointer = reference.strip_prefix('#').unwrap();
        let found = asyncapi.pointer(pointer);
        found.unwrap_or_else(|| panic!("{reference}")).clone()
    };
    let message = follow(&asyncapi["channels"]["room"]["messages"]["bill.sent"]);
    let data = follow(&message["payload"]["properties"]["data"]);
    assert_eq!(data["required"], json!(["n"]));
    let count = follow(&data["properties"]["n"]);
    assert_eq!(count["minimum"], 1);
    assert_eq!(follow(&data["properties"]["parts"]["items"]), data);
    let example = &message["examples"][0]["payload"];
    assert_eq!(example["type"], "bill.sent");
    assert_eq!(example["data"], schema()["examples"][0]);
}
