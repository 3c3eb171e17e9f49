//! A client of server-sent events.

use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use serde_json::Value;

use super::http::open;
use super::{Server, within};

/// An open stream.
pub struct Sse {
    body: Incoming,
    text: String,
}

/// One message of a stream, or a comment.
#[derive(Debug, Default)]
pub struct Message {
    pub event: String,
    pub id: String,
    pub data: String,
    pub retry: String,
    pub comment: String,
}

impl Message {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }
}

impl Server {
    /// Opens a stream and reads `subscribed`.
    pub async fn sse(&self, query: &str, headers: &[(&str, &str)]) -> (Sse, Message) {
        let path = format!("/sse?{query}");
        let response = open(&self.public, Method::GET, &path, headers, Bytes::new()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut stream = Sse {
            body: response.into_body(),
            text: String::new(),
        };
        let first = stream.next().await;
        assert_eq!(first.event, "subscribed", "{first:?}");
        (stream, first)
    }
}

impl Sse {
    /// The next message or comment.
    pub async fn next(&mut self) -> Message {
        loop {
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let (message, rest) = (parse(message), rest.to_owned());
                self.text = rest;
                return message;
            }
            let frame = within("more of the stream", self.body.frame()).await;
            let frame = frame.expect("the stream goes on").unwrap();
            if let Ok(data) = frame.into_data() {
                self.text.push_str(std::str::from_utf8(&data).unwrap());
            }
        }
    }

    /// The next event. Skips comments and notices.
    pub async fn event(&mut self) -> Message {
        loop {
            let message = self.next().await;
            if message.event.is_empty() && !message.data.is_empty() {
                return message;
            }
        }
    }

    /// Waits for the end of the stream.
    pub async fn ended(mut self) {
        while let Some(frame) = within("the end of the stream", self.body.frame()).await {
            frame.unwrap();
        }
    }
}

fn parse(text: &str) -> Message {
    let mut message = Message::default();
    let mut data = Vec::new();
    for line in text.lines() {
        let (name, value) = line.split_once(": ").unwrap();
        match name {
            "event" => value.clone_into(&mut message.event),
            "id" => value.clone_into(&mut message.id),
            "retry" => value.clone_into(&mut message.retry),
            "data" => data.push(value),
            "" => value.clone_into(&mut message.comment),
            other => panic!("{other} in {text}"),
        }
    }
    message.data = data.join("\n");
    message
}
