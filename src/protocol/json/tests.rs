use serde_json::{Value, json};

use super::*;
use crate::event::json::Member;
use crate::event::{
    AcceptedAt, ChannelName, Draft, Epoch, EventType, Headers, Payload, Position, Timestamp,
    TraceContext,
};
use crate::hub::{Joined, Notice, Refused};
use crate::protocol::custom::Template;
use crate::protocol::custom::{ControlMember, Refusals};
use crate::protocol::request::GivenId;

fn event_of(data: &str, content_type: &str) -> Event {
    let pairs = [("region".to_owned(), "eu".to_owned())];
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let draft = Draft {
        id: uuid::Uuid::nil(),
        channel: Some(ChannelName::new("project:42").unwrap()),
        event_type: EventType::new("project.updated").unwrap(),
        payload: Payload::new(data.to_owned().into(), content_type).unwrap(),
        headers: Headers::new(pairs).unwrap(),
        key: None,
        idempotency_key: None,
        audience: None,
        source: None,
        time: Timestamp::from_micros(0),
        trace: TraceContext::parse(trace, "a=b"),
        accepted: AcceptedAt::now(),
        expires: None,
        conditions: None,
    };
    let epoch: Epoch = "d1fcce7d744e59b9".parse().unwrap();
    Event::new(draft, Some(Position { epoch, offset: 7 }))
}

pub(super) fn event(data: &str) -> Event {
    event_of(data, "")
}

pub(super) fn with_events(data: &str, members: &[Member]) -> JsonCodec {
    let mut definition = Definition::default();
    definition.event.data = data.to_owned();
    definition.event.members = members.to_vec();
    JsonCodec::new(Arc::new(definition))
}

pub(super) fn written(codec: &JsonCodec, event: &Event) -> String {
    let mut out = BytesMut::new();
    codec.encode_event(&mut out, event);
    String::from_utf8(out.to_vec()).unwrap()
}

fn message(
    codec: &JsonCodec,
    reply_to: &ReplyTo,
    message: &ServerMessage<'_>,
) -> Vec<(String, Value, Option<u64>)> {
    let mut all = Vec::new();
    codec.encode(reply_to, message, &mut |message| {
        let body = serde_json::from_slice(message.body).unwrap();
        all.push((message.name.to_owned(), body, message.token));
    });
    all
}

#[test]
fn default_definition_equals_tidings() {
    let event = event(r#"{"a": 1}"#);
    let by_definition = Envelope::new(&Definition::default().event);
    let mut out = BytesMut::new();
    by_definition.write(&mut out, &event);
    let one: Value = serde_json::from_slice(&out).unwrap();
    let other: Value = serde_json::from_str(&written(&JsonCodec::tidings(), &event)).unwrap();
    assert_eq!(one, other);
}

#[test]
fn data_keeps_its_bytes_under_the_configured_name() {
    let codec = with_events("payload", &[Member::Id, Member::Type]);
    let expected = "{\"id\":\"00000000-0000-0000-0000-000000000000\",\
        \"type\":\"project.updated\",\"payload\":{ \"b\":1.50, \"a\" :2}}";
    assert_eq!(written(&codec, &event("{ \"b\":1.50, \"a\" :2}")), expected);
    let bytes = event_of("hello", "text/plain");
    let expected = "{\"type\":\"project.updated\",\"data_base64\":\"aGVsbG8=\",\
        \"content_type\":\"text/plain\"}";
    assert_eq!(
        written(&with_events("payload", &[Member::Type]), &bytes),
        expected
    );
}

#[test]
fn flat_data_stands_beside_the_envelope() {
    let codec = with_events("", &[Member::Type, Member::Offset]);
    let flat = |data: &str| written(&codec, &event(data));
    assert_eq!(
        flat(" { \"b\":1.50, \"a\" :2 } "),
        "{\"type\":\"project.updated\",\"offset\":7, \"b\":1.50, \"a\" :2 }"
    );
    assert_eq!(flat("{ }"), "{\"type\":\"project.updated\",\"offset\":7}");
    assert_eq!(
        flat("[1]"),
        "{\"type\":\"project.updated\",\"offset\":7,\"data\":[1]}"
    );
    let only_data = with_events("", &[]);
    assert_eq!(written(&only_data, &event("{\"a\":1}")), "{\"a\":1}");
    assert_eq!(written(&only_data, &event("{}")), "{}");
}

#[test]
fn flat_data_members_override_all_but_type() {
    let codec = with_events("", &Member::ALL);
    let data = r#"{"type":"x","id":5,"timestamp":"then","tracestate":"t","z":{"type":1}}"#;
    let text = written(&codec, &event(data));
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        value,
        json!({
            "type": "project.updated", "channel": "project:42", "offset": 7,
            "headers": {"region": "eu"}, "id": 5, "timestamp": "then", "tracestate": "t",
            "z": {"type": 1},
        })
    );
    let without_type = with_events("", &[Member::Id]);
    assert_eq!(
        written(&without_type, &event(r#"{"type":"x","id":1}"#)),
        r#"{"type":"x","id":1}"#
    );
}

#[test]
fn messages_have_their_configured_names() {
    let mut definition = Definition::default();
    let names = &mut definition.control.names;
    names.insert("pong".into(), vec!["a".into(), "b".into()]);
    names.insert("heartbeat".into(), Vec::new());
    definition.control.members = vec![ControlMember::Type, ControlMember::Timestamp];
    let codec = JsonCodec::new(Arc::new(definition));
    let reply_to = ReplyTo {
        id: RequestId::Given(GivenId::Text("7".into())),
        echoed: Vec::new(),
    };
    let then = Timestamp::from_micros(0);
    let pongs = message(&codec, &reply_to, &ServerMessage::Pong(then));
    let body = |name| json!({"type": name, "id": "7", "timestamp": then.to_rfc3339()});
    assert_eq!(
        pongs,
        [
            ("a".to_owned(), body("a"), None),
            ("b".to_owned(), body("b"), None)
        ]
    );
    assert_eq!(
        message(&codec, &reply_to, &ServerMessage::Heartbeat(then)),
        []
    );
    let notice = Notice::Presence {
        channel: "a",
        user: "ann",
        joined: true,
    };
    let sent = message(&codec, &ReplyTo::default(), &ServerMessage::from(&notice));
    let (name, body, _) = sent.first().unwrap();
    assert_eq!(name, "presence_joined");
    assert!(body.get("timestamp").is_some(), "{body}");
}

#[test]
fn nested_body_contains_echoed_members() {
    let mut definition = Definition::default();
    definition.control.data = "data".into();
    let codec = JsonCodec::new(Arc::new(definition));
    let echoed = serde_json::value::to_raw_value("s1").unwrap();
    let reply_to = ReplyTo {
        id: RequestId::None,
        echoed: vec![("session_id".into(), echoed)],
    };
    let left = ["session:s1".to_owned()];
    let unsubscribed = ServerMessage::Unsubscribed {
        channels: &left,
        event_types: &[],
    };
    let body = json!({
        "type": "unsubscribed",
        "data": {"session_id": "s1", "channels": ["session:s1"], "event_types": []},
    });
    assert_eq!(
        message(&codec, &reply_to, &unsubscribed),
        [("unsubscribed".to_owned(), body, None)]
    );
}

fn outcome() -> ([Joined; 1], [Refused; 1]) {
    let joined = Joined {
        channel: "a:1".into(),
        position: None,
        recovered: false,
        replayed: 0,
        cursor: None,
    };
    let refused = Refused {
        channel: "b:1".into(),
        error: Error::denied("no"),
    };
    ([joined], [refused])
}

#[test]
fn refusals_can_be_separate_errors() {
    let mut definition = Definition::default();
    definition.control.refusals = Refusals::Error;
    let codec = JsonCodec::new(Arc::new(definition));
    let (joined, refused) = outcome();
    let both = ServerMessage::Subscribed {
        joined: &joined,
        refused: &refused,
    };
    let sent = message(&codec, &ReplyTo::default(), &both);
    let [(_, subscribed, _), (_, error, _)] = sent.as_slice() else {
        panic!("{sent:?}");
    };
    assert_eq!(subscribed.get("errors"), Some(&json!([])));
    let expected = json!({
        "type": "error", "channel": "b:1", "code": "permission_denied",
        "message": refused[0].error.message(),
    });
    assert_eq!(*error, expected);
    let none = ServerMessage::Subscribed {
        joined: &[],
        refused: &refused,
    };
    assert_eq!(
        message(&codec, &ReplyTo::default(), &none).len(),
        1,
        "only the error"
    );
    let reply_to = ReplyTo {
        id: RequestId::Token(3),
        echoed: Vec::new(),
    };
    let other = Refused {
        channel: "c:1".into(),
        error: Error::invalid("no"),
    };
    let [first] = refused;
    let refused = [first, other];
    let none = ServerMessage::Subscribed {
        joined: &[],
        refused: &refused,
    };
    let sent = message(&codec, &reply_to, &none);
    let [(_, answer, Some(3))] = sent.as_slice() else {
        panic!("{sent:?}");
    };
    let first = json!({"channel": "b:1", "code": "permission_denied",
        "message": refused[0].error.message()});
    let second = json!({"channel": "c:1", "code": "invalid_argument", "message": "no"});
    let expected = json!({"type": "error", "error": first, "errors": [first, second]});
    assert_eq!(*answer, expected);
}

#[test]
fn unknown_command_error_lists_each_name_once() {
    let mut definition = Definition::default();
    for name in ["subscribe", "enter"] {
        definition.commands.push(CommandWords {
            name: name.into(),
            does: Kind::Subscribe,
            channels: None,
            members: Vec::new(),
            echo: Vec::new(),
        });
    }
    let codec = JsonCodec::new(Arc::new(definition));
    let unread = codec.decode(&Incoming::Text(r#"{"type":"sing"}"#)).1;
    let error = unread.unwrap_err().error;
    assert_eq!(
        error.message(),
        "type: expected subscribe, enter, authenticate, register, unsubscribe, publish, history, \
         presence, ping, heartbeat_response, receive, ack or rpc, not \"sing\""
    );
}

#[test]
fn numbered_request_gets_one_acknowledgement() {
    let mut definition = Definition::default();
    definition.control.names.insert("pong".into(), Vec::new());
    let codec = JsonCodec::new(Arc::new(definition));
    let reply_to = ReplyTo {
        id: RequestId::Token(0),
        echoed: Vec::new(),
    };
    let sent = message(
        &codec,
        &reply_to,
        &ServerMessage::Pong(Timestamp::from_micros(0)),
    );
    assert_eq!(sent.len(), 1);
    let error = Error::denied("no");
    let sent = message(&codec, &reply_to, &ServerMessage::Error(&error));
    let body = sent
        .first()
        .map(|(_, body, token)| (body.pointer("/error/code"), token));
    assert_eq!(body, Some((Some(&json!("permission_denied")), &Some(0))));
}

fn sessions() -> JsonCodec {
    let command = CommandWords {
        name: "subscribe_session".into(),
        does: Kind::Subscribe,
        channels: Some(Template::parse("session:{session_id}").unwrap()),
        members: vec![("only".into(), "event_types".into())],
        echo: vec!["session_id".into()],
    };
    let say = CommandWords {
        name: "say".into(),
        does: Kind::Publish,
        channels: Some(Template::parse("room:{room}").unwrap()),
        members: vec![("kind".into(), "event_type".into())],
        echo: Vec::new(),
    };
    let definition = Definition {
        commands: vec![command, say],
        ..Definition::default()
    };
    JsonCodec::new(Arc::new(definition))
}

#[test]
fn custom_command_fills_its_channel_template() {
    let codec = sessions();
    for text in [
        r#"{"type":"subscribe_session","session_id":["x",7],"only":["a.b"],"id":1}"#,
        r#"{"type":"subscribe_session","data":{"session_id":["x",7],"only":["a.b"]},"id":1}"#,
    ] {
        let incoming = Incoming::Text(text);
        let Ok(ClientCommand::Subscribe(command)) = codec.decode(&incoming).1 else {
            panic!("{text}");
        };
        let wanted = command.wanted();
        let channels: Vec<&str> = wanted.channels.iter().map(|w| w.channel.as_str()).collect();
        assert_eq!(channels, ["session:x", "session:7"]);
        assert_eq!(wanted.event_types, ["a.b"]);
        let reply_to = codec.reply_to(&incoming);
        assert_eq!(reply_to.id, RequestId::Given(GivenId::Number("1".into())));
        let echoed = reply_to
            .echoed
            .first()
            .map(|(name, value)| (&**name, value.get()));
        assert_eq!(echoed, Some(("session_id", r#"["x",7]"#)));
    }
    let wrong = |text| codec.decode(&Incoming::Text(text)).1.unwrap_err();
    let missing = wrong(r#"{"type":"subscribe_session"}"#);
    assert_eq!(missing.error.field_name(), Some("session_id"));
    assert!(missing.guarded);
    let none = wrong(r#"{"type":"subscribe_session","session_id":[],"only":["a.b"]}"#);
    assert_eq!(none.error.field_name(), Some("session_id"), "not `global`");
    let theirs = wrong(r#"{"type":"subscribe_session","session_id":"x","only":5}"#);
    assert_eq!(
        theirs.error.field_name(),
        Some("only"),
        "the name that the client knows"
    );
    // The built-in members are there too.
    let ours = codec
        .decode(&Incoming::Text(r#"{"type":"subscribe","channels":["a"]}"#))
        .1;
    assert!(matches!(ours, Ok(ClientCommand::Subscribe(_))));
}

#[test]
fn custom_publish_takes_its_payload_from_data() {
    let codec = sessions();
    for text in [
        r#"{"type":"say","room":"x","kind":"a.b","data":{"room":"y"}}"#,
        r#"{"type":"say","data":{"room":"x","kind":"a.b","data":{"room":"y"}}}"#,
    ] {
        let Ok(ClientCommand::Publish(publish)) = codec.decode(&Incoming::Text(text)).1 else {
            panic!("{text}");
        };
        assert_eq!(
            publish
                .0
                .channels
                .first()
                .map(ToString::to_string)
                .as_deref(),
            Some("room:x")
        );
        assert_eq!(publish.0.payload.data().as_ref(), br#"{"room":"y"}"#);
    }
    let two = r#"{"type":"say","room":["x","y"],"kind":"a.b","data":1}"#;
    let error = codec.decode(&Incoming::Text(two)).1.unwrap_err().error;
    assert_eq!(error.field_name(), Some("room"));
}

#[test]
fn name_beside_the_argument_selects_the_command() {
    let codec = sessions();
    let incoming = Incoming::Named {
        name: "subscribe_session",
        argument: r#"{"session_id":"x","type":"ping"}"#,
        token: Some(9),
    };
    assert!(matches!(
        codec.decode(&incoming).1,
        Ok(ClientCommand::Subscribe(_))
    ));
    assert_eq!(codec.reply_to(&incoming).id, RequestId::Token(9));
}
