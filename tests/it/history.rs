//! Reading history.

use serde_json::{Value, json};
use tidings::proto::{GetHistoryRequest, Position};

use crate::harness::{Config, Publisher, Server, Ws};

async fn start() -> (Server, Ws, Publisher) {
    let server = Server::start(Config::rooms()).await;
    let mut service = server.publisher("service").await;
    service.count("room:1", "count.up", 1..=25).await;
    let ws = server.ws().token("alice", &[]).connect().await;
    (server, ws, service)
}

fn offsets(reply: &Value) -> Vec<u64> {
    let events = reply["events"].as_array().unwrap();
    events
        .iter()
        .map(|e| e["offset"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn browser_pages_forwards() {
    let (_server, mut ws, _service) = start().await;
    let mut ask = json!({"type": "history", "channel": "room:1", "limit": 10});
    let mut seen = Vec::new();
    loop {
        let reply = ws.ask(ask.clone()).await;
        let page = offsets(&reply);
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 10);
        ask["since"] = json!({"epoch": reply["epoch"], "offset": last});
        seen.extend(page);
    }
    assert_eq!(seen, (1..=25).collect::<Vec<u64>>());
}

#[tokio::test]
async fn browser_pages_backwards() {
    let (_server, mut ws, _service) = start().await;
    let mut ask = json!({"type": "history", "channel": "room:1", "limit": 10, "reverse": true});
    let mut seen = Vec::new();
    loop {
        let reply = ws.ask(ask.clone()).await;
        let page = offsets(&reply);
        let Some(last) = page.last() else { break };
        ask["since"] = json!({"epoch": reply["epoch"], "offset": last});
        seen.extend(page);
    }
    assert_eq!(seen, (1..=25).rev().collect::<Vec<u64>>());
}

#[tokio::test]
async fn service_pages_in_both_directions() {
    let (_server, _ws, mut service) = start().await;
    for reverse in [false, true] {
        let mut request = GetHistoryRequest {
            channel: "room:1".into(),
            page_size: 10,
            reverse,
            ..GetHistoryRequest::default()
        };
        let mut seen = Vec::new();
        let mut pages = 0;
        loop {
            let page = service
                .events
                .get_history(request.clone())
                .await
                .unwrap()
                .into_inner();
            assert_eq!(page.channel, "room:1");
            assert_eq!(page.position.unwrap().offset, 25);
            seen.extend(page.events.into_iter().map(|e| e.position.unwrap().offset));
            pages += 1;
            if page.next_page_token.is_empty() {
                break;
            }
            assert!(pages < 5, "pages end");
            request.page_token = page.next_page_token;
        }
        let mut all: Vec<u64> = (1..=25).collect();
        if reverse {
            all.reverse();
        }
        assert_eq!(seen, all, "reverse: {reverse}");
    }
}

#[tokio::test]
async fn service_reads_after_and_before_position() {
    let (_server, _ws, mut service) = start().await;
    let request = GetHistoryRequest {
        channel: "room:1".into(),
        ..GetHistoryRequest::default()
    };
    let page = service
        .events
        .get_history(request.clone())
        .await
        .unwrap()
        .into_inner();
    let epoch = page.position.unwrap().epoch;
    let table = [(false, 22, vec![23, 24, 25]), (true, 4, vec![3, 2, 1])];
    for (reverse, offset, expected) in table {
        let since = Some(Position {
            epoch: epoch.clone(),
            offset,
        });
        let request = GetHistoryRequest {
            since,
            reverse,
            ..request.clone()
        };
        let page = service
            .events
            .get_history(request)
            .await
            .unwrap()
            .into_inner();
        let offsets: Vec<u64> = page
            .events
            .into_iter()
            .map(|e| e.position.unwrap().offset)
            .collect();
        assert_eq!(offsets, expected);
    }
}

#[tokio::test]
async fn invalid_page_is_refused() {
    let (_server, _ws, mut service) = start().await;
    let request = GetHistoryRequest {
        channel: "room:1".into(),
        ..GetHistoryRequest::default()
    };
    let bad = [
        (
            "page_token",
            GetHistoryRequest {
                page_token: "garbage".into(),
                ..request.clone()
            },
        ),
        (
            "channel",
            GetHistoryRequest {
                channel: "not valid".into(),
                ..request
            },
        ),
    ];
    for (field, request) in bad {
        let refused = service.events.get_history(request).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
        let fields = crate::harness::refused_fields(&refused);
        assert!(
            fields.iter().any(|f| f.starts_with(field)),
            "{field}: {fields:?}"
        );
    }
}

#[tokio::test]
async fn history_is_bounded_by_size() {
    let keys = "history = { size = 10, ttl = \"1h\" }\nsubscribe = 'true'";
    let server = Server::start(Config::new().namespace("small", keys)).await;
    let mut service = server.publisher("service").await;
    service.count("small:1", "count.up", 1..=25).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let reply = ws
        .ask(json!({"type": "history", "channel": "small:1", "limit": 100}))
        .await;
    assert_eq!(offsets(&reply), (16..=25).collect::<Vec<u64>>());
}

#[tokio::test]
async fn history_expires_by_age() {
    let keys = "history = { size = 100, ttl = \"1s\" }\nsubscribe = 'true'";
    let server = Server::start(Config::new().namespace("brief", keys)).await;
    let mut service = server.publisher("service").await;
    service.count("brief:1", "count.up", 1..=3).await;
    let request = GetHistoryRequest {
        channel: "brief:1".into(),
        ..GetHistoryRequest::default()
    };
    crate::harness::eventually("history to be forgotten", async || {
        let page = service
            .events
            .get_history(request.clone())
            .await
            .unwrap()
            .into_inner();
        page.events.is_empty().then_some(())
    })
    .await;
    // Offsets continue nevertheless.
    let answer = service
        .publish("brief:1", "count.up", json!({"n": 4}))
        .await;
    assert_eq!(answer.results[0].position.as_ref().unwrap().offset, 4);
}

#[tokio::test]
async fn unused_channel_has_empty_history() {
    let (_server, mut ws, _service) = start().await;
    let reply = ws
        .ask(json!({"type": "history", "channel": "room:unused", "limit": 5}))
        .await;
    assert_eq!(reply["type"], "history", "{reply}");
    assert_eq!(offsets(&reply), [0_u64; 0]);
    assert_eq!(reply["offset"], 0, "{reply}");
}
