//! `GET /stream`: events as lines of JSON.

use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use serde_json::{Value, json};

use crate::harness::{Config, Server, Token, open, within};

struct Lines {
    body: Incoming,
    text: String,
}

impl Lines {
    async fn open(server: &Server, query: &str) -> Self {
        let token = format!("Bearer {}", Token::new("ann").sign());
        let headers = [("Authorization", &*token)];
        let path = format!("/stream?{query}");
        let response = open(&server.public, Method::GET, &path, &headers, Bytes::new()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        Lines {
            body: response.into_body(),
            text: String::new(),
        }
    }

    async fn next(&mut self) -> Value {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let (line, rest) = (serde_json::from_str(line).unwrap(), rest.to_owned());
                self.text = rest;
                return line;
            }
            let frame = within("more of the stream", self.body.frame()).await;
            let frame = frame.expect("the stream goes on").unwrap();
            if let Ok(data) = frame.into_data() {
                self.text.push_str(std::str::from_utf8(&data).unwrap());
            }
        }
    }
}

#[tokio::test]
async fn stream_has_a_message_a_line_and_resumes() {
    let keys = "history = { size = 100, ttl = \"1h\" }\nsubscribe = 'true'";
    let server = Server::start(Config::new().namespace("room", keys)).await;
    let mut service = server.publisher("service").await;
    let mut lines = Lines::open(&server, "channel=room:1").await;
    let subscribed = lines.next().await;
    assert_eq!(subscribed["type"], "subscribed", "{subscribed}");
    let epoch = subscribed["channels"][0]["epoch"]
        .as_str()
        .unwrap()
        .to_owned();
    service.publish("room:1", "said", json!({"n": 1})).await;
    let seen = lines.next().await;
    assert_eq!(
        (&seen["type"], &seen["data"]["n"]),
        (&json!("said"), &json!(1))
    );
    drop(lines);
    service.publish("room:1", "said", json!({"n": 2})).await;
    let query = format!("channel=room:1&since={epoch}/1");
    let mut back = Lines::open(&server, &query).await;
    assert_eq!(back.next().await["channels"][0]["recovered"], true);
    assert_eq!(back.next().await["data"]["n"], 2);

    let token = format!("Bearer {}", Token::new("ann").sign());
    let headers = [("Authorization", &*token)];
    for (query, field) in [
        ("", "channel"),
        ("channel=room:1&since=x", "since"),
        ("channel=room:1&x=1", "x"),
    ] {
        let path = format!("/stream?{query}");
        let answer = server.http(Method::GET, &path, &headers, "").await;
        let problem = answer.assert_problem(400);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let closed = server
        .http(Method::GET, "/stream?channel=secret:1", &headers, "")
        .await;
    closed.assert_problem(403);
}
