//! Events as `CloudEvents` 1.0 in JSON (subprotocol `cloudevents.json`).

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::event::Event;

/// The `source` of events without one: the attribute must not be empty
/// (`CloudEvents` 1.0 §3.1).
const NO_SOURCE: &str = "tidings";

/// Attributes that the server sets: a header can't have their names.
const RESERVED: [&str; 6] = [
    "channel",
    "data",
    "epoch",
    "offset",
    "traceparent",
    "tracestate",
];

/// An event in the JSON event format; `data` is copied byte for byte. The channel and the offset
/// are extension attributes.
#[must_use]
pub(super) fn cloud_event(event: &Event) -> Bytes {
    let mut attributes = Map::new();
    let mut add = |name: &str, value: Value| {
        attributes.insert(name.to_owned(), value);
    };
    add("specversion", "1.0".into());
    add("id", event.id.to_string().into());
    add(
        "source",
        event.source.as_deref().unwrap_or(NO_SOURCE).into(),
    );
    add("type", event.event_type.as_str().into());
    add("time", event.time.to_rfc3339().into());
    add("datacontenttype", event.payload.content_type().into());
    if let Some(channel) = &event.channel {
        add("channel", channel.as_str().into());
    }
    if let Some(position) = event.position {
        // Integer attributes have 32 bits (§4.1), offsets 64: a string can represent them all.
        add("offset", position.offset.to_string().into());
        add("epoch", position.epoch.to_string().into());
    }
    if let Some(trace) = &event.trace {
        add("traceparent", trace.to_string().into());
    }
    for (name, value) in event.headers.iter() {
        // Names of attributes are lower-case letters and digits (§3).
        if name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && !RESERVED.contains(&name)
        {
            attributes.entry(name).or_insert_with(|| value.into());
        }
    }
    let mut text = Value::Object(attributes).to_string().into_bytes();
    text.pop();
    if event.payload.is_json() {
        text.extend_from_slice(b",\"data\":");
        text.extend_from_slice(event.payload.data());
    } else {
        use base64::Engine;
        let encoded = base64::engine::general_purpose::STANDARD.encode(event.payload.data());
        text.extend_from_slice(format!(",\"data_base64\":\"{encoded}\"").as_bytes());
    }
    text.push(b'}');
    Bytes::from(text)
}
