//! Server-sent events.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Config, Server, Token, eventually};

fn bearer(user: &str, roles: &[&str]) -> String {
    format!("Bearer {}", Token::new(user).roles(roles).sign())
}

async fn publish(server: &Server, channel: &str, data: &str) -> Value {
    let token = bearer("backend", &["service"]);
    let headers = [("Authorization", token.as_str())];
    let body = format!(r#"{{"channels":["{channel}"],"type":"a.b","data":{data}}}"#);
    let answer = server
        .http(Method::POST, "/api/v1/events", &headers, &body)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["results"][0].take()
}

#[tokio::test]
async fn sse_event_id_is_its_position() {
    let server = Server::start(Config::rooms()).await;
    let token = Token::new("alice").sign();
    let query = format!("channel=room:1&token={token}");
    let (mut stream, first) = server.sse(&query, &[]).await;
    assert_eq!(first.retry, "2000");
    assert_eq!(first.json()["type"], "subscribed");
    assert_eq!(first.json()["channels"][0]["channel"], "room:1");
    let place = publish(&server, "room:1", "{ \"n\" : 1.0 }").await;
    let event = stream.event().await;
    let epoch = place["epoch"].as_str().unwrap();
    assert_eq!(event.id, format!("{epoch}/1"));
    assert!(event.data.contains(r#""data":{ "n" : 1.0 }"#), "{event:?}");
    assert_eq!(event.json()["type"], "a.b");
    publish(&server, "room:1", "[1,\n2]").await;
    assert_eq!(stream.event().await.json()["data"], json!([1, 2]));
}

#[tokio::test]
async fn sse_stream_resumes_by_last_event_id() {
    let server = Server::start(Config::rooms()).await;
    let token = bearer("alice", &[]);
    let auth = ("Authorization", token.as_str());
    let (stream, first) = server.sse("channel=room:1", &[auth]).await;
    assert!(first.id.ends_with("/0"), "{first:?}");
    drop(stream);
    for n in 1..=3 {
        publish(&server, "room:1", &n.to_string()).await;
    }
    let resume = [auth, ("Last-Event-ID", first.id.as_str())];
    let (mut stream, again) = server.sse("channel=room:1", &resume).await;
    assert_eq!(again.json()["channels"][0]["recovered"], true, "{again:?}");
    for n in 1..=3 {
        assert_eq!(stream.event().await.json()["data"], n);
    }
    let foreign = [auth, ("Last-Event-ID", "0000000000000001/1")];
    let (_, reload) = server.sse("channel=room:1", &foreign).await;
    assert_eq!(reload.json()["channels"][0]["recovered"], false);
}

#[tokio::test]
async fn one_last_event_id_resumes_all_channels() {
    let server = Server::start(Config::rooms()).await;
    let token = bearer("alice", &[]);
    let auth = ("Authorization", token.as_str());
    let query = "channel=room:1&channel=plain:1&channel=room:2";
    let (mut stream, _) = server.sse(query, &[auth]).await;
    publish(&server, "room:1", "1").await;
    let seen = stream.event().await;
    assert!(
        seen.id.contains("/1,-,") && seen.id.ends_with("/0"),
        "{seen:?}"
    );
    drop(stream);
    publish(&server, "room:2", "2").await;
    publish(&server, "room:1", "3").await;
    let resume = [auth, ("Last-Event-ID", seen.id.as_str())];
    let (mut stream, _) = server.sse(query, &resume).await;
    let mut data = [
        stream.event().await.json()["data"].clone(),
        stream.event().await.json()["data"].clone(),
    ];
    data.sort_by_key(Value::as_u64);
    assert_eq!(data, [json!(2), json!(3)]);
}

#[tokio::test]
async fn sse_supports_types_filters_and_rewind() {
    let server = Server::start(Config::rooms()).await;
    let token = bearer("alice", &[]);
    let headers = [("Authorization", token.as_str())];
    for n in 1..=5 {
        publish(&server, "room:1", &n.to_string()).await;
    }
    let (mut stream, _) = server.sse("channel=room:1&rewind=2", &headers).await;
    assert_eq!(stream.event().await.json()["data"], 4);
    let query = "channel=room:1&filter=event.data%20%3E%207&event_types=x.*,a.b";
    let (mut stream, _) = server.sse(query, &headers).await;
    publish(&server, "room:1", "6").await;
    publish(&server, "room:1", "8").await;
    assert_eq!(stream.event().await.json()["data"], 8);
}

#[tokio::test]
async fn refused_sse_subscription_returns_status() {
    let server = Server::start(Config::rooms()).await;
    let token = bearer("alice", &[]);
    let auth = ("Authorization", token.as_str());
    let get = async |query: &str, headers: &[(&str, &str)]| {
        let path = format!("/sse?{query}");
        server.http(Method::GET, &path, headers, "").await
    };
    let missing = get("channel=room:1", &[]).await;
    assert_eq!(missing.assert_problem(401)["code"], "unauthenticated");
    assert_eq!(missing.header("www-authenticate"), "Bearer");
    get("channel=room:1&token=x", &[]).await.assert_problem(401);
    get("channel=nowhere:1", &[auth]).await.assert_problem(403);
    for (query, field) in [
        ("x=1", "channel"),
        ("channel=room:1&rewind=all", "rewind"),
        ("channel=room:1&filter=%28", "filter"),
        ("channel=room:1&last_event_id=x", "last_event_id"),
        ("channel=%zz", "channel"),
    ] {
        let problem = get(query, &[auth]).await.assert_problem(400);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let foreign = [auth, ("Origin", "https://evil.example.com")];
    get("channel=room:1", &foreign).await.assert_problem(403);
    let admin = Token::new("root").roles(&["admin"]);
    eventually("no connection to be left", async || {
        let stats = server.get_as(&admin, "/api/v1/stats").await.json();
        (stats["connections"]["now"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn partly_refused_sse_stream_names_refused_channels() {
    let server = Server::start(Config::rooms()).await;
    let token = bearer("alice", &[]);
    let headers = [("Authorization", token.as_str())];
    let (_, first) = server
        .sse("channel=room:1&channel=nowhere:1", &headers)
        .await;
    let first = first.json();
    assert_eq!(first["errors"][0]["channel"], "nowhere:1");
    assert_eq!(first["errors"][0]["code"], "permission_denied");
}

#[tokio::test]
async fn anonymous_sse_works_without_required_tokens() {
    let server = Server::start(Config::rooms().set("auth.required", "false")).await;
    let (mut stream, _) = server.sse("channel=room:1", &[]).await;
    publish(&server, "room:1", "1").await;
    assert_eq!(stream.event().await.json()["data"], 1);
}

#[tokio::test]
async fn sse_stream_counts_as_connection() {
    let server = Server::start(Config::rooms()).await;
    let token = bearer("alice", &[]);
    let headers = [("Authorization", token.as_str())];
    let (mut stream, _) = server.sse("channel=room:1", &headers).await;
    let admin = Token::new("root").roles(&["admin"]);
    let path = "/api/v1/connections?transport=sse";
    let list = server.get_as(&admin, path).await.json();
    assert_eq!(list["connections"][0]["user"], "alice", "{list}");
    let id = list["connections"][0]["id"].as_str().unwrap();
    let path = format!("/api/v1/connections/{id}?reason=enough");
    let admin = bearer("root", &["admin"]);
    let ended = server
        .http(Method::DELETE, &path, &[("Authorization", &admin)], "")
        .await;
    assert_eq!(ended.status, 204, "{ended:?}");
    let close = stream.next().await;
    assert_eq!(close.event, "close");
    assert_eq!(close.json()["code"], 4410);
    assert_eq!(close.json()["reason"], "enough");
    stream.ended().await;
}

#[tokio::test]
async fn gone_sse_reader_is_removed() {
    let server = Server::start(Config::rooms()).await;
    let token = bearer("alice", &[]);
    let headers = [("Authorization", token.as_str())];
    let (stream, _) = server.sse("channel=room:1", &headers).await;
    let admin = Token::new("root").roles(&["admin"]);
    let now = async || {
        let stats = server.get_as(&admin, "/api/v1/stats").await.json();
        stats["connections"]["by_transport"]["sse"].as_u64()
    };
    assert_eq!(now().await, Some(1));
    drop(stream);
    eventually("the stream to be forgotten", async || {
        (now().await == Some(0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn idle_sse_stream_has_heartbeat_comments() {
    let config = Config::rooms()
        .set("heartbeat.interval", r#""1s""#)
        .set("heartbeat.timeout", r#""2s""#);
    let server = Server::start(config).await;
    let token = bearer("alice", &[]);
    let headers = [("Authorization", token.as_str())];
    let (mut stream, _) = server.sse("channel=room:1", &headers).await;
    assert_eq!(stream.next().await.comment, "heartbeat");
}

/// The headers that an `EventSource` sends.
const EVENT_SOURCE: (&str, &str) = ("Accept", "text/event-stream");

/// Requests a stream that ends at once. Returns its text.
async fn told_to_come_back(server: &Server, query: &str, headers: &[(&str, &str)]) -> String {
    let path = format!("/sse?{query}");
    let mut all = vec![EVENT_SOURCE];
    all.extend_from_slice(headers);
    let answer = server.http(Method::GET, &path, &all, "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), "text/event-stream");
    answer.text().to_owned()
}

/// The reconnection time of the stream.
fn retry(text: &str) -> u64 {
    let fields = text.lines().filter_map(|line| line.strip_prefix("retry: "));
    let fields: Vec<&str> = fields.collect();
    assert_eq!(fields.len(), 1, "{text}");
    fields[0].parse().unwrap()
}

#[tokio::test]
async fn draining_server_tells_event_source_to_retry() {
    let server = Server::start(Config::rooms().arg("--drain").arg("60s")).await;
    let token = bearer("alice", &[]);
    let auth = ("Authorization", token.as_str());
    let (mut stream, _) = server.sse("channel=room:1", &[auth]).await;
    // It never answers the close, so the server waits for it.
    let mut lingers = server.raw_ws(&Token::new("bob")).await;
    server.signal("TERM");
    let notified = stream.next().await;
    assert_eq!(notified.event, "reconnect");
    assert_eq!(notified.retry, notified.json()["after_ms"].to_string());
    assert_eq!(stream.next().await.json()["code"], 1012);
    stream.ended().await;
    assert_eq!(lingers.close_code().await, 1012);
    let text = told_to_come_back(&server, "channel=room:1", &[auth]).await;
    assert!((1000..3000).contains(&retry(&text)), "{text}");
    assert!(text.contains("event: reconnect\n"), "{text}");
    assert!(
        text.contains("event: close\ndata: {\"type\":\"close\",\"code\":1012"),
        "{text}"
    );
    // Other clients get the status.
    let answer = server
        .http(Method::GET, "/sse?channel=room:1", &[auth], "")
        .await;
    answer.assert_problem(503);
    assert_eq!(answer.header("connection"), "close");
    answer.header("retry-after").parse::<u64>().unwrap();
}

#[tokio::test]
async fn temporary_limit_does_not_end_event_source() {
    let config = Config::rooms()
        .set("limits.connections_per_user", "1")
        .set("limits.connections_per_ip", "3");
    let server = Server::start(config).await;
    let alice = bearer("alice", &[]);
    let auth = ("Authorization", alice.as_str());
    let (first, _) = server.sse("channel=room:1", &[auth]).await;
    let text = told_to_come_back(&server, "channel=room:1", &[auth]).await;
    // Five seconds, spread over another five.
    assert!((5000..=10_000).contains(&retry(&text)), "{text}");
    assert!(text.contains("event: server_error\n") && text.contains("limits.connections_per_user"));
    assert!(text.contains("\"code\":1013"), "{text}");
    let counted = "tidings_errors_total{code=\"resource_exhausted\"}";
    assert_eq!(server.metric(counted).await, 1);
    // A client that does not request a stream gets the status.
    let plain = server
        .http(Method::GET, "/sse?channel=room:1", &[auth], "")
        .await;
    assert_eq!(plain.assert_problem(429)["code"], "resource_exhausted");
    plain.header("retry-after").parse::<u64>().unwrap();
    drop(first);
    eventually("room for another", async || {
        let path = "/sse?channel=room:1";
        let lines = server
            .lines_until(path, &[auth, EVENT_SOURCE], "event: ")
            .await;
        lines.last()?.contains("subscribed").then_some(())
    })
    .await;
}

#[tokio::test]
async fn final_refusal_returns_status_to_event_source() {
    let server = Server::start(Config::rooms()).await;
    let alice = bearer("alice", &[]);
    let auth = ("Authorization", alice.as_str());
    for (query, headers, status) in [
        ("channel=room:1", vec![EVENT_SOURCE], 401),
        ("channel=nowhere:1", vec![EVENT_SOURCE, auth], 403),
        ("channel=room:1&rewind=all", vec![EVENT_SOURCE, auth], 400),
    ] {
        let path = format!("/sse?{query}");
        let answer = server.http(Method::GET, &path, &headers, "").await;
        answer.assert_problem(status);
    }
}
