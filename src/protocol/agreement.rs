//! Property: whatever a publish accepts is readable for filters, the catalog and every codec.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::Value;

use super::{Definition, Encoder as _, EventWords, JsonCodec, ProtobufCodec};
use crate::catalog::{Catalog, KnownType, Mode, Schema};
use crate::event::strict_json::{self, properties::odd_json};
use crate::event::{AcceptedAt, ChannelName, Draft, Event, EventType, Headers, Payload, Timestamp};
use crate::filter::expression::Steps;
use crate::filter::{EventFilter, EventView};
use crate::proto;

fn event(payload: Payload) -> Event {
    let now = Timestamp::from_micros(0);
    let draft = Draft {
        id: uuid::Uuid::nil(),
        channel: Some(ChannelName::new("room:1").unwrap()),
        event_type: EventType::new("a.b").unwrap(),
        payload,
        headers: Headers::default(),
        key: None,
        idempotency_key: None,
        audience: None,
        source: None,
        time: now,
        trace: None,
        accepted: AcceptedAt::now(),
    };
    Event::new(draft, None)
}

/// A catalog whose only schema accepts every readable value.
fn catalog() -> Catalog {
    let known = KnownType {
        name: EventType::new("a.b").unwrap(),
        namespace: String::new(),
        broadcast: false,
        control: false,
        description: String::new(),
        roles: Vec::new(),
        conflate_key: Some("data.a".into()),
        schema: Some(Schema::compile("true").unwrap()),
        example: None,
    };
    Catalog::new(Mode::Strict, [known])
}

fn filter(source: &str) -> Arc<EventFilter> {
    EventFilter::new([], Some(source)).unwrap().unwrap()
}

/// The data within an encoded event of a dialect, as text.
fn data_in(text: &[u8]) -> String {
    let members = strict_json::members(text).unwrap();
    members["data"].get().to_owned()
}

fn every_reader_takes(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(payload) = Payload::new(Bytes::copy_from_slice(bytes), "") else {
        prop_assert!(strict_json::value(bytes).is_err());
        return Ok(());
    };
    let value = strict_json::value(bytes).unwrap();
    let catalog = catalog();
    let kind = EventType::new("a.b").unwrap();
    prop_assert!(catalog.check_payload(&kind, &payload).is_ok());
    prop_assert_eq!(catalog.validate("a.b", bytes).unwrap(), []);
    let key = catalog.conflation_key(&kind, &payload);
    let is_key =
        |value: &Value| value.is_number() || value.as_str().is_some_and(|text| text.len() <= 255);
    if key.is_some() {
        prop_assert!(value.get("a").is_some_and(is_key));
    }

    let event = event(payload);
    let view = EventView::new(&event);
    prop_assert_eq!(filter("data == null").matches(&view), value.is_null());
    if let Some(a) = value.get("a").and_then(Value::as_str) {
        prop_assert_eq!(
            filter("data.a != ''").ask(&view, &Steps::new(u64::MAX)),
            Ok(!a.is_empty())
        );
    }

    let stands = std::str::from_utf8(bytes).unwrap().trim_ascii();
    let flat = Definition {
        event: EventWords {
            data: String::new(),
            ..EventWords::default()
        },
        ..Definition::default()
    };
    for (codec, named) in [
        (JsonCodec::tidings(), true),
        (JsonCodec::cloud_events(), true),
        (JsonCodec::new(Arc::new(flat)), !value.is_object()),
    ] {
        let mut text = BytesMut::new();
        codec.encode_event(&mut text, &event);
        if named {
            prop_assert_eq!(data_in(&text), stands);
        } else {
            prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok());
        }
    }
    let mut message = BytesMut::new();
    ProtobufCodec.encode_event(&mut message, &event);
    let message = proto::ServerMessage::decode(message.freeze()).unwrap();
    let Some(proto::server_message::Message::Event(sent)) = message.message else {
        return Err(TestCaseError::fail("no event"));
    };
    prop_assert_eq!(sent.data.as_ref(), bytes);
    Ok(())
}

proptest! {
    #[test]
    fn accepted_json_is_readable_everywhere(text in odd_json()) {
        every_reader_takes(text.as_bytes())?;
    }

    #[test]
    fn accepted_bytes_are_readable_everywhere(bytes in prop::collection::vec(any::<u8>(), 0..32)) {
        every_reader_takes(&bytes)?;
    }
}
