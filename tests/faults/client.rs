//! WebSocket clients that resume after every disconnect. Some renew their tokens.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use futures_util::{SinkExt as _, StreamExt as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::book::ChannelPosition;
use crate::ledger::Number;
use crate::options::channel_name;
use crate::proxy::Proxy;
use crate::server::SECRET;
use crate::subscriber::{Event, Subscriber};
use crate::world::World;

/// The type of every event.
pub const EVENT_TYPE: &str = "fault.tick";
/// The close code for a silent client.
const SILENT: u16 = 4408;
/// The timeout of an upgrade before the client retries.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A token that is valid for this many seconds.
pub fn token(user: &str, role: &str, seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let claims = json!({"sub": user, "roles": [role], "exp": now.as_secs() + seconds});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    tidings_jwt::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

/// A server message, as far as these clients read it.
#[derive(Deserialize)]
struct ServerMessage {
    r#type: String,
    channel: Option<String>,
    offset: Option<u64>,
    epoch: Option<String>,
    recovered: Option<bool>,
    data: Option<Data>,
    #[serde(default)]
    channels: Vec<Joined>,
    #[serde(default)]
    errors: Vec<Value>,
    from: Option<u64>,
    to: Option<u64>,
    reason: Option<Value>,
    after_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Data {
    n: u64,
}

#[derive(Deserialize)]
struct Joined {
    channel: String,
    epoch: String,
    offset: u64,
    recovered: bool,
    #[serde(default)]
    replayed: u64,
}

type Ws = WebSocketStream<TcpStream>;

/// One client, for the whole run.
pub struct Client {
    subscriber: Arc<Subscriber>,
    world: Arc<World>,
    rng: Rng,
    /// Renews its token when requested to. Otherwise, the token expires.
    renews: bool,
    names: HashMap<String, usize>,
}

impl Client {
    pub fn new(world: &Arc<World>, subscriber: Arc<Subscriber>, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let names = subscriber.channels.iter().map(|c| (channel_name(*c), *c));
        Client {
            world: Arc::clone(world),
            renews: rng.bool(),
            rng,
            names: names.collect(),
            subscriber,
        }
    }

    /// Reconnects until the run ends.
    pub async fn run(mut self) {
        loop {
            let pause = match tokio::time::timeout(TIMEOUT, self.connect()).await {
                Ok(Some(ws)) => self.live(ws).await,
                Ok(None) | Err(_) => None,
            };
            let pause = pause.unwrap_or_else(|| Duration::from_millis(self.rng.u64(20..400)));
            tokio::time::sleep(pause).await;
        }
    }

    /// The proxy that it is connected to.
    fn proxy(&self) -> &Proxy {
        &self.world.nodes[self.subscriber.node()].public
    }

    fn token(&mut self) -> String {
        token(&self.subscriber.name, "member", self.rng.u64(2..20))
    }

    async fn connect(&mut self) -> Option<Ws> {
        let address = self.world.nodes[self.subscriber.choose_node(&mut self.rng)]
            .public
            .address;
        let stream = TcpStream::connect(address).await.ok()?;
        let _ = stream.set_nodelay(true);
        let url = format!("ws://{address}/ws");
        let mut request = url.into_client_request().unwrap();
        let bearer = format!("Bearer {}", self.token());
        request
            .headers_mut()
            .insert("Authorization", bearer.parse().unwrap());
        let (mut ws, _) = tokio_tungstenite::client_async(request, stream)
            .await
            .ok()?;
        let mut since = Map::new();
        let mut channels = Vec::new();
        for (channel, position) in self.subscriber.resume() {
            channels.push(channel_name(channel));
            if let Some(ChannelPosition { epoch, offset }) = position {
                since.insert(
                    channel_name(channel),
                    json!({"epoch": epoch, "offset": offset}),
                );
            }
        }
        let subscribe = json!({"type": "subscribe", "id": 1, "channels": channels, "since": since});
        ws.send(Message::text(subscribe.to_string())).await.ok()?;
        self.world.totals.connects.add(1);
        Some(ws)
    }

    /// Reads until the connection closes. Returns the advised reconnect delay, if there was one.
    async fn live(&mut self, mut ws: Ws) -> Option<Duration> {
        let mut away = None;
        loop {
            match ws.next().await {
                Some(Ok(Message::Text(text))) => {
                    let received: ServerMessage = match serde_json::from_str(&text) {
                        Ok(received) => received,
                        Err(error) => {
                            let why = format!("{error}: {text}");
                            self.world.wrong(&self.subscriber.name, why);
                            return None;
                        }
                    };
                    match received.r#type.as_str() {
                        "reconnect" => away = received.after_ms.map(Duration::from_millis),
                        "token_expiring" if self.renews => {
                            let renewal = json!({"type": "authenticate", "token": self.token()});
                            ws.send(Message::text(renewal.to_string())).await.ok()?;
                            self.world.totals.renewals.add(1);
                        }
                        _ => {
                            if !self.handle(received) {
                                return None;
                            }
                        }
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    let code = frame.map_or(1005, |frame| u16::from(frame.code));
                    self.world.totals.closed(&code.to_string());
                    let local = ws.get_ref().local_addr().ok();
                    if code == SILENT && !local.is_some_and(|local| self.proxy().froze(local)) {
                        let why = "closed for its silence, though it read and answered";
                        self.world.wrong(&self.subscriber.name, why.into());
                    }
                    return away;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => {
                    self.world.totals.closed("broken");
                    return away;
                }
            }
        }
    }

    /// Handles one message. Returns false if the client should reconnect.
    fn handle(&self, received: ServerMessage) -> bool {
        let channel = received
            .channel
            .as_ref()
            .and_then(|c| self.names.get(c))
            .copied();
        match (received.r#type.as_str(), channel, received.offset) {
            (EVENT_TYPE, Some(channel), Some(offset)) => {
                let Some(Data { n }) = received.data else {
                    self.world.wrong(&self.subscriber.name, "no data".into());
                    return true;
                };
                self.subscriber.event(Event {
                    channel,
                    epoch: None,
                    offset,
                    number: Number::from_data(n),
                });
            }
            ("subscribed", Some(channel), Some(offset)) => {
                // The channel has a new epoch.
                let epoch = received.epoch.unwrap_or_default();
                let recovered = received.recovered.unwrap_or_default();
                let position = ChannelPosition { epoch, offset };
                self.subscriber.subscribed(channel, position, recovered, 0);
            }
            ("subscribed", None, _) => {
                for joined in received.channels {
                    let position = ChannelPosition {
                        epoch: joined.epoch,
                        offset: joined.offset,
                    };
                    let channel = self.names[&joined.channel];
                    self.subscriber.subscribed(
                        channel,
                        position,
                        joined.recovered,
                        joined.replayed,
                    );
                }
                return received.errors.is_empty();
            }
            ("gap", Some(channel), _) => {
                let reason = received.reason.unwrap_or_default();
                let (from, to) = (received.from.unwrap_or(0), received.to.unwrap_or(0));
                let reason = reason.as_str().unwrap_or_default();
                self.subscriber.gap(channel, from, to, reason);
            }
            ("error" | "unsubscribed", ..) => return false,
            ("connection_established" | "heartbeat" | "authenticated" | "token_expiring", ..) => {}
            (other, ..) => {
                let why = format!("{other} was not expected");
                self.world.wrong(&self.subscriber.name, why);
            }
        }
        true
    }
}
