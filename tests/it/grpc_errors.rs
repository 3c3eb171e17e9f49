//! Every refusal has a code and names the field.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::json;
use tidings::proto::{
    Audience, DisconnectRequest, GetConnectionRequest, GetStatsRequest, ListConnectionsRequest,
    PublishBatchRequest, PublishRequest, SubscribeRequest, Subscription, disconnect_request,
};
use tonic::Code;

use crate::harness::{Config, Server, Token, event, refused_fields};

fn base() -> PublishRequest {
    event("room:1", "a.b", json!({}))
}

fn with_data(data: impl Into<Bytes>) -> PublishRequest {
    PublishRequest {
        data: data.into(),
        ..base()
    }
}

fn with_headers(count: usize, bytes: usize) -> PublishRequest {
    let headers: HashMap<String, String> = (0..count)
        .map(|n| (format!("h{n}"), "x".repeat(bytes)))
        .collect();
    PublishRequest { headers, ..base() }
}

#[tokio::test]
async fn invalid_publish_names_its_field() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    let long = "x".repeat(256);
    let many: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
    let table = [
        ("channels", event("room: 1", "a.b", json!({}))),
        ("channels", event(&format!("room:{long}"), "a.b", json!({}))),
        ("channels", event("room:*", "a.b", json!({}))),
        (
            "channels",
            PublishRequest {
                channels: vec![String::new()],
                ..base()
            },
        ),
        (
            "channels",
            PublishRequest {
                channels: vec!["room:1".into(); 101],
                ..base()
            },
        ),
        ("type", event("room:1", "", json!({}))),
        ("type", event("room:1", "1a", json!({}))),
        ("type", event("room:1", "a b", json!({}))),
        ("type", event("room:1", &"x".repeat(129), json!({}))),
        ("type", event("room:1", "subscribe", json!({}))),
        ("data", with_data("")),
        ("data", with_data("{")),
        ("data", with_data("{} {}")),
        ("data", with_data("{'a':1}")),
        ("data", with_data("NaN")),
        ("data", with_data("01")),
        ("data", with_data(&b"\"\xff\""[..])),
        (
            "data",
            with_data(format!("{}{}", "[".repeat(65), "]".repeat(65))),
        ),
        (
            "data",
            with_data(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))),
        ),
        ("headers", with_headers(33, 1)),
        ("headers", with_headers(3, 4000)),
        (
            "key",
            PublishRequest {
                key: long.clone(),
                ..base()
            },
        ),
        (
            "idempotency_key",
            PublishRequest {
                idempotency_key: long.clone(),
                ..base()
            },
        ),
        (
            "source",
            PublishRequest {
                source: long.clone(),
                ..base()
            },
        ),
        (
            "audience.users",
            PublishRequest {
                audience: Some(Audience {
                    users: many,
                    ..Audience::default()
                }),
                ..base()
            },
        ),
        (
            "time",
            PublishRequest {
                time: Some(prost_types::Timestamp {
                    seconds: i64::MAX,
                    nanos: -1,
                }),
                ..base()
            },
        ),
    ];
    for (at, (field, request)) in table.into_iter().enumerate() {
        let refused = service
            .try_send(request)
            .await
            .expect_err(&format!("row {at}: {field}"));
        assert_eq!(refused.code(), Code::InvalidArgument, "row {at}: {refused}");
        assert!(!refused.message().is_empty());
        let fields = refused_fields(&refused);
        assert!(
            fields.iter().any(|f| f.starts_with(field)),
            "row {at}: {field}, not {fields:?}"
        );
    }
    service.publish("room:1", "a.b", json!("all is well")).await;
}

#[tokio::test]
async fn oversized_batch_is_refused() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    let batch = PublishBatchRequest {
        requests: vec![base(); 1001],
    };
    let refused = service.events.publish_batch(batch).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused_fields(&refused)
            .iter()
            .any(|f| f.starts_with("requests")),
        "{refused}"
    );
}

#[tokio::test]
async fn invalid_subscribe_names_its_field() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    let one = vec![Subscription {
        channel: "room:1".into(),
        ..Subscription::default()
    }];
    let table = [
        (
            "filter",
            SubscribeRequest {
                subscriptions: one.clone(),
                filter: "1 +".into(),
                ..SubscribeRequest::default()
            },
        ),
        (
            "event_types",
            SubscribeRequest {
                subscriptions: one.clone(),
                event_types: vec!["*.b".into()],
                ..SubscribeRequest::default()
            },
        ),
        (
            "event_types",
            SubscribeRequest {
                subscriptions: one,
                event_types: vec!["a".into(); 65],
                ..SubscribeRequest::default()
            },
        ),
    ];
    for (field, request) in table {
        // The refusal may arrive in the headers or in the trailers.
        let refused = match service.events.subscribe(request).await {
            Err(status) => status,
            Ok(stream) => stream.into_inner().message().await.unwrap_err(),
        };
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        let fields = refused_fields(&refused);
        assert!(
            fields.iter().any(|f| f.starts_with(field)),
            "{field}, not {fields:?}"
        );
    }
}

#[tokio::test]
async fn calls_without_valid_token_are_refused() {
    let server = Server::start(Config::rooms()).await;
    let bad = [
        None,
        Some(Token::new("backend").roles(&["service"]).expires_in(-3600)),
        Some(Token::new("backend").roles(&["service"]).secret("another")),
    ];
    for token in bad {
        let mut events = server.events(token.as_ref()).await;
        let refused = events.publish(base()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
        let mut connections = server.connections_as(token.as_ref()).await;
        let refused = connections
            .get_stats(GetStatsRequest::default())
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    }
}

#[tokio::test]
async fn connection_service_requires_admin() {
    let server = Server::start(Config::rooms()).await;
    for role in ["service", "editor"] {
        let token = Token::new("backend").roles(&[role]);
        let mut connections = server.connections_as(Some(&token)).await;
        let refused = [
            connections
                .get_stats(GetStatsRequest::default())
                .await
                .unwrap_err(),
            connections
                .list_connections(ListConnectionsRequest::default())
                .await
                .unwrap_err(),
            connections
                .disconnect(DisconnectRequest {
                    target: Some(disconnect_request::Target::User("alice".into())),
                    reason: String::new(),
                    revoke: false,
                })
                .await
                .unwrap_err(),
        ];
        for refused in refused {
            assert_eq!(refused.code(), Code::PermissionDenied, "{role}: {refused}");
        }
    }
}

#[tokio::test]
async fn missing_resources_return_not_found() {
    let server = Server::start(Config::rooms()).await;
    let mut admin = server.admin().await;
    let request = GetConnectionRequest {
        connection_id: "no-such-connection".into(),
    };
    let refused = admin.get_connection(request).await.unwrap_err();
    assert!(
        matches!(refused.code(), Code::NotFound | Code::InvalidArgument),
        "{refused}"
    );
    let request = tidings::proto::GetEventTypeRequest {
        name: "no.such.type".into(),
    };
    let token = Token::new("backend").roles(&["service"]);
    let refused = server
        .catalog(Some(&token))
        .await
        .get_event_type(request)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused}");
    let refused = admin
        .disconnect(DisconnectRequest {
            target: None,
            reason: String::new(),
            revoke: false,
        })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}

#[tokio::test]
async fn authentication_can_be_disabled_on_loopback() {
    let server = Server::start(Config::rooms().set("internal.auth", r#""none""#)).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    server
        .events(None)
        .await
        .publish(event("global", "a.b", json!({})))
        .await
        .unwrap();
    ws.expect_event("a.b").await;
    // Browsers identify themselves nevertheless.
    let header = [("Authorization", "Bearer garbage")];
    server
        .refused_upgrade("/ws", &header)
        .await
        .assert_problem(401);
}
