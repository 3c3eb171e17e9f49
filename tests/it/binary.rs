//! The subprotocol `tidings.v1.proto`: the same messages in protobuf.

use std::io::Read as _;

use flate2::read::DeflateDecoder;
use prost::Message as _;
use serde_json::{Value, json};
use tidings::proto::client_message::Command;
use tidings::proto::server_message::Message;
use tidings::proto::{
    AuthenticateCommand, ClientMessage, Event, HistoryCommand, PingCommand, Position,
    PresenceCommand, PublishCommand, ReceiveCommand, RegisterCommand, ServerMessage,
    SubscribeCommand, Subscription, UnsubscribeCommand,
};

use crate::harness::{Config, RawWs, Server, Token};

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;

struct Client {
    ws: RawWs,
    asked: u32,
    unread: Vec<ServerMessage>,
    /// How many messages arrived compressed.
    compressed: usize,
}

impl Client {
    async fn connect(server: &Server, token: Option<&Token>, more: &[(&str, &str)]) -> Self {
        let bearer = token.map(|token| format!("Bearer {}", token.sign()));
        let mut headers = vec![("Sec-WebSocket-Protocol", "tidings.v1.proto")];
        headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        headers.extend(more);
        let ws = RawWs::connect(&server.public, &headers).await;
        let head = ws.head.to_ascii_lowercase();
        assert!(
            head.contains("sec-websocket-protocol: tidings.v1.proto"),
            "{head}"
        );
        Client {
            ws,
            asked: 0,
            unread: Vec::new(),
            compressed: 0,
        }
    }

    async fn of(server: &Server, user: &str) -> Self {
        let mut client = Self::connect(server, Some(&Token::new(user)), &[]).await;
        let reported = client.next().await.message;
        let Some(Message::ConnectionEstablished(hello)) = reported else {
            panic!("{reported:?}");
        };
        assert_eq!(hello.user, user);
        assert!(
            hello.heartbeat_interval_ms > 0 && hello.timestamp.is_some(),
            "{hello:?}"
        );
        client
    }

    async fn next(&mut self) -> ServerMessage {
        loop {
            let frame = self.ws.next().await.expect("a frame");
            match frame.opcode {
                2 if frame.compressed => {
                    self.compressed += 1;
                    let whole = [&*frame.payload, &[0x00, 0x00, 0xff, 0xff]].concat();
                    let mut bytes = Vec::new();
                    let _ = DeflateDecoder::new(whole.as_slice()).read_to_end(&mut bytes);
                    return ServerMessage::decode(&*bytes).expect("a message");
                }
                2 => return ServerMessage::decode(&*frame.payload).expect("a message"),
                9 | 10 => {}
                other => panic!("an unexpected frame: {other}"),
            }
        }
    }

    async fn tell(&mut self, id: &str, command: Option<Command>) {
        let id = id.to_owned();
        let bytes = ClientMessage { id, command }.encode_to_vec();
        self.ws.send(BINARY, &bytes).await;
    }

    /// Sends with an id and waits for the message that echoes it.
    async fn ask(&mut self, command: Command) -> Message {
        self.asked += 1;
        let id = format!("ask-{}", self.asked);
        self.tell(&id, Some(command)).await;
        loop {
            let reported = self.next().await;
            if reported.id == id {
                return reported.message.expect("a message");
            }
            self.unread.push(reported);
        }
    }

    async fn event(&mut self) -> Event {
        let known = |reported: &ServerMessage| matches!(reported.message, Some(Message::Event(_)));
        let waiting = self.unread.iter().position(known);
        let mut reported = match waiting {
            Some(at) => self.unread.remove(at),
            None => self.next().await,
        };
        loop {
            match reported.message {
                Some(Message::Event(event)) => return event,
                other => drop(other),
            }
            reported = self.next().await;
        }
    }

    async fn refused(&mut self, command: Command, code: &str) -> String {
        let reported = self.ask(command).await;
        let Message::Error(failure) = reported else {
            panic!("expected {code}, not {reported:?}");
        };
        assert_eq!(failure.code, code, "{failure:?}");
        failure.field
    }
}

fn follow(channel: &str) -> Subscription {
    Subscription {
        channel: channel.to_owned(),
        ..Subscription::default()
    }
}

fn subscribe(subscriptions: Vec<Subscription>) -> Command {
    Command::Subscribe(SubscribeCommand {
        subscriptions,
        ..SubscribeCommand::default()
    })
}

fn publish(channel: &str, event_type: &str, data: &str) -> Command {
    Command::Publish(PublishCommand {
        channel: channel.to_owned(),
        event_type: event_type.to_owned(),
        data: data.to_owned().into(),
        ..PublishCommand::default()
    })
}

#[tokio::test]
async fn binary_supports_every_command() {
    let server = Server::start(Config::rooms()).await;
    let mut ann = Client::of(&server, "ann").await;
    let register = Command::Register(RegisterCommand {
        client_type: "gui".into(),
        client_name: "desk 7".into(),
    });
    let Message::Registered(registered) = ann.ask(register).await else {
        panic!("registered");
    };
    assert_eq!(registered.client_name, "desk 7");
    let Message::Pong(pong) = ann.ask(Command::Ping(PingCommand {})).await else {
        panic!("pong");
    };
    assert!(pong.timestamp.is_some());

    let Message::Subscribed(subscribed) = ann
        .ask(subscribe(vec![follow("room:1"), follow("nowhere:1")]))
        .await
    else {
        panic!("subscribed");
    };
    assert_eq!(subscribed.channels[0].channel, "room:1");
    let start: Position = subscribed.channels[0].position.clone().expect("a position");
    assert_eq!(subscribed.errors[0].code, "permission_denied");

    let data = "{ \"n\": 1.50 }";
    let Message::Published(published) = ann.ask(publish("room:1", "a.b", data)).await else {
        panic!("published");
    };
    let event = ann.event().await;
    assert_eq!(
        (&event.id, &event.r#type),
        (&published.event_id, &"a.b".to_owned())
    );
    assert_eq!(event.data, data, "byte for byte");
    assert_eq!(event.position, published.position);
    assert_eq!(event.channel, "room:1");

    let history = Command::History(HistoryCommand {
        channel: "room:1".into(),
        since: Some(start.clone()),
        ..HistoryCommand::default()
    });
    let Message::History(page) = ann.ask(history).await else {
        panic!("history");
    };
    assert_eq!(page.events, std::slice::from_ref(&event));
    assert_eq!(page.position, event.position);

    let presence = Command::Presence(PresenceCommand {
        channel: "room:1".into(),
    });
    let Message::Presence(present) = ann.ask(presence).await else {
        panic!("presence");
    };
    assert_eq!((present.users[0].user.as_str(), present.total), ("ann", 1));

    let leave = Command::Unsubscribe(UnsubscribeCommand {
        channels: vec!["room:1".into()],
        event_types: Vec::new(),
    });
    let Message::Unsubscribed(left) = ann.ask(leave).await else {
        panic!("unsubscribed");
    };
    assert_eq!(left.channels, ["room:1"]);

    let mut resumed = follow("room:1");
    resumed.since = Some(start);
    let Message::Subscribed(subscribed) = ann.ask(subscribe(vec![resumed])).await else {
        panic!("subscribed");
    };
    assert!(subscribed.channels[0].recovered);
    assert_eq!(ann.event().await, event, "replayed");
}

#[tokio::test]
async fn binary_token_may_follow_connect() {
    let server = Server::start(Config::rooms()).await;
    let mut ann = Client::connect(&server, None, &[]).await;
    ann.refused(subscribe(vec![follow("room:1")]), "unauthenticated")
        .await;
    let token = Token::new("ann").roles(&["editor"]).sign();
    let Message::Authenticated(known) = ann
        .ask(Command::Authenticate(AuthenticateCommand { token }))
        .await
    else {
        panic!("authenticated");
    };
    assert_eq!(
        (known.user.as_str(), known.roles),
        ("ann", vec!["editor".to_owned()])
    );
    assert!(known.expires_at.is_some());
}

#[tokio::test]
async fn binary_errors_name_the_field() {
    let server = Server::start(Config::rooms()).await;
    let mut ann = Client::of(&server, "ann").await;
    let invalid = "invalid_argument";
    assert_eq!(
        ann.refused(publish("room:1", "1", "1"), invalid).await,
        "event_type"
    );
    assert_eq!(
        ann.refused(publish("room:1", "a.b", "{"), invalid).await,
        "data"
    );
    assert_eq!(
        ann.refused(subscribe(Vec::new()), invalid).await,
        "channels"
    );
    // A command that this server does not know.
    ann.tell("x", None).await;
    let unknown = ann.next().await;
    assert!(
        matches!(&unknown.message, Some(Message::Error(e)) if e.field == "command"),
        "{unknown:?}"
    );
    assert_eq!(unknown.id, "x");
    ann.ws.send(BINARY, b"\xff\xff").await;
    let garbage = ann.next().await.message;
    assert!(
        matches!(&garbage, Some(Message::Error(e)) if e.code == invalid),
        "{garbage:?}"
    );
    ann.ask(Command::Ping(PingCommand {})).await;
    ann.ws.send(TEXT, b"{\"type\":\"ping\"}").await;
    assert_eq!(
        ann.ws.close_code().await,
        1003,
        "symmetrical to binary in tidings.v1.json"
    );
}

#[tokio::test]
async fn all_dialects_receive_each_others_events() {
    let server = Server::start(Config::rooms()).await;
    let mut ann = Client::of(&server, "ann").await;
    let mut bob = server.ws().token("bob", &[]).connect().await;
    bob.subscribe("room:1").await;
    let watch = Command::Subscribe(SubscribeCommand {
        subscriptions: vec![follow("room:1")],
        presence: true,
        ..SubscribeCommand::default()
    });
    ann.ask(watch).await;
    ann.ask(publish("room:1", "a.b", "{\"from\":\"ann\"}"))
        .await;
    assert_eq!(bob.expect("a.b").await["data"], json!({"from": "ann"}));
    bob.publish("room:1", "a.c", json!({"from": "bob"})).await;
    ann.event().await;
    let event = ann.event().await;
    let data: Value = serde_json::from_slice(&event.data).unwrap();
    assert_eq!(
        (event.r#type.as_str(), data),
        ("a.c", json!({"from": "bob"}))
    );
    bob.close().await;
    loop {
        if let Some(Message::PresenceLeft(left)) = ann.next().await.message {
            assert_eq!(
                (left.channel.as_str(), left.user.as_str()),
                ("room:1", "bob")
            );
            break;
        }
    }
}

#[tokio::test]
async fn events_are_compressed_if_negotiated() {
    let server = Server::start(Config::rooms()).await;
    let offer = [("Sec-WebSocket-Extensions", "permessage-deflate")];
    let mut ann = Client::connect(&server, Some(&Token::new("ann")), &offer).await;
    ann.ask(subscribe(vec![follow("room:1")])).await;
    let data = format!("{:?}", "again and ".repeat(500));
    let mut service = server.publisher("service").await;
    for n in 0..3 {
        let text: Value = serde_json::from_str(&data).unwrap();
        service.publish("room:1", &format!("a.n{n}"), text).await;
    }
    for n in 0..3 {
        let event = ann.event().await;
        assert_eq!(event.r#type, format!("a.n{n}"));
        assert_eq!(event.data, data);
    }
    assert_eq!(ann.compressed, 3);
}

#[tokio::test]
async fn events_can_be_confirmed_in_binary() {
    let config = Config::rooms().set("telemetry.confirmations", "1.0");
    let server = Server::start(config).await;
    let mut client = Client::of(&server, "alice").await;
    client.ask(subscribe(vec![follow("room:1")])).await;
    let mut service = server.publisher("service").await;
    service.publish("room:1", "a.b", json!({"n": 1})).await;
    let reported = client.next().await;
    assert!(reported.confirm, "{reported:?}");
    let Some(Message::Event(event)) = reported.message else {
        panic!("{reported:?}");
    };
    assert_eq!(event.data, r#"{"n":1}"#);

    // A client whose clock is stuck in 2001.
    let time = |nanos| {
        let seconds = 978_307_200;
        Some(prost_types::Timestamp { seconds, nanos })
    };
    let good = ReceiveCommand {
        id: event.id,
        channel: event.channel,
        received_at: time(0),
        handled_at: time(1_000_000),
        sent_at: None,
    };
    let with = |change: fn(&mut ReceiveCommand)| {
        let mut reported = good.clone();
        change(&mut reported);
        Command::Receive(reported)
    };
    for (wrong, field) in [
        (with(|reported| reported.id = "none".to_owned()), "id"),
        (
            with(|reported| reported.channel = "not one".to_owned()),
            "channel",
        ),
        (with(|reported| reported.received_at = None), "received_at"),
        (
            with(|reported| reported.handled_at.as_mut().unwrap().nanos = -1),
            "handled_at",
        ),
        (
            with(|reported| {
                let seconds = i64::MAX;
                reported.sent_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
            }),
            "sent_at",
        ),
    ] {
        assert_eq!(client.refused(wrong, "invalid_argument").await, field);
    }
    client.tell("", Some(Command::Receive(good))).await;
    client.ask(Command::Ping(PingCommand {})).await;
    for series in [
        "tidings_confirmations_total{outcome=\"taken\"}",
        "tidings_end_to_end_latency_seconds_count",
    ] {
        assert_eq!(server.metric(series).await, 1, "{series}");
    }
}
