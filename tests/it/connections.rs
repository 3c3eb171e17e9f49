//! Listing and disconnecting connections as an admin.

use std::collections::BTreeSet;

use serde_json::json;
use tidings::proto::{
    Connection, DisconnectRequest, GetConnectionRequest, ListChannelsRequest,
    ListConnectionsRequest, disconnect_request::Target,
};

use crate::harness::{Config, Server, eventually};

async fn list(server: &Server, request: ListConnectionsRequest) -> Vec<Connection> {
    let answer = server
        .admin()
        .await
        .list_connections(request)
        .await
        .unwrap();
    answer.into_inner().connections
}

#[tokio::test]
async fn connection_is_described() {
    let server = Server::start(Config::rooms()).await;
    let mut ws = server
        .ws()
        .token("alice", &["editor", "viewer"])
        .connect()
        .await;
    ws.ask(json!({"type": "register", "client_type": "web", "client_name": "dashboard"}))
        .await;
    ws.subscribe("room:1").await;
    server
        .publisher("service")
        .await
        .count("room:1", "count.up", 1..=3)
        .await;
    ws.numbers("count.up", 3).await;

    let mut admin = server.admin().await;
    let request = GetConnectionRequest {
        connection_id: ws.id(),
    };
    let seen = eventually("three delivered events", async || {
        let answer = admin
            .get_connection(request.clone())
            .await
            .unwrap()
            .into_inner();
        answer.connection.filter(|c| c.delivered >= 3)
    })
    .await;
    assert_eq!(seen.id, ws.id());
    assert_eq!(seen.user, "alice");
    assert_eq!(seen.roles, ["editor", "viewer"]);
    assert_eq!(seen.transport, "websocket");
    assert_eq!(seen.client_type, "web");
    assert_eq!(seen.client_name, "dashboard");
    assert!(seen.address.starts_with("127.0.0.1"), "{}", seen.address);
    assert!(seen.connected_at.is_some() && seen.last_seen_at.is_some());
    assert_eq!(seen.delivered, 3);
    assert_eq!(seen.dropped, 0);
    assert!(seen.bytes_in > 0 && seen.bytes_out > 0);
    let channels: BTreeSet<&str> = seen
        .subscriptions
        .iter()
        .map(|s| s.channel.as_str())
        .collect();
    assert!(channels.contains("room:1"), "{channels:?}");
    assert!(channels.contains("user:alice"), "{channels:?}");
    let room = seen
        .subscriptions
        .iter()
        .find(|s| s.channel == "room:1")
        .unwrap();
    assert_eq!(room.position.as_ref().unwrap().offset, 3);
}

#[tokio::test]
async fn connections_are_filtered() {
    let server = Server::start(Config::rooms()).await;
    let mut alice = server.ws().token("alice", &["editor"]).connect().await;
    let bob = server.ws().token("bob", &["editor"]).connect().await;
    let mut carol = server.ws().token("carol", &[]).connect().await;
    alice.subscribe("room:1").await;
    carol.subscribe("room:1").await;
    carol
        .ask(json!({"type": "register", "client_type": "kiosk", "client_name": "k"}))
        .await;
    let stream = server.publisher("service").await.follow(&["room:2"]).await;
    let grpc = stream.subscribed.connection_id.clone();

    let any = ListConnectionsRequest::default;
    let table = [
        (
            ListConnectionsRequest {
                user: "alice".into(),
                ..any()
            },
            vec![alice.id()],
        ),
        (
            ListConnectionsRequest {
                role: "editor".into(),
                ..any()
            },
            vec![alice.id(), bob.id()],
        ),
        (
            ListConnectionsRequest {
                channel: "room:1".into(),
                ..any()
            },
            vec![alice.id(), carol.id()],
        ),
        (
            ListConnectionsRequest {
                client_type: "kiosk".into(),
                ..any()
            },
            vec![carol.id()],
        ),
        (
            ListConnectionsRequest {
                transport: "grpc".into(),
                ..any()
            },
            vec![grpc],
        ),
        (
            ListConnectionsRequest {
                transport: "websocket".into(),
                ..any()
            },
            vec![alice.id(), bob.id(), carol.id()],
        ),
        (
            ListConnectionsRequest {
                role: "editor".into(),
                channel: "room:1".into(),
                ..any()
            },
            vec![alice.id()],
        ),
        (
            ListConnectionsRequest {
                user: "nobody".into(),
                ..any()
            },
            vec![],
        ),
    ];
    for (at, (request, expected)) in table.into_iter().enumerate() {
        let got: BTreeSet<String> = list(&server, request)
            .await
            .into_iter()
            .map(|c| c.id)
            .collect();
        assert_eq!(got, expected.into_iter().collect(), "row {at}");
    }
}

#[tokio::test]
async fn connections_are_paged() {
    let server = Server::start(Config::rooms()).await;
    let mut clients = Vec::new();
    for n in 0..7 {
        clients.push(server.ws().token(&format!("user-{n}"), &[]).connect().await);
    }
    let mut admin = server.admin().await;
    let mut request = ListConnectionsRequest {
        page_size: 3,
        ..ListConnectionsRequest::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = admin
            .list_connections(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert!(page.connections.len() <= 3);
        seen.extend(page.connections.into_iter().map(|c| c.id));
        if page.next_page_token.is_empty() {
            break;
        }
        assert!(seen.len() <= 7, "pages end");
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen.len(), 7, "each once");
    let seen: BTreeSet<String> = seen.into_iter().collect();
    assert_eq!(seen, clients.iter().map(crate::harness::Ws::id).collect());
}

#[tokio::test]
async fn connection_is_disconnected_with_reason() {
    let server = Server::start(Config::rooms()).await;
    let mut one = server.ws().token("alice", &[]).connect().await;
    let mut other = server.ws().token("alice", &[]).connect().await;
    let request = DisconnectRequest {
        target: Some(Target::ConnectionId(one.id())),
        reason: "go home".into(),
        revoke: false,
    };
    let mut admin = server.admin().await;
    let answer = admin
        .disconnect(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.disconnected, 1);
    assert_eq!(one.expect_close(4410).await, "go home");
    other.lives().await;
    eventually("the connection to be gone", async || {
        let request = GetConnectionRequest {
            connection_id: one.id(),
        };
        admin.get_connection(request).await.is_err().then_some(())
    })
    .await;
}

#[tokio::test]
async fn all_connections_of_user_are_disconnected() {
    let server = Server::start(Config::rooms()).await;
    let mut one = server.ws().token("alice", &[]).connect().await;
    let mut two = server.ws().token("alice", &[]).connect().await;
    let mut bob = server.ws().token("bob", &[]).connect().await;
    let request = DisconnectRequest {
        target: Some(Target::User("alice".into())),
        reason: String::new(),
        revoke: false,
    };
    let answer = server
        .admin()
        .await
        .disconnect(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.disconnected, 2);
    one.expect_close(4410).await;
    two.expect_close(4410).await;
    bob.lives().await;
}

#[tokio::test]
async fn oversized_disconnect_reason_is_refused() {
    let server = Server::start(Config::rooms()).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    let request = DisconnectRequest {
        target: Some(Target::ConnectionId(alice.id())),
        reason: "x".repeat(124),
        revoke: false,
    };
    let refused = server.admin().await.disconnect(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    alice.lives().await;
}

#[tokio::test]
async fn channels_are_listed_by_name_and_paged() {
    let server = Server::start(Config::rooms()).await;
    let mut alice = server.ws().token("alice", &[]).connect().await;
    alice.subscribe("room:b").await;
    let mut service = server.publisher("service").await;
    for channel in ["room:a", "room:b", "room:c", "plain:x"] {
        service.publish(channel, "a.b", json!({})).await;
    }
    let mut admin = server.admin().await;
    let mut request = ListChannelsRequest {
        prefix: "room:".into(),
        page_size: 2,
        ..ListChannelsRequest::default()
    };
    let first = admin
        .list_channels(request.clone())
        .await
        .unwrap()
        .into_inner();
    let names: Vec<&str> = first.channels.iter().map(|c| c.channel.as_str()).collect();
    assert_eq!(names, ["room:a", "room:b"]);
    assert_eq!(first.channels[1].subscribers, 1);
    assert_eq!(first.channels[1].position.as_ref().unwrap().offset, 1);
    request.page_token = first.next_page_token;
    let second = admin.list_channels(request).await.unwrap().into_inner();
    let names: Vec<&str> = second.channels.iter().map(|c| c.channel.as_str()).collect();
    assert_eq!(names, ["room:c"]);
    assert_eq!(second.next_page_token, "");
}
