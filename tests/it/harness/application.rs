//! The application behind the server: it answers hooks over HTTP.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Config, eventually, within};

/// How the application answers.
pub enum Reply {
    /// 200 with this JSON.
    Json(Value),
    /// 200 with this text.
    Text(String),
    /// This status.
    Status(u16),
    /// 200 with this JSON, once [`Application::release`] was called.
    Held(Value),
    /// Never.
    Hang,
}

/// A question, as the application received it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Asked {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Answering = Box<dyn Fn(&Value) -> Reply + Send + Sync>;

/// A running application. Every question is recorded before it is answered.
#[derive(Clone)]
pub struct Application {
    pub address: String,
    state: Arc<Shared>,
}

struct Shared {
    asked: Mutex<Vec<Asked>>,
    answering: Mutex<Answering>,
    released: watch::Sender<bool>,
}

impl Application {
    /// Starts it on a free port.
    pub async fn start(answering: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", answering).await
    }

    /// Starts it at this address.
    pub async fn start_at(
        address: &str,
        answering: impl Fn(&Value) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Shared {
            asked: Mutex::default(),
            answering: Mutex::new(Box::new(answering)),
            released: watch::channel(false).0,
        });
        let routes = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&state));
        tokio_util::task::TaskTracker::new().spawn(async move {
            axum::serve(listener, routes).await.unwrap();
        });
        Application { address, state }
    }

    /// A configuration with `room` and `plain` that asks these questions.
    pub fn config(&self, ask: &[&str]) -> Config {
        Config::rooms()
            .set(
                "hooks.endpoint",
                &format!("\"http://{}/tidings\"", self.address),
            )
            .set("hooks.ask", &format!("{ask:?}"))
    }

    /// Changes the answers.
    pub fn answer(&self, answering: impl Fn(&Value) -> Reply + Send + Sync + 'static) {
        *self.state.answering.lock().unwrap() = Box::new(answering);
    }

    /// Lets held answers go.
    pub fn release(&self) {
        self.state.released.send_replace(true);
    }

    /// All questions so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    /// The questions of one type so far.
    pub fn questions(&self, kind: &str) -> Vec<Value> {
        let all = self.asked().into_iter().map(|asked| asked.json());
        all.filter(|asked| asked["type"] == kind).collect()
    }

    /// Waits for this many questions of one type, and returns the last.
    pub async fn question(&self, kind: &str, count: usize) -> Value {
        let what = format!("question {count} of type {kind}");
        eventually(&what, async || {
            self.questions(kind).into_iter().nth(count - 1)
        })
        .await
    }
}

async fn answer(State(state): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let question: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut released = state.released.subscribe();
    state.asked.lock().unwrap().push(Asked { headers, body });
    let reply = (state.answering.lock().unwrap())(&question);
    let json = |value: Value| value.to_string().into_response();
    match reply {
        Reply::Json(value) => json(value),
        Reply::Text(text) => text.into_response(),
        Reply::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Reply::Held(value) => {
            within("the release", released.wait_for(|released| *released))
                .await
                .unwrap();
            json(value)
        }
        Reply::Hang => std::future::pending().await,
    }
}

/// `{"allow": true}`.
pub fn allow() -> Reply {
    Reply::Json(json!({"allow": true}))
}

/// A refusal with this code.
pub fn refuse(code: &str) -> Reply {
    Reply::Json(json!({"allow": false, "code": code, "message": format!("no: {code}")}))
}
