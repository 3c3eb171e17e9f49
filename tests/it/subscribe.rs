//! Selecting events by type and filter.

use serde_json::{Value, json};

use crate::harness::{Config, Publisher, Server, Ws};

async fn start() -> (Server, Ws, Publisher) {
    let server = Server::start(Config::rooms()).await;
    let ws = server.ws().token("alice", &[]).connect().await;
    let service = server.publisher("service").await;
    (server, ws, service)
}

/// Publishes these types to a channel and then `fence`. Returns the types that arrived before it.
async fn arriving(
    ws: &mut Ws,
    service: &mut Publisher,
    channel: &str,
    types: &[&str],
) -> Vec<String> {
    for kind in types {
        service.publish(channel, kind, json!({})).await;
    }
    service.publish(channel, "fence", json!({})).await;
    let before = ws.until("fence").await;
    before
        .iter()
        .map(|m| m["type"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn refused_channels_leave_others_subscribed() {
    let (_server, mut ws, mut service) = start().await;
    let long = format!("room:{}", "x".repeat(300));
    let channels = [
        "room:1",
        "project:9",
        "nowhere:1",
        "room:not valid",
        &long,
        "plain:1",
    ];
    let reply = ws
        .ask(json!({"type": "subscribe", "channels": channels}))
        .await;
    assert_eq!(reply["type"], "subscribed", "{reply}");
    let stand: Vec<&Value> = reply["channels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["channel"])
        .collect();
    assert_eq!(stand, ["room:1", "plain:1"]);
    let errors = reply["errors"].as_array().unwrap();
    let code_of = |channel: &str| {
        let error = errors.iter().find(|e| e["channel"] == channel);
        let error = error.unwrap_or_else(|| panic!("no error for {channel}: {reply}"));
        assert!(
            error["message"].as_str().is_some_and(|m| !m.is_empty()),
            "{error}"
        );
        error["code"].as_str().unwrap()
    };
    assert_eq!(code_of("project:9"), "permission_denied");
    assert_eq!(code_of("nowhere:1"), "permission_denied");
    assert_eq!(code_of("room:not valid"), "invalid_argument");
    assert_eq!(errors.len(), 4, "{reply}");

    service.publish("project:9", "secret", json!({})).await;
    service.publish("room:1", "open", json!({})).await;
    service.publish("plain:1", "fence", json!({})).await;
    ws.expect_event("open").await;
    let before = ws.until("fence").await;
    assert!(before.iter().all(|m| m["type"] != "secret"), "{before:?}");
}

#[tokio::test]
async fn subscribing_twice_delivers_once() {
    let (_server, mut ws, mut service) = start().await;
    ws.subscribe("room:1").await;
    ws.subscribe("room:1").await;
    let got = arriving(&mut ws, &mut service, "room:1", &["a.b"]).await;
    assert_eq!(got, ["a.b"]);
}

#[tokio::test]
async fn event_type_patterns_match_exactly_or_by_prefix() {
    let (_server, mut ws, mut service) = start().await;
    let types = json!(["task.done", "project.*", "fence"]);
    ws.subscribe_with("room:1", json!({"event_types": types}))
        .await;
    let sent = [
        "task.done",
        "task.done.twice",
        "task",
        "project.updated",
        "project.x.y",
        "projects",
        "other",
    ];
    let got = arriving(&mut ws, &mut service, "room:1", &sent).await;
    assert_eq!(got, ["task.done", "project.updated", "project.x.y"]);
}

#[tokio::test]
async fn misplaced_star_is_refused() {
    let (_server, mut ws, _service) = start().await;
    for bad in ["*.done", "task.*.x", "", "with space"] {
        let message = json!({"type": "subscribe", "channels": ["room:1"], "event_types": [bad]});
        let error = ws.refused(message, "invalid_argument").await;
        assert!(error.to_string().contains("event_types"), "{error}");
    }
}

#[tokio::test]
async fn filter_withholds_unmatched_events() {
    let (_server, mut ws, mut service) = start().await;
    let filter = r#"event.type == "fence" || event.data.n >= 3 && event.headers.lang == "en""#;
    ws.subscribe_with("room:1", json!({"filter": filter})).await;
    for (n, lang) in [(1, "en"), (3, "en"), (4, "de"), (5, "en")] {
        let mut request = crate::harness::event("room:1", "count.up", json!({ "n": n }));
        request.headers.insert("lang".into(), lang.into());
        service.send(request).await;
    }
    // Events on which the filter fails are not sent, and do no harm.
    service.publish("room:1", "no.number", json!("text")).await;
    service.publish("room:1", "fence", json!({})).await;
    let got = ws.until("fence").await;
    let numbers: Vec<&Value> = got.iter().map(|m| &m["data"]["n"]).collect();
    assert_eq!(numbers, [3, 5], "{got:?}");
    ws.lives().await;
}

#[tokio::test]
async fn invalid_filter_is_refused() {
    let (_server, mut ws, _service) = start().await;
    for filter in ["event.", "1 +", "((((", "\"unclosed"] {
        let message = json!({"type": "subscribe", "channels": ["room:1"], "filter": filter});
        let error = ws.refused(message, "invalid_argument").await;
        assert!(error.to_string().contains("filter"), "{error}");
    }
}

#[tokio::test]
async fn event_types_without_channel_narrow_global() {
    let (_server, mut ws, mut service) = start().await;
    let reply = ws
        .ask(json!({"type": "subscribe", "event_types": ["news.*", "fence"]}))
        .await;
    assert_eq!(reply["type"], "subscribed", "{reply}");
    let got = arriving(
        &mut ws,
        &mut service,
        "global",
        &["news.sport", "weather", "news.x"],
    )
    .await;
    assert_eq!(got, ["news.sport", "news.x"]);

    let reply = ws
        .ask(json!({"type": "unsubscribe", "event_types": ["news.*"]}))
        .await;
    assert_eq!(reply["type"], "unsubscribed", "{reply}");
    let got = arriving(&mut ws, &mut service, "global", &["news.sport"]).await;
    assert!(got.is_empty(), "{got:?}");
}

#[tokio::test]
async fn unsubscribing_twice_is_no_error() {
    let (_server, mut ws, _service) = start().await;
    let reply = ws
        .ask(json!({"type": "unsubscribe", "channels": ["room:never"]}))
        .await;
    assert_eq!(reply["type"], "unsubscribed", "{reply}");
    ws.lives().await;
}

#[tokio::test]
async fn too_many_subscriptions_are_refused() {
    let config = Config::rooms().set("limits.subscriptions_per_connection", "5");
    let server = Server::start(config).await;
    let mut ws = server.ws().token("alice", &[]).connect().await;
    let channels: Vec<String> = (0..10).map(|n| format!("room:{n}")).collect();
    let reply = ws
        .ask(json!({"type": "subscribe", "channels": channels}))
        .await;
    let text = reply.to_string();
    assert!(text.contains("resource_exhausted"), "{reply}");
    let stand = reply["channels"].as_array().map_or(0, Vec::len);
    assert!(stand <= 5, "{reply}");
    ws.lives().await;
    // Ended subscriptions free their slots.
    ws.ask(json!({"type": "unsubscribe", "channels": channels}))
        .await;
    ws.subscribe("room:again").await;
}

#[tokio::test]
async fn connection_receives_only_subscribed_events() {
    let (server, mut alice, mut service) = start().await;
    let mut bob = server.ws().token("bob", &[]).connect().await;
    alice.subscribe("room:1").await;
    bob.subscribe("room:2").await;
    for n in 0..50 {
        service
            .publish(&format!("room:{}", n % 5), "a.b", json!({}))
            .await;
    }
    for (ws, channel) in [(&mut alice, "room:1"), (&mut bob, "room:2")] {
        service.publish(channel, "fence", json!({})).await;
        let got = ws.until("fence").await;
        assert_eq!(got.len(), 10);
        assert!(got.iter().all(|m| m["channel"] == channel), "{got:?}");
    }
}
