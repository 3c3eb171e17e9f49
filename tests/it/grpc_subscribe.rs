//! Subscriptions over gRPC.

use serde_json::json;
use tidings::proto::{Position, SubscribeRequest, Subscription};

use crate::harness::{Config, Server, Token, event};

fn subscription(channel: &str) -> Subscription {
    Subscription {
        channel: channel.to_owned(),
        ..Subscription::default()
    }
}

#[tokio::test]
async fn subscribed_message_comes_first_with_position() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=3).await;
    let stream = service.follow(&["room:1", "plain:1"]).await;
    let channels = &stream.subscribed.channels;
    assert_eq!(channels[0].channel, "room:1");
    assert_eq!(channels[0].position.as_ref().unwrap().offset, 3);
    assert_eq!(channels[0].replayed, 0);
    assert_eq!(channels[1].channel, "plain:1");
    assert_eq!(channels[1].position, None);
    assert!(stream.subscribed.errors.is_empty());
    assert!(!stream.subscribed.connection_id.is_empty());
}

#[tokio::test]
async fn whole_namespace_can_be_subscribed() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    let mut stream = service.follow(&["project:*"]).await;
    assert!(
        stream.subscribed.errors.is_empty(),
        "{:?}",
        stream.subscribed
    );
    for (n, channel) in [
        "project:1",
        "room:1",
        "project:2",
        "projects:1",
        "project:1",
    ]
    .iter()
    .enumerate()
    {
        service.publish(channel, "a.b", json!({ "n": n })).await;
    }
    service
        .publish("project:end", "fence", json!({"n": 9}))
        .await;
    let mut got = Vec::new();
    loop {
        let event = stream.event().await;
        if event.r#type == "fence" {
            break;
        }
        got.push((event.channel, event.position.unwrap().offset));
    }
    let expected =
        [("project:1", 1), ("project:2", 1), ("project:1", 2)].map(|(c, o)| (c.to_owned(), o));
    // Order is guaranteed within a channel, not between channels.
    got.sort();
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn all_channels_can_be_subscribed() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    let mut stream = service.follow(&["*"]).await;
    for channel in ["room:1", "global", "plain:1"] {
        service.publish(channel, "a.b", json!({})).await;
        assert_eq!(stream.event().await.channel, channel);
    }
}

#[tokio::test]
async fn since_and_rewind_replay_events() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=10).await;
    let epoch = service.follow(&["room:1"]).await.subscribed.channels[0]
        .position
        .clone()
        .unwrap()
        .epoch;
    let since = |epoch: &str, offset| Subscription {
        since: Some(Position {
            epoch: epoch.to_owned(),
            offset,
        }),
        ..subscription("room:1")
    };
    let rewind = Subscription {
        rewind: 2,
        ..subscription("room:1")
    };
    // Each case publishes one more.
    let table: [(Subscription, bool, Vec<u64>); 3] = [
        (since(&epoch, 7), true, vec![8, 9, 10]),
        (since("foreign", 7), false, vec![]),
        (rewind, false, vec![11, 12]),
    ];
    for (at, (asked, recovered, replayed)) in table.into_iter().enumerate() {
        let is_since = asked.since.is_some();
        let request = SubscribeRequest {
            subscriptions: vec![asked],
            ..SubscribeRequest::default()
        };
        let mut stream = service.subscribe(request).await;
        let channel = stream.subscribed.channels[0].clone();
        if is_since {
            assert_eq!(channel.recovered, recovered, "row {at}");
        }
        assert_eq!(
            usize::try_from(channel.replayed),
            Ok(replayed.len()),
            "row {at}"
        );
        assert_eq!(stream.numbers(replayed.len()).await, replayed, "row {at}");
        let next = 11 + u64::try_from(at).unwrap();
        service.count("room:1", "count.up", next..=next).await;
        assert_eq!(stream.numbers(1).await, [next]);
    }
}

#[tokio::test]
async fn types_and_filter_narrow_stream() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    let request = SubscribeRequest {
        subscriptions: vec![subscription("room:1")],
        event_types: vec!["count.*".into()],
        filter: "event.data.n > 2".into(),
        ..SubscribeRequest::default()
    };
    let mut stream = service.subscribe(request).await;
    for (kind, n) in [
        ("count.up", 1),
        ("other", 3),
        ("count.up", 3),
        ("count.down", 4),
    ] {
        service.publish("room:1", kind, json!({ "n": n })).await;
    }
    assert_eq!(stream.numbers(2).await, [3, 4]);
}

#[tokio::test]
async fn refused_channel_leaves_other_subscribed() {
    let server = Server::start(Config::rooms()).await;
    let mut alice = server.publisher_as(&Token::new("alice")).await;
    let mut stream = alice.follow(&["project:1", "room:1"]).await;
    assert_eq!(stream.subscribed.errors[0].channel, "project:1");
    assert_eq!(stream.subscribed.errors[0].code, "permission_denied");
    let mut service = server.publisher("service").await;
    service.send(event("project:1", "secret", json!({}))).await;
    service.send(event("room:1", "open", json!({}))).await;
    assert_eq!(stream.event().await.r#type, "open");
}

#[tokio::test]
async fn grpc_stream_counts_as_connection() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    let stream = service.follow(&["room:1"]).await;
    let id = stream.subscribed.connection_id.clone();
    let mut admin = server.admin().await;
    let request = tidings::proto::GetConnectionRequest { connection_id: id };
    let answer = admin
        .get_connection(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.connection.unwrap().transport, "grpc");
    drop(stream);
    crate::harness::eventually("the stream to be gone", async || {
        let gone = admin.get_connection(request.clone()).await;
        gone.is_err_and(|e| e.code() == tonic::Code::NotFound)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn slow_grpc_reader_is_disconnected() {
    let keys = "history = { size = 10, ttl = \"1h\" }\nslow_consumer = \"disconnect\"";
    let config = Config::new()
        .namespace("room", keys)
        .set("limits.outbox_bytes", "262144");
    let server = Server::start(config).await;
    let mut service = server.publisher("service").await;
    // Its own HTTP/2 connection, so that the unread bytes block nothing else.
    let mut slow = server.publisher("service").await.follow(&["room:1"]).await;
    let mut reader = server.publisher("service").await.follow(&["room:1"]).await;
    let mut admin = server.admin().await;
    let pad = "x".repeat(65_536);
    for n in 1..=1600 {
        service
            .publish("room:1", "big", json!({"n": n, "pad": pad}))
            .await;
        assert_eq!(reader.numbers(1).await, [n]);
        let stats = admin
            .get_stats(tidings::proto::GetStatsRequest::default())
            .await
            .unwrap();
        if stats.into_inner().stats.unwrap().slow_consumers > 0 {
            let end = slow.ended().await.unwrap_err();
            assert_eq!(end.code(), tonic::Code::ResourceExhausted, "{end}");
            return;
        }
    }
    panic!("100 MiB unread, and the server has not noticed");
}
