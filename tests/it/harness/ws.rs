//! A WebSocket client of the dialect `tidings`.

use std::collections::VecDeque;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message};

use super::{Token, within};

/// A builder for a connection.
#[must_use]
pub struct WsBuilder {
    address: String,
    path: String,
    query: String,
    headers: Vec<(&'static str, String)>,
    protocols: Vec<String>,
    receive_buffer: Option<u32>,
}

impl WsBuilder {
    pub fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            path: "/ws".to_owned(),
            query: String::new(),
            headers: Vec::new(),
            protocols: Vec::new(),
            receive_buffer: None,
        }
    }

    /// At another path.
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// As this user with these roles. The token is sent in the `Authorization` header.
    pub fn token(self, user: &str, roles: &[&str]) -> Self {
        self.bearer(&Token::new(user).roles(roles).sign())
    }

    /// With this token in the `Authorization` header.
    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// With this token in the query.
    pub fn query_token(mut self, token: &str) -> Self {
        self.query = format!("?token={token}");
        self
    }

    /// With this token as an offered subprotocol.
    pub fn protocol_token(self, token: &str) -> Self {
        self.protocol(&format!("bearer.{token}"))
    }

    /// Offers a subprotocol.
    pub fn protocol(mut self, name: &str) -> Self {
        self.protocols.push(name.to_owned());
        self
    }

    /// With this `Origin`.
    pub fn origin(self, origin: &str) -> Self {
        self.header("Origin", origin)
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// With a small receive buffer, so that the server soon notices that the client stops reading.
    pub fn small_window(mut self) -> Self {
        self.receive_buffer = Some(4096);
        self
    }

    /// Connects and reads `connection_established`, the first message.
    pub async fn connect(self) -> Ws {
        let mut ws = self.upgrade().await.expect("an accepted upgrade");
        ws.established = ws.next().await;
        assert_eq!(
            ws.established["type"], "connection_established",
            "first of all"
        );
        ws
    }

    /// Upgrades, or fails with the status of the refusal.
    pub async fn upgrade(self) -> Result<Ws, u16> {
        let url = format!("ws://{}{}{}", self.address, self.path, self.query);
        let mut request = url.into_client_request().unwrap();
        for (name, value) in &self.headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        if !self.protocols.is_empty() {
            let offer = self.protocols.join(", ").parse().unwrap();
            request
                .headers_mut()
                .insert("Sec-WebSocket-Protocol", offer);
        }
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let address = self.address.parse().unwrap();
        let stream = within("TCP", socket.connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let upgraded = tokio_tungstenite::client_async(request, stream);
        match within("the upgrade", upgraded).await {
            Ok((stream, response)) => Ok(Ws {
                stream,
                inbox: VecDeque::new(),
                pings: 0,
                asked: 0,
                protocol: response
                    .headers()
                    .get("Sec-WebSocket-Protocol")
                    .map(|p| p.to_str().unwrap().to_owned()),
                established: Value::Null,
            }),
            Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("the upgrade failed: {error}"),
        }
    }
}

/// An open connection. Messages that no test has read yet are queued in order.
pub struct Ws {
    stream: WebSocketStream<TcpStream>,
    inbox: VecDeque<Value>,
    asked: u64,
    /// Protocol Pings received so far (tungstenite answers them automatically).
    pub pings: usize,
    /// The selected subprotocol.
    pub protocol: Option<String>,
    /// The first message.
    pub established: Value,
}

impl Ws {
    /// This connection's id.
    pub fn id(&self) -> String {
        self.established["connection_id"]
            .as_str()
            .expect("connection_id")
            .to_owned()
    }

    pub async fn send(&mut self, message: Value) {
        self.send_text(&message.to_string()).await;
    }

    pub async fn send_text(&mut self, text: &str) {
        self.send_message(Message::text(text)).await;
    }

    pub async fn send_message(&mut self, message: Message) {
        within("room to send", self.stream.send(message))
            .await
            .expect("sent");
    }

    /// Sends with an `id` and waits for the message that echoes it.
    pub async fn ask(&mut self, mut message: Value) -> Value {
        self.asked += 1;
        let id = json!(format!("ask-{}", self.asked));
        message["id"].clone_from(&id);
        self.send(message.clone()).await;
        self.find(&format!("the reply to {message}"), |m| m["id"] == id)
            .await
    }

    /// Sends, and expects an `error` with this code in reply.
    pub async fn refused(&mut self, message: Value, code: &str) -> Value {
        let reply = self.ask(message.clone()).await;
        assert_eq!(
            reply["type"], "error",
            "{message} was answered with {reply}"
        );
        assert_eq!(reply["code"], code, "{message} was answered with {reply}");
        assert!(
            reply["message"].as_str().is_some_and(|m| !m.is_empty()),
            "{reply}"
        );
        reply
    }

    /// Subscribes to one channel, which must succeed. Returns its entry in the reply.
    pub async fn subscribe(&mut self, channel: &str) -> Value {
        self.subscribe_with(channel, json!({})).await
    }

    /// Subscribes to one channel with further fields, which must succeed. Returns its entry in the
    /// reply.
    pub async fn subscribe_with(&mut self, channel: &str, more: Value) -> Value {
        let mut message = json!({"type": "subscribe", "channels": [channel]});
        for (name, value) in more.as_object().unwrap() {
            message[name] = value.clone();
        }
        let reply = self.ask(message).await;
        assert_eq!(reply["type"], "subscribed", "{reply}");
        assert!(is_empty(&reply["errors"]), "{reply}");
        assert_eq!(reply["channels"][0]["channel"], channel, "{reply}");
        reply["channels"][0].clone()
    }

    /// Publishes, which must succeed. Returns the reply.
    pub async fn publish(&mut self, channel: &str, event_type: &str, data: Value) -> Value {
        let message =
            json!({"type": "publish", "channel": channel, "event_type": event_type, "data": data});
        // The request has no `id`, so the reply's id is the event's.
        self.send(message).await;
        self.expect("published").await
    }

    /// A ping that must be answered, which shows that the connection is open.
    pub async fn lives(&mut self) {
        assert_eq!(self.ask(json!({"type": "ping"})).await["type"], "pong");
    }

    /// Waits for the next message of this type. Others stay queued.
    pub async fn expect(&mut self, kind: &str) -> Value {
        self.find(&format!("a message of type {kind}"), |m| m["type"] == kind)
            .await
    }

    /// Like `expect`, for an event.
    pub async fn expect_event(&mut self, event_type: &str) -> Value {
        let event = self.expect(event_type).await;
        assert!(
            event["id"].is_string() && event["timestamp"].is_string(),
            "{event}"
        );
        event
    }

    /// All messages before the one of this type, which is removed too.
    pub async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut before = Vec::new();
        loop {
            let message = match self.inbox.pop_front() {
                Some(message) => message,
                None => self.next().await,
            };
            if message["type"] == kind {
                return before;
            }
            before.push(message);
        }
    }

    /// Takes the next `count` events of this type. Returns the value of `field` in each one's data.
    pub async fn numbers(&mut self, event_type: &str, count: usize) -> Vec<u64> {
        let mut numbers = Vec::with_capacity(count);
        while numbers.len() < count {
            numbers.push(
                self.expect_event(event_type).await["data"]["n"]
                    .as_u64()
                    .unwrap(),
            );
        }
        numbers
    }

    /// The raw text of the next message.
    pub async fn next_text(&mut self) -> String {
        match self.receive().await {
            Received::Text(text) => text,
            Received::Closed(close) => panic!("closed with {close:?} before a message"),
        }
    }

    /// Waits for the next event of this type. Returns its raw text.
    pub async fn expect_text(&mut self, event_type: &str) -> String {
        loop {
            let text = self.next_text().await;
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["type"] == event_type {
                return text;
            }
            self.inbox.push_back(message);
        }
    }

    /// Waits until the server closes with this code. Returns the reason. Earlier messages stay
    /// queued.
    pub async fn expect_close(&mut self, code: u16) -> String {
        loop {
            match self.receive().await {
                Received::Text(text) => {
                    self.inbox.push_back(serde_json::from_str(&text).unwrap());
                }
                Received::Closed(Some(close)) => {
                    assert_eq!(u16::from(close.code), code, "reason: {}", close.reason);
                    return close.reason.to_string();
                }
                Received::Closed(None) => panic!("closed without a code, expected {code}"),
            }
        }
    }

    /// The next message, or the close code of the server.
    pub async fn next_or_close(&mut self) -> Result<Value, u16> {
        if let Some(message) = self.inbox.pop_front() {
            return Ok(message);
        }
        match self.receive().await {
            Received::Text(text) => Ok(serde_json::from_str(&text).unwrap()),
            Received::Closed(close) => Err(close.expect("a close code").code.into()),
        }
    }

    /// Messages that are queued and were not read.
    pub fn unread(&self) -> impl Iterator<Item = &Value> {
        self.inbox.iter()
    }

    /// Closes and waits for the server's close frame.
    pub async fn close(mut self) {
        within("room to close", self.stream.close(None))
            .await
            .unwrap();
        within("the closing handshake", async {
            while let Some(Ok(_)) = self.stream.next().await {}
        })
        .await;
    }

    async fn find(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.inbox.iter().position(&wanted) {
            return self.inbox.remove(at).unwrap();
        }
        loop {
            let text = match self.receive().await {
                Received::Text(text) => text,
                Received::Closed(close) => {
                    panic!(
                        "closed with {close:?} before {what}; unread: {:?}",
                        self.inbox
                    )
                }
            };
            let message: Value = serde_json::from_str(&text).expect("JSON from the server");
            if wanted(&message) {
                return message;
            }
            self.inbox.push_back(message);
        }
    }

    async fn next(&mut self) -> Value {
        serde_json::from_str(&self.next_text().await).expect("JSON from the server")
    }

    async fn receive(&mut self) -> Received {
        loop {
            let unread = &self.inbox;
            let next = tokio::time::timeout(super::DEADLINE, self.stream.next()).await;
            match next.unwrap_or_else(|_| panic!("no message arrived; unread: {unread:?}")) {
                Some(Ok(Message::Text(text))) => return Received::Text(text.to_string()),
                Some(Ok(Message::Ping(_))) => self.pings += 1,
                Some(Ok(Message::Close(close))) => return Received::Closed(close),
                Some(Ok(Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("unexpected frame {other:?}"),
                Some(Err(error)) => panic!("the connection broke: {error}; unread: {unread:?}"),
                None => return Received::Closed(None),
            }
        }
    }
}

enum Received {
    Text(String),
    Closed(Option<CloseFrame>),
}

/// True for an empty list, or an omitted one.
pub(super) fn is_empty(list: &Value) -> bool {
    list.is_null() || list.as_array().is_some_and(Vec::is_empty)
}
