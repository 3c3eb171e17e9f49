//! What a publish may demand, purges, and subscriptions that a service makes for others.

use http::Method;
use serde_json::{Value, json};
use tidings::proto::{
    PublishBatchRequest, PublishRequest, PurgeHistoryRequest, SubscribeUserRequest,
    UnsubscribeUserRequest,
};

use crate::harness::{Config, Server, Token, event};

fn rooms() -> Config {
    let keys = "history = { size = 100, ttl = \"1h\" }\nsubscribe = 'true'\npublish = 'true'";
    Config::new().namespace("room", keys)
}

#[tokio::test]
async fn publish_behind_expected_offset_is_compare_and_set() {
    let server = Server::start(rooms()).await;
    let mut service = server.publisher("service").await;
    let expecting = |offset| PublishRequest {
        expected_offset: Some(offset),
        ..event("room:1", "state.set", json!({}))
    };
    service.send(expecting(0)).await;
    let late = service.try_send(expecting(0)).await.unwrap_err();
    assert_eq!(late.code(), tonic::Code::FailedPrecondition, "{late}");
    assert!(late.message().contains("is 1"), "{late}");
    service.send(expecting(1)).await;
    let mut two = expecting(2);
    two.channels.push("room:2".to_owned());
    let two = service.try_send(two).await.unwrap_err();
    assert_eq!(two.code(), tonic::Code::InvalidArgument, "{two}");

    let token = format!(
        "Bearer {}",
        Token::new("backend").roles(&["service"]).sign()
    );
    let headers = [
        ("Authorization", &*token),
        ("Content-Type", "application/json"),
    ];
    let body = json!({"channels": ["room:1"], "type": "a", "data": 1, "expected_offset": 7});
    let body = body.to_string();
    let answer = server.http(Method::POST, "/api/v1/events", &headers, &body);
    let problem = answer.await.assert_problem(400);
    assert_eq!(problem["code"], "failed_precondition", "{problem}");
}

#[tokio::test]
async fn event_that_skips_history_is_only_live() {
    let server = Server::start(rooms()).await;
    let mut ann = server.ws().token("ann", &[]).connect().await;
    ann.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    let typing = PublishRequest {
        skip_history: true,
        ..event("room:1", "typing", json!({}))
    };
    let answer = service.send(typing).await;
    assert_eq!(answer.results[0].position, None);
    service.publish("room:1", "said", json!({})).await;
    let seen = ann.expect_event("typing").await;
    assert_eq!(seen.get("offset"), None, "{seen}");
    assert_eq!(ann.expect_event("said").await["offset"], 1);
    let history = ann
        .ask(json!({"type": "history", "channel": "room:1", "limit": 10}))
        .await;
    assert_eq!(history["events"].as_array().unwrap().len(), 1, "{history}");
}

#[tokio::test]
async fn event_is_read_no_longer_than_its_ttl() {
    let server = Server::start(rooms()).await;
    let mut service = server.publisher("service").await;
    let brief = PublishRequest {
        ttl: Some(prost_types::Duration {
            seconds: 0,
            nanos: 50_000_000,
        }),
        ..event("room:1", "brief", json!({}))
    };
    service.send(brief).await;
    service.publish("room:1", "lasting", json!({})).await;
    let mut ann = server.ws().token("ann", &[]).connect().await;
    let types = crate::harness::eventually("the brief event to be gone", async || {
        let history = json!({"type": "history", "channel": "room:1", "limit": 10});
        let history = ann.ask(history).await;
        let events = history["events"].as_array().unwrap();
        let types: Vec<Value> = events.iter().map(|event| event["type"].clone()).collect();
        (types.len() == 1).then_some(types)
    });
    assert_eq!(types.await, ["lasting"]);
    // Its absence is no gap.
    ann.subscribe_with("room:1", json!({"rewind": 5})).await;
    ann.expect_event("lasting").await;
    assert!(ann.unread().all(|message| message["type"] != "gap"));
}

#[tokio::test]
async fn each_event_of_a_batch_has_its_own_trace() {
    let server = Server::start(rooms()).await;
    let mut ann = server.ws().token("ann", &[]).connect().await;
    ann.subscribe("room:1").await;
    let mut service = server.publisher("service").await;
    let traces = ["11", "22"].map(|byte| format!("00-{}-00f067aa0ba902b7-01", byte.repeat(16)));
    let requests = traces.iter().map(|traceparent| PublishRequest {
        traceparent: traceparent.clone(),
        ..event("room:1", "traced", json!({}))
    });
    let batch = PublishBatchRequest {
        requests: requests.collect(),
    };
    service.events.publish_batch(batch).await.unwrap();
    for traceparent in &traces {
        let seen = ann.expect_event("traced").await;
        let trace = seen["traceparent"].as_str().unwrap();
        assert_eq!(trace[..35], traceparent[..35], "{seen}");
    }
}

#[tokio::test]
async fn purged_events_are_gone_and_told_as_expired() {
    for storage in ["memory", "disk"] {
        let config = rooms().set("history.storage", &format!("{storage:?}"));
        let server = Server::start(config).await;
        let mut ann = server.ws().token("ann", &[]).connect().await;
        let joined = ann.subscribe("room:1").await;
        let mut service = server.publisher("service").await;
        service.count("room:1", "count.up", 1..=6).await;
        assert_eq!(ann.numbers("count.up", 6).await.len(), 6);
        let denied = server.publisher_as(&Token::new("eve")).await;
        let purge = |until| PurgeHistoryRequest {
            channel: "room:1".to_owned(),
            until_offset: until,
            user: String::new(),
        };
        let refused = denied.events.clone().purge_history(purge(None)).await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::PermissionDenied);
        let purged = service.events.purge_history(purge(Some(4))).await.unwrap();
        assert_eq!(purged.into_inner().purged, 4, "{storage}");

        let mut late = server.ws().token("bob", &[]).connect().await;
        let since = |offset: u64| json!({"since": {"room:1": {"epoch": joined["epoch"], "offset": offset}}});
        let behind = late.subscribe_with("room:1", since(2)).await;
        assert_eq!(behind["recovered"], false, "{storage}: {behind}");
        let level = ann.subscribe_with("room:1", since(4)).await;
        assert_eq!(level["recovered"], true, "{storage}: {level}");
        assert_eq!(ann.numbers("count.up", 2).await, [5, 6]);

        let token = format!(
            "Bearer {}",
            Token::new("backend").roles(&["service"]).sign()
        );
        let path = "/api/v1/channels/room:1/history";
        let headers = [("Authorization", &*token)];
        let answer = server.http(Method::DELETE, path, &headers, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["purged"], 2, "{storage}");
        assert_eq!(answer.json()["offset"], 6, "{storage}");
        let history = json!({"type": "history", "channel": "room:1", "limit": 10});
        assert_eq!(ann.ask(history).await["events"], json!([]), "{storage}");
    }
}

#[tokio::test]
async fn purge_of_a_user_leaves_the_others_events() {
    let server = Server::start(rooms().set("history.storage", r#""disk""#)).await;
    let mut ann = server.ws().token("ann", &[]).connect().await;
    let mut bob = server.ws().token("bob", &[]).connect().await;
    let start = bob.subscribe("room:1").await;
    for (ws, text) in [(&mut ann, "a"), (&mut bob, "b")] {
        ws.publish("room:1", "said", json!(text)).await;
    }
    ann.publish("room:1", "said", json!("c")).await;
    let purge = PurgeHistoryRequest {
        channel: "room:1".to_owned(),
        user: "ann".to_owned(),
        ..PurgeHistoryRequest::default()
    };
    let mut service = server.publisher("service").await;
    let purged = service.events.purge_history(purge).await.unwrap();
    assert_eq!(purged.into_inner().purged, 2);
    let dir = server.kill().await;
    let server = Server::start_in(dir, rooms().set("history.storage", r#""disk""#)).await;
    let mut eve = server.ws().token("eve", &[]).connect().await;
    let history = json!({"type": "history", "channel": "room:1", "limit": 10});
    let history = eve.ask(history).await;
    assert_eq!(history["events"].as_array().unwrap().len(), 1, "{history}");
    assert_eq!(history["events"][0]["data"], "b");
    let since = json!({"since": {"room:1": {"epoch": start["epoch"], "offset": 0}}});
    let back = eve.subscribe_with("room:1", since).await;
    assert_eq!(back["recovered"], false, "{back}");
    eve.subscribe_with("room:1", json!({"rewind": 3})).await;
    let gap = eve.expect("gap").await;
    assert_eq!(
        (&gap["from"], &gap["to"], &gap["reason"]),
        (&json!(1), &json!(1), &json!("expired"))
    );
    assert_eq!(eve.expect_event("said").await["data"], "b");
}

#[tokio::test]
async fn service_subscribes_connections_of_a_user() {
    let config = Config::new().namespace("secret", "history = { size = 5, ttl = \"1h\" }");
    let server = Server::start(config).await;
    let mut first = server.ws().token("ann", &[]).connect().await;
    let mut second = server.ws().token("ann", &[]).connect().await;
    let mut bob = server.ws().token("bob", &[]).connect().await;
    let mut service = server.publisher("service").await;
    let request = |user: &str, connection: &str| SubscribeUserRequest {
        user: user.to_owned(),
        connection_id: connection.to_owned(),
        channels: vec!["secret:1".to_owned()],
        ..SubscribeUserRequest::default()
    };
    let granted = service.events.subscribe_user(request("ann", "")).await;
    assert_eq!(granted.unwrap().into_inner().connections, 2);
    for ws in [&mut first, &mut second] {
        let told = ws.expect("subscribed").await;
        assert_eq!(told["channels"][0]["channel"], "secret:1", "{told}");
    }
    service.publish("secret:1", "told", json!(1)).await;
    first.expect_event("told").await;
    second.expect_event("told").await;
    // The rules refuse the user, but a reload does not take the grant back.
    server.reload(&Config::new().namespace("secret", "history = { size = 5, ttl = \"1h\" }"));
    let granted = service.events.subscribe_user(request("", &bob.id())).await;
    assert_eq!(granted.unwrap().into_inner().connections, 1);
    bob.expect("subscribed").await;
    let end = UnsubscribeUserRequest {
        user: "ann".to_owned(),
        channels: vec!["secret:1".to_owned()],
        ..UnsubscribeUserRequest::default()
    };
    let ended = service.events.unsubscribe_user(end).await.unwrap();
    assert_eq!(ended.into_inner().connections, 2);
    let ended = first.expect("unsubscribed").await;
    assert_eq!(ended["channels"], json!(["secret:1"]), "{ended}");
    service.publish("secret:1", "told", json!(2)).await;
    assert_eq!(bob.expect_event("told").await["data"], 2);
    first.lives().await;
    assert!(first.unread().all(|message| message["type"] != "told"));
    let gone = service
        .events
        .subscribe_user(request("", &"0".repeat(28)))
        .await;
    assert_eq!(gone.unwrap_err().code(), tonic::Code::NotFound);
    let both = service
        .events
        .subscribe_user(request("ann", &bob.id()))
        .await;
    assert_eq!(both.unwrap_err().code(), tonic::Code::InvalidArgument);
    let mut user = server.publisher_as(&Token::new("eve")).await;
    let denied = user.events.subscribe_user(request("ann", "")).await;
    assert_eq!(denied.unwrap_err().code(), tonic::Code::PermissionDenied);
}

#[tokio::test]
async fn min_interval_delivers_the_newest_of_each_key() {
    let keys = "history = { size = 100, ttl = \"1h\" }\nsubscribe = 'true'";
    let slow = format!("{keys}\nmin_interval = \"300ms\"");
    let config = Config::new()
        .namespace("room", keys)
        .namespace("slow", &slow);
    let server = Server::start(config).await;
    let mut ann = server.ws().token("ann", &[]).connect().await;
    ann.subscribe_with("room:1", json!({"min_interval": "300ms"}))
        .await;
    ann.subscribe("slow:1").await;
    let mut service = server.publisher("service").await;
    for channel in ["room:1", "slow:1"] {
        let batch = (0..40).map(|n| PublishRequest {
            key: ["a", "b"][n % 2].to_owned(),
            ..event(channel, "level", json!({ "n": n }))
        });
        let batch = PublishBatchRequest {
            requests: batch.collect(),
        };
        service.events.publish_batch(batch).await.unwrap();
        let mut seen = Vec::new();
        while seen.last() != Some(&39) {
            seen.push(
                ann.expect_event("level").await["data"]["n"]
                    .as_u64()
                    .unwrap(),
            );
        }
        assert!(seen.is_sorted(), "{channel}: {seen:?}");
        assert!(seen.contains(&38), "the newest of each key: {seen:?}");
        assert!(seen.len() <= 6, "{channel}: {seen:?}");
        assert!(ann.unread().all(|message| message["type"] != "gap"));
    }
    let stats = server
        .get_as(&Token::new("olga").roles(&["admin"]), "/api/v1/stats")
        .await
        .json();
    assert!(
        stats["events"]["conflated"].as_u64().unwrap() >= 60,
        "{stats}"
    );
    let wrong = json!({"type": "subscribe", "channels": ["room:1"], "min_interval": "1ms"});
    ann.refused(wrong, "invalid_argument").await;
}

#[tokio::test]
async fn min_interval_of_a_pattern_keeps_the_newest_of_each_channel() {
    let keys = "history = { size = 100, ttl = \"1h\" }\nsubscribe = 'true'";
    let server = Server::start(Config::new().namespace("room", keys)).await;
    let mut ann = server.ws().token("ann", &["service"]).connect().await;
    ann.subscribe_with("room:*", json!({"min_interval": "200ms"}))
        .await;
    let mut service = server.publisher("service").await;
    for n in 0..3 {
        for channel in ["room:1", "room:2", "room:3"] {
            service.publish(channel, "level", json!({ "n": n })).await;
        }
    }
    let mut newest = std::collections::BTreeMap::new();
    while newest.len() < 3 || newest.values().any(|n| *n != 2) {
        let event = ann.expect_event("level").await;
        let channel = event["channel"].as_str().unwrap().to_owned();
        newest.insert(channel, event["data"]["n"].as_u64().unwrap());
    }
}

#[tokio::test]
async fn another_subscription_delivers_what_min_interval_holds() {
    let keys = "history = { size = 100, ttl = \"1h\" }\nsubscribe = 'true'";
    let server = Server::start(Config::new().namespace("room", keys)).await;
    let mut ann = server.ws().token("ann", &[]).connect().await;
    ann.subscribe_with("room:1", json!({"min_interval": "1h"}))
        .await;
    let mut service = server.publisher("service").await;
    for n in 0..4 {
        service.publish("room:1", "level", json!({ "n": n })).await;
    }
    assert_eq!(ann.expect_event("level").await["data"]["n"], 0);
    ann.lives().await;
    ann.send(json!({"type": "subscribe", "channels": ["room:1"]}))
        .await;
    assert_eq!(ann.expect_event("level").await["data"]["n"], 3);
}

#[tokio::test]
async fn expected_offset_and_skip_history_exclude_one_another() {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    let both = PublishRequest {
        expected_offset: Some(0),
        skip_history: true,
        ..event("room:1", "level", json!({}))
    };
    let refused = service.try_send(both).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
}
