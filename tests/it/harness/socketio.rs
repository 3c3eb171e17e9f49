//! Engine.IO and Socket.IO clients of raw requests and frames, which answer nothing automatically.

use futures_util::{SinkExt as _, StreamExt as _};
use http::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};

use super::{Answer, Server, Token, within};

/// Separates the packets of a payload.
const SEPARATOR: char = '\u{1e}';

/// A polling client.
pub struct Polling<'s> {
    server: &'s Server,
    pub sid: String,
    /// The server's open packet.
    pub handshake: Value,
}

impl Server {
    /// Any Engine.IO polling request.
    pub async fn engine(&self, method: Method, query: &str, body: &str) -> Answer {
        self.engine_with(method, query, &[], body).await
    }

    /// The same with headers.
    pub async fn engine_with(
        &self,
        method: Method,
        query: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let path = format!("/socket.io/?{query}");
        self.http(method, &path, headers, body).await
    }

    /// Opens a session by polling.
    pub async fn polling(&self) -> Polling<'_> {
        let query = "EIO=4&transport=polling";
        let answer = self.engine(Method::GET, query, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = answer.text().strip_prefix('0').expect("an open packet");
        let handshake: Value = serde_json::from_str(text).unwrap();
        Polling {
            server: self,
            sid: handshake["sid"].as_str().unwrap().to_owned(),
            handshake,
        }
    }

    /// Opens an Engine.IO WebSocket with additional query parameters. The error is the refusal's
    /// status.
    pub async fn engine_ws(
        &self,
        more: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<EngineWs, u16> {
        let address = &self.public;
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket{more}");
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let stream = within("TCP", TcpStream::connect(address)).await.unwrap();
        let upgraded = tokio_tungstenite::client_async(request, stream);
        match within("the upgrade", upgraded).await {
            Ok((stream, _)) => Ok(EngineWs { stream }),
            Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// A client over a WebSocket, in the main namespace.
    pub async fn socketio(&self, token: &Token) -> EngineWs {
        let mut client = self.engine_ws("", &[]).await.unwrap();
        assert!(client.text().await.starts_with("0{"), "an open packet");
        client.send(&connect_packet(token)).await;
        assert!(client.text().await.starts_with("40{"), "it is connected");
        assert!(
            client
                .text()
                .await
                .starts_with("42[\"connection_established\""),
            "and greeted"
        );
        client
    }
}

/// The packet that connects to the main namespace.
pub fn connect_packet(token: &Token) -> String {
    format!("40{}", json!({ "token": token.sign() }))
}

impl Polling<'_> {
    fn query(&self) -> String {
        format!("EIO=4&transport=polling&sid={}", self.sid)
    }

    /// A poll.
    pub async fn get(&self) -> Answer {
        self.server.engine(Method::GET, &self.query(), "").await
    }

    /// The packets of a poll.
    pub async fn packets(&self) -> Vec<String> {
        let answer = self.get().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), "text/plain; charset=UTF-8");
        assert_eq!(answer.header("cache-control"), "no-store");
        answer.text().split(SEPARATOR).map(str::to_owned).collect()
    }

    /// Polls until a packet starts with this. Returns that packet.
    pub async fn until(&self, beginning: &str) -> String {
        loop {
            let packets = self.packets().await;
            if let Some(found) = packets.into_iter().find(|p| p.starts_with(beginning)) {
                return found;
            }
        }
    }

    /// Sends a payload.
    pub async fn post(&self, payload: &str) -> Answer {
        self.server
            .engine(Method::POST, &self.query(), payload)
            .await
    }

    /// Sends packets, which the server must accept.
    pub async fn send(&self, packets: &[&str]) {
        let answer = self.post(&packets.join("\u{1e}")).await;
        assert_eq!((answer.status, answer.text()), (200, "ok"));
    }

    /// Connects to the main namespace and reads the welcome event.
    pub async fn connect(&self, token: &Token) {
        self.send(&[&connect_packet(token)]).await;
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(self.packets().await);
        }
        assert!(seen[0].starts_with("40{\"sid\":"), "{seen:?}");
        assert!(
            seen[1].starts_with("42[\"connection_established\",{"),
            "{seen:?}"
        );
    }

    /// Opens a WebSocket for this session.
    pub async fn try_websocket(&self) -> Result<EngineWs, u16> {
        self.server
            .engine_ws(&format!("&sid={}", self.sid), &[])
            .await
    }
}

/// A client over a WebSocket.
pub struct EngineWs {
    stream: WebSocketStream<TcpStream>,
}

impl EngineWs {
    /// Sends a packet.
    pub async fn send(&mut self, packet: &str) {
        let sent = self.stream.send(Message::text(packet));
        within("room to send", sent).await.unwrap();
    }

    /// Sends bytes.
    pub async fn send_binary(&mut self, bytes: &[u8]) {
        let sent = self.stream.send(Message::binary(bytes.to_vec()));
        within("room to send", sent).await.unwrap();
    }

    /// The next packet, or the code with which the server closes.
    pub async fn next(&mut self) -> Result<String, Option<u16>> {
        loop {
            match within("a packet", self.stream.next()).await {
                Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map(|frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// The next packet.
    pub async fn text(&mut self) -> String {
        self.next().await.expect("a packet")
    }

    /// Reads until a packet starts with this.
    pub async fn until(&mut self, beginning: &str) -> String {
        loop {
            let packet = self.text().await;
            if packet.starts_with(beginning) {
                return packet;
            }
        }
    }

    /// Reads until the server closes. Returns the code, and the last packet before it.
    pub async fn closed(&mut self) -> (Option<u16>, String) {
        let mut last = String::new();
        loop {
            match self.next().await {
                Ok(packet) => last = packet,
                Err(code) => return (code, last),
            }
        }
    }
}
