//! Other services of the internal listener: health, reflection, gRPC-Web, metrics, the catalog.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::Method;
use prost::Message as _;
use serde_json::json;
use tidings::proto::{
    GetEventTypeRequest, ListEventTypesRequest, PublishResponse, ValidateEventRequest,
};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use crate::harness::{Config, Server, Token, event, eventually, within};

#[tokio::test]
async fn health_check_reports_serving() {
    let server = Server::start(Config::rooms()).await;
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", "tidings.v1.EventService"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
}

/// The services listed by one version of the reflection protocol.
macro_rules! reflected {
    ($server:expr, $version:ident) => {{
        use $version::server_reflection_request::MessageRequest;
        use $version::server_reflection_response::MessageResponse;
        let request = $version::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = $version::server_reflection_client::ServerReflectionClient::new(
            $server.channel().await,
        );
        let answer = client
            .server_reflection_info(tokio_stream::once(request))
            .await
            .unwrap();
        let mut answers = answer.into_inner();
        let answer = within("reflection", answers.message())
            .await
            .unwrap()
            .unwrap();
        match answer.message_response.unwrap() {
            MessageResponse::ListServicesResponse(list) => list
                .service
                .into_iter()
                .map(|s| s.name)
                .collect::<Vec<String>>(),
            other => panic!("{other:?}"),
        }
    }};
}

#[tokio::test]
async fn both_reflection_versions_list_services() {
    let server = Server::start(Config::rooms()).await;
    for services in [reflected!(server, v1), reflected!(server, v1alpha)] {
        for service in ["EventService", "ConnectionService", "CatalogService"] {
            assert!(
                services.contains(&format!("tidings.v1.{service}")),
                "{services:?}"
            );
        }
    }
}

#[tokio::test]
async fn reflection_returns_schema() {
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let server = Server::start(Config::rooms()).await;
    let mut client =
        v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(
            "tidings.v1.Event".into(),
        )),
    };
    let answer = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap();
    let answer = answer.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::FileDescriptorResponse(files)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let file = prost_types::FileDescriptorProto::decode(&*files.file_descriptor_proto[0]).unwrap();
    assert_eq!(file.package(), "tidings.v1");
}

/// Splits a gRPC body into frames: the flag byte and the payload.
fn frames(mut body: &[u8]) -> Vec<(u8, &[u8])> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = body.split_first_chunk::<5>() {
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let (payload, rest) = rest.split_at(usize::try_from(len).unwrap());
        frames.push((head[0], payload));
        body = rest;
    }
    frames
}

#[tokio::test]
async fn grpc_web_publishes_over_http_1() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let message = event("global", "from.web", json!({"n": 1})).encode_to_vec();
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).unwrap());
    body.extend_from_slice(&message);
    let token = format!(
        "Bearer {}",
        Token::new("backend").roles(&["service"]).sign()
    );
    let headers = [
        ("Content-Type", "application/grpc-web+proto"),
        ("X-Grpc-Web", "1"),
        ("Authorization", token.as_str()),
    ];
    let path = "/tidings.v1.EventService/Publish";
    let answer = server
        .internal_http(Method::POST, path, &headers, body.freeze())
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer
            .header("content-type")
            .starts_with("application/grpc-web"),
        "{answer:?}"
    );
    let frames = frames(&answer.body);
    assert_eq!(frames[0].0, 0, "a message: {answer:?}");
    let response = PublishResponse::decode(frames[0].1).unwrap();
    let trailers = String::from_utf8_lossy(frames[1].1).to_ascii_lowercase();
    assert_eq!(frames[1].0, 0x80, "then the trailers");
    assert!(
        trailers.replace(' ', "").contains("grpc-status:0"),
        "{trailers}"
    );
    assert_eq!(
        ws.expect_event("from.web").await["id"],
        response.id.as_str()
    );
}

#[tokio::test]
async fn metrics_have_the_documented_names() {
    let server = Server::start(Config::rooms()).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    alice.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=5).await;
    alice.numbers("count.up", 5).await;
    alice
        .refused(json!({"type": "nonsense"}), "invalid_argument")
        .await;
    let since = json!({"since": {"room:2": {"epoch": "foreign", "offset": 1}}});
    alice.subscribe_with("room:2", since).await;
    server
        .refused_upgrade("/ws", &[("Authorization", "Bearer garbage")])
        .await;
    server.ws().token("bob", &[]).connect().await.close().await;

    let metrics = async || {
        let answer = server
            .internal_http(Method::GET, "/metrics", &[], Bytes::new())
            .await;
        assert_eq!(answer.status, 200);
        answer.text().to_owned()
    };
    let text = eventually("the close to be counted", async || {
        let text = metrics().await;
        let closed = text.contains("tidings_closes_total{");
        // One is counted before the other.
        let left = text.contains("tidings_connections{transport=\"websocket\"} 1");
        (closed && left).then_some(text)
    })
    .await;
    for name in [
        "tidings_connections{transport=\"websocket\"} 1",
        "tidings_subscriptions ",
        "tidings_channels ",
        "tidings_events_published_total{type=\"count.up\"} 5",
        "tidings_events_delivered_total{transport=\"websocket\"} 5",
        "tidings_events_dropped",
        "tidings_delivery_latency_seconds_bucket{",
        "tidings_delivery_latency_seconds_count",
        "tidings_outbox_bytes",
        "tidings_recoveries_total{recovered=\"false\"} 1",
        "tidings_errors_total{code=\"invalid_argument\"} 1",
        "tidings_auth_failures_total{reason=",
        "tidings_rate_limited_total",
        "tidings_publish_commit_seconds",
    ] {
        assert!(text.contains(name), "{name} is missing in\n{text}");
    }
    assert!(!text.contains("quantile="), "histograms, never summaries");
    for line in text
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
    {
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

/// A server that knows one event type with a schema.
async fn with_catalog(mode: &str) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "description": "A task was done.",
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0}},
        "required": ["n"],
    });
    std::fs::write(dir.path().join("done.json"), schema.to_string()).unwrap();
    let config = Config::rooms()
        .set("catalog.mode", &format!("{mode:?}"))
        .event_type(
            "task.done",
            "namespace = \"room\"\nschema_file = \"done.json\"",
        );
    Server::start_in(dir, config).await
}

#[tokio::test]
async fn catalog_lists_event_types() {
    let server = with_catalog("open").await;
    let token = Token::new("backend").roles(&["service"]);
    let mut catalog = server.catalog(Some(&token)).await;
    let list = catalog
        .list_event_types(ListEventTypesRequest::default())
        .await
        .unwrap();
    let names: Vec<String> = list
        .into_inner()
        .event_types
        .into_iter()
        .map(|t| t.name)
        .collect();
    assert_eq!(names, ["task.done"]);
    let request = GetEventTypeRequest {
        name: "task.done".into(),
    };
    let kind = catalog
        .get_event_type(request)
        .await
        .unwrap()
        .into_inner()
        .event_type
        .unwrap();
    assert_eq!(kind.namespace, "room");
    let schema: serde_json::Value = serde_json::from_str(&kind.schema).unwrap();
    assert_eq!(schema["required"], json!(["n"]));

    for (data, valid) in [(r#"{"n":1}"#, true), (r#"{"n":-1}"#, false), ("{}", false)] {
        let request = ValidateEventRequest {
            r#type: "task.done".into(),
            data: Bytes::from(data),
        };
        let answer = catalog.validate_event(request).await.unwrap().into_inner();
        assert_eq!(answer.valid, valid, "{data}: {answer:?}");
        assert_eq!(answer.errors.is_empty(), valid, "{data}: {answer:?}");
    }
}

#[tokio::test]
async fn strict_catalog_refuses_unknown_types() {
    let server = with_catalog("strict").await;
    let mut service = server.publisher("service").await;
    service
        .publish("room:1", "task.done", json!({"n": 1}))
        .await;
    for request in [
        event("room:1", "task.done", json!({"n": "one"})),
        event("room:1", "task.done", json!({})),
        event("room:1", "task.unknown", json!({"n": 1})),
    ] {
        let refused = service.try_send(request).await.unwrap_err();
        let fitting = [
            tonic::Code::InvalidArgument,
            tonic::Code::FailedPrecondition,
            tonic::Code::NotFound,
        ];
        assert!(fitting.contains(&refused.code()), "{refused}");
    }
}
