//! Every event type of every preset. Its example arrives where it should; an invalid payload or
//! channel is refused with a helpful error.

use serde_json::{Value, json};
use tidings::proto::{Audience, GetEventTypeRequest, PublishRequest, ValidateEventRequest};
use tonic_types::StatusExt as _;

use crate::harness::{Config, Publisher, Server, Tidings, Token, Ws, event};

/// An event type as its preset declares it.
struct Declared {
    name: String,
    namespace: String,
    roles: Vec<String>,
    broadcast: bool,
    control: bool,
    example: Value,
}

/// The output of `tidings config --preset`, parsed.
async fn declared(preset: &str) -> Vec<Declared> {
    let shown = Tidings::new(&["config", "--preset", preset]).run().await;
    let file: toml_edit::DocumentMut = shown.exits(0).stdout.parse().unwrap();
    let types = file["event_type"].as_array_of_tables().unwrap();
    let flag = |table: &toml_edit::Table, key| table.get(key).is_some_and(|v| v.as_bool().unwrap());
    let text = |table: &toml_edit::Table, key| {
        let value = table.get(key).and_then(|value| value.as_str());
        value.unwrap_or_default().to_owned()
    };
    let read = types.iter().map(|table| Declared {
        name: text(table, "name"),
        namespace: text(table, "namespace"),
        roles: table
            .get("roles")
            .and_then(|roles| roles.as_array())
            .into_iter()
            .flatten()
            .map(|role| role.as_str().unwrap().to_owned())
            .collect(),
        broadcast: flag(table, "broadcast"),
        control: flag(table, "control"),
        example: serde_json::from_str(&text(table, "example")).unwrap(),
    });
    read.collect()
}

/// A client of the dialect `tidings`, whatever the server's default.
async fn client(server: &Server, path: &str, token: &Token) -> Ws {
    let offered = server.ws().path(path).protocol("tidings.v1.json");
    offered.bearer(&token.sign()).connect().await
}

/// Publishes, and expects the event unchanged at the watcher.
async fn arrives(publisher: &mut Publisher, watcher: &mut Ws, channel: &str, kind: &Declared) {
    let data = kind.example.clone();
    publisher.publish(channel, &kind.name, data).await;
    let seen = watcher.expect_event(&kind.name).await;
    assert_eq!(seen["channel"], channel, "{seen}");
    assert_eq!(seen["data"], kind.example, "{seen}");
}

/// Publishes what must be refused. Returns the violations, as field and description.
async fn refused(publisher: &mut Publisher, request: PublishRequest) -> Vec<(String, String)> {
    let status = publisher.try_send(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    let details = status.get_details_bad_request().unwrap();
    let violations = details.field_violations.into_iter();
    violations.map(|v| (v.field, v.description)).collect()
}

/// A client of the original system, which gets that system's envelope.
struct Older {
    ws: Ws,
    data: fn(Value) -> Value,
}

impl Older {
    async fn connect(server: &Server, channels: &[String], data: fn(Value) -> Value) -> Self {
        let token = Token::new("otto").roles(&["admin"]).sign();
        let mut ws = server
            .ws()
            .bearer(&token)
            .upgrade()
            .await
            .expect("an upgrade");
        // Where rooms are named after numbers, by those.
        let ask = json!({"type": "subscribe", "channels": channels, "characteristic_ids": [1]});
        ws.send(ask).await;
        ws.expect("subscribed").await;
        Older { ws, data }
    }

    async fn sees(&mut self, kind: &Declared) {
        let seen = self.ws.expect(&kind.name).await;
        assert_eq!((self.data)(seen), kind.example, "{}", kind.name);
    }
}

/// Removes the only members of the envelope, which leaves the data.
fn unwrapped(mut message: Value, envelope: &[&str], data: &str) -> Value {
    let members = message.as_object_mut().unwrap();
    let position = members.remove("position");
    assert!(
        position.is_some_and(|position| position["offset"].is_u64()),
        "{members:?}"
    );
    for name in envelope {
        assert!(
            members.remove(*name).is_some_and(|value| value.is_string()),
            "{members:?}"
        );
    }
    if data.is_empty() {
        return message;
    }
    let data = members.remove(data).unwrap();
    assert!(members.is_empty(), "{members:?}");
    data
}

/// Tests every type of a preset. `channel` makes a channel of a namespace.
async fn every_type(
    preset: &str,
    path: &str,
    channel: fn(&str) -> String,
    envelope: Option<fn(Value) -> Value>,
) {
    let server = Server::start(Config::preset(preset)).await;
    let mut publisher = server.publisher("service").await;
    let member = Token::new("ann")
        .claim("projects", json!(["123"]))
        .claim("agents", json!(["a-1"]));
    let mut ann = client(&server, path, &member).await;
    let mut operator = client(&server, path, &Token::new("olga").roles(&["admin"])).await;
    let declared = declared(preset).await;
    let mut homes: Vec<String> = declared
        .iter()
        .filter(|kind| !kind.control && !kind.namespace.is_empty())
        .map(|kind| channel(&kind.namespace))
        .collect();
    homes.sort();
    homes.dedup();
    for home in homes
        .iter()
        .filter(|home| !matches!(&***home, "global" | "user:ann"))
    {
        ann.subscribe(home).await;
        operator.subscribe(home).await;
    }
    let mut older = match envelope {
        Some(data) => Some(Older::connect(&server, &homes, data).await),
        None => None,
    };
    for kind in &declared {
        if kind.control {
            let violations = refused(&mut publisher, event("global", &kind.name, json!({}))).await;
            assert_eq!(violations[0].0, "type", "{}: {violations:?}", kind.name);
            continue;
        }
        let home = channel(&kind.namespace);
        if kind.roles.is_empty() {
            arrives(&mut publisher, &mut ann, &home, kind).await;
        } else {
            arrives(&mut publisher, &mut operator, &home, kind).await;
        }
        if let Some(older) = &mut older {
            older.sees(kind).await;
        }
        if kind.broadcast {
            arrives(&mut publisher, &mut ann, "global", kind).await;
            if let Some(older) = &mut older {
                older.sees(kind).await;
            }
        }
        let wrong = refused(&mut publisher, event(&home, &kind.name, json!(["wrong"]))).await;
        assert_eq!(wrong[0].0, "data", "{}: {wrong:?}", kind.name);
        assert_eq!(wrong[0].1, "expected the type object", "{}", kind.name);
        if !kind.namespace.is_empty() {
            let astray = event("elsewhere:1", &kind.name, kind.example.clone());
            let astray = refused(&mut publisher, astray).await;
            assert_eq!(astray[0].0, "type", "{}: {astray:?}", kind.name);
            assert!(astray[0].1.contains(&kind.namespace), "{astray:?}");
            // Every type may be published to the channel of a user who is offline.
            let own = event("user:zoe", &kind.name, kind.example.clone());
            publisher.try_send(own).await.unwrap();
        }
    }
    let unknown = refused(&mut publisher, event("global", "no.such", json!({}))).await;
    assert_eq!(unknown[0].0, "type");
    // Events for roles reached nobody else.
    ann.lives().await;
    let secret: Vec<&Value> = ann
        .unread()
        .filter(|m| {
            declared
                .iter()
                .any(|k| !k.roles.is_empty() && m["type"] == k.name)
        })
        .collect();
    assert!(secret.is_empty(), "{secret:?}");
    look_ups(&server, &declared).await;
}

/// gRPC, HTTP and the command line return what is declared.
async fn look_ups(server: &Server, declared: &[Declared]) {
    let token = Token::new("backend").roles(&["service"]);
    let mut catalog = server.catalog(Some(&token)).await;
    for kind in declared {
        let name = kind.name.as_str();
        let request = GetEventTypeRequest {
            name: name.to_owned(),
        };
        let found = catalog.get_event_type(request).await.unwrap().into_inner();
        let found = found.event_type.unwrap();
        let schema: Value = serde_json::from_str(&found.schema).unwrap();
        let example: Value = serde_json::from_str(&found.example).unwrap();
        assert_eq!(example, kind.example, "{name}");
        assert!(!found.description.is_empty(), "{name}");
        let path = format!("/api/v1/catalog/{name}");
        let shown = server.get_as(&token, &path).await.json();
        assert_eq!((&shown["schema"], &shown["example"]), (&schema, &example));
        // Optional members may be null: back ends serialize their models with every member.
        let mut nulls = kind.example.clone();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let properties = schema["properties"].as_object().into_iter().flatten();
        for (property, _) in properties.filter(|_| !kind.control) {
            if !required.contains(&json!(property)) {
                nulls[property] = Value::Null;
            }
        }
        for (data, valid) in [
            (&kind.example, true),
            (&nulls, true),
            (&json!("wrong"), false),
        ] {
            let request = ValidateEventRequest {
                r#type: name.to_owned(),
                data: data.to_string().into(),
            };
            let judged = catalog.validate_event(request).await.unwrap().into_inner();
            assert_eq!(judged.valid, valid, "{name}: {judged:?}");
        }
    }
    let last = declared.last().unwrap();
    let example = server
        .cli(&["--json", "catalog", "example", &last.name])
        .run()
        .await;
    assert_eq!(example.exits(0).json(), last.example);
    let schema = server.cli(&["catalog", "schema", &last.name]).run().await;
    assert_eq!(schema.exits(0).json()["type"], "object");
    let good = last.example.to_string();
    let good = server
        .cli(&["catalog", "validate", &last.name, &good])
        .run()
        .await;
    assert_eq!(good.exits(0).stdout, "valid\n");
    let bad = server
        .cli(&["catalog", "validate", &last.name, "[]"])
        .run()
        .await;
    assert!(bad.exits(1).stdout.contains("expected the type object"));
}

/// A channel of a namespace. `global` and single-channel namespaces stay as they are.
fn rooms(namespace: &str) -> String {
    match namespace {
        "" | "global" => "global".to_owned(),
        "user" => "user:ann".to_owned(),
        "agent" => "agent:a-1".to_owned(),
        "project" => "project:123".to_owned(),
        other => format!("{other}:1"),
    }
}

#[tokio::test]
async fn every_event_of_football_arrives() {
    let data = |event| unwrapped(event, &["type", "timestamp"], "data");
    every_type("football", "/ws", rooms, Some(data)).await;
}

#[tokio::test]
async fn every_event_of_devplatform_arrives() {
    every_type("devplatform", "/tidings", rooms, None).await;
}

#[tokio::test]
async fn every_event_of_spc_arrives() {
    let data = |event| unwrapped(event, &["type"], "payload");
    every_type("spc", "/ws", rooms, Some(data)).await;
}

#[tokio::test]
async fn every_event_of_photo_arrives() {
    let bare = |namespace: &str| match namespace {
        "" => "global".to_owned(),
        channel => channel.to_owned(),
    };
    let data = |event| unwrapped(event, &["type", "timestamp"], "");
    every_type("photo", "/ws", bare, Some(data)).await;
}

#[tokio::test]
async fn every_event_of_robotics_arrives() {
    every_type("robotics", "/ws", rooms, None).await;
}

#[tokio::test]
async fn invalid_payload_reports_places_on_all_transports() {
    let server = Server::start(Config::preset("football")).await;
    let data = json!({"job_id": "", "progress": 101, "stage": "x"});
    let places = [
        ("/job_id", "expected at least 1 characters"),
        ("/progress", "expected at most 100"),
    ];
    let mut publisher = server.publisher("service").await;
    let violations = refused(
        &mut publisher,
        event("global", "processing_progress", data.clone()),
    );
    let expected = places.map(|(path, text)| (format!("data{path}"), text.to_owned()));
    assert_eq!(violations.await, expected);

    let token = Token::new("backend").roles(&["service"]);
    let bearer = format!("Bearer {}", token.sign());
    let headers = [
        ("Authorization", &*bearer),
        ("Content-Type", "application/json"),
    ];
    let body = json!({"channels": ["global"], "type": "processing_progress", "data": data});
    let path = "/api/v1/events";
    let answer = server
        .http(http::Method::POST, path, &headers, &body.to_string())
        .await;
    let errors = places.map(|(path, text)| json!({"field": "data", "path": path, "message": text}));
    assert_eq!(answer.assert_problem(400)["errors"], json!(errors));

    let mut ws = client(&server, "/ws", &token).await;
    let publish = json!({"type": "publish", "channel": "global",
        "event_type": "processing_progress", "data": data});
    let error = ws.refused(publish, "invalid_argument").await;
    let errors = places.map(|(path, text)| json!({"path": path, "message": text}));
    assert_eq!(error["details"]["field"], "data");
    assert_eq!(error["details"]["errors"], json!(errors));
}

#[tokio::test]
async fn event_for_one_user_reaches_only_that_user() {
    let server = Server::start(Config::preset("football")).await;
    let mut ann = client(&server, "/ws", &Token::new("user-123")).await;
    let mut bob = client(&server, "/ws", &Token::new("bob")).await;
    let data = json!({"message": "Your job is complete!"});
    let to_ann = PublishRequest {
        audience: Some(Audience {
            users: vec!["user-123".to_owned()],
            ..Audience::default()
        }),
        ..event("", "user_notification", data.clone())
    };
    let mut publisher = server.publisher("service").await;
    publisher.send(to_ann).await;
    assert_eq!(ann.expect_event("user_notification").await["data"], data);
    let everyone = refused(&mut publisher, event("global", "user_notification", data)).await;
    assert_eq!(
        everyone[0].1,
        "user_notification belongs to the namespace user"
    );
    bob.lives().await;
    assert_eq!(bob.unread().count(), 0);
}
