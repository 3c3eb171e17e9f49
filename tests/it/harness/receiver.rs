//! An application that receives webhooks, and answers as a test says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use ring::hmac;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{Config, eventually};

/// The secret of every webhook under test.
pub const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// With this status.
    Status(u16),
    /// With this status and `Retry-After` in seconds.
    RetryAfter(u16, u64),
    /// With 200 and a body that never ends.
    Huge,
    /// Never.
    Hang,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Received {
    pub headers: HeaderMap,
    pub body: Bytes,
    pub reply: Reply,
    pub at: Instant,
}

impl Received {
    /// The events of the batch.
    pub fn events(&self) -> Vec<Value> {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// Whether the signature is that of the secret, by the text of Standard Webhooks.
    pub fn is_signed(&self) -> bool {
        let key = STANDARD
            .decode(WEBHOOK_SECRET.trim_start_matches("whsec_"))
            .unwrap();
        let signed = format!(
            "{}.{}.{}",
            self.header("webhook-id"),
            self.header("webhook-timestamp"),
            std::str::from_utf8(&self.body).unwrap()
        );
        let signature = self.header("webhook-signature").trim_start_matches("v1,");
        let signature = STANDARD.decode(signature).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        hmac::verify(&key, signed.as_bytes(), &signature).is_ok()
    }
}

struct Shared {
    next: Mutex<VecDeque<Reply>>,
    otherwise: Mutex<Reply>,
    received: Mutex<Vec<Received>>,
}

/// The application; gone on drop.
pub struct Receiver {
    _serving: JoinSet<()>,
    shared: Arc<Shared>,
    pub address: String,
}

impl Receiver {
    /// An application that answers 204.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    /// The same at a given address.
    pub async fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            next: Mutex::default(),
            otherwise: Mutex::new(Reply::Status(204)),
            received: Mutex::default(),
        });
        let routes = Router::new()
            .fallback(receive)
            .with_state(Arc::clone(&shared));
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            _serving: serving,
            shared,
            address,
        }
    }

    /// An address at which nothing listens yet.
    pub async fn later() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().to_string()
    }

    /// Answers the next requests so.
    pub fn next(&self, replies: &[Reply]) {
        self.shared.next.lock().unwrap().extend(replies);
    }

    /// Answers every request so, after those of [`Receiver::next`].
    pub fn always(&self, reply: Reply) {
        *self.shared.otherwise.lock().unwrap() = reply;
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// The events of all requests that were accepted, in order.
    pub fn events(&self) -> Vec<Value> {
        let accepted = self.requests().into_iter();
        let accepted = accepted.filter(|one| matches!(one.reply, Reply::Status(200..=299)));
        accepted.flat_map(|one| one.events()).collect()
    }

    /// Type and subject of the events, in order.
    pub fn reported(&self) -> Vec<(String, String)> {
        let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
        let events = self.events();
        events
            .iter()
            .map(|event| (text(event, "type"), text(event, "subject")))
            .collect()
    }

    /// Waits for an event of this type and subject.
    pub async fn event(&self, kind: &str, subject: &str) -> Value {
        eventually(&format!("{kind} of {subject}"), async || {
            let mut events = self.events().into_iter();
            events.find(|event| event["type"] == kind && event["subject"] == subject)
        })
        .await
    }

    /// Waits for this many requests.
    pub async fn requested(&self, count: usize) -> Vec<Received> {
        eventually(&format!("{count} requests"), async || {
            Some(self.requests()).filter(|all| all.len() >= count)
        })
        .await
    }
}

async fn receive(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let reply = {
        let next = shared.next.lock().unwrap().pop_front();
        next.unwrap_or(*shared.otherwise.lock().unwrap())
    };
    let at = Instant::now();
    shared.received.lock().unwrap().push(Received {
        headers,
        body,
        reply,
        at,
    });
    let answer = Response::builder();
    match reply {
        Reply::Status(status) => answer.status(status).body(Body::empty()),
        Reply::RetryAfter(status, seconds) => answer
            .status(status)
            .header("retry-after", seconds)
            .body(Body::empty()),
        Reply::Huge => {
            let part = Bytes::from(vec![b'x'; 65_536]);
            let parts = futures_util::stream::repeat_with(move || {
                Ok::<_, std::convert::Infallible>(part.clone())
            });
            answer.status(StatusCode::OK).body(Body::from_stream(parts))
        }
        Reply::Hang => std::future::pending().await,
    }
    .unwrap()
}

impl Config {
    /// Adds a `[[webhook]]` with every event and these keys.
    pub fn webhook(self, address: &str, keys: &str) -> Self {
        self.dialects(&format!(
            "[[webhook]]\nurl = \"http://{address}/tidings?key=hidden\"\nsecret = \"{WEBHOOK_SECRET}\"\n{keys}\n"
        ))
    }
}
