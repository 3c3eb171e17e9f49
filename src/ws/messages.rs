//! What the server says in the dialect `tidings`.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};

use super::frame::{self, Opcode};
use crate::bus::{Joined, Notice, Refused, wording};
use crate::error::Error;
use crate::event::{Event, Timestamp, json};

/// An event as a text frame.
#[must_use]
pub(super) fn event_frame(event: &Event) -> Bytes {
    let mut out = frame::reserve(json::size(event));
    json::write(&mut out, event);
    frame::seal(out, Opcode::Text)
}

/// An event as a JSON object.
#[must_use]
pub(super) fn event_json(event: &Event) -> Bytes {
    json::object(event)
}

/// An event as a JSON object, with the question to confirm that it has arrived.
#[must_use]
pub(super) fn event_to_confirm(event: &Event) -> Bytes {
    let mut out = BytesMut::with_capacity(json::size(event));
    json::write(&mut out, event);
    out.truncate(out.len().saturating_sub(1));
    out.put_slice(b",\"confirm\":true}");
    out.freeze()
}

/// A reply as a text frame: its type first, then the request's id, then the rest.
#[must_use]
pub(super) fn reply(kind: &str, id: Option<&Value>, body: Value) -> Bytes {
    let mut text = format!("{{\"type\":\"{kind}\"");
    if let Some(id) = id {
        text.push_str(",\"id\":");
        text.push_str(&id.to_string());
    }
    if let Value::Object(members) = body {
        for (name, value) in members {
            text.push(',');
            text.push_str(&Value::from(name).to_string());
            text.push(':');
            text.push_str(&value.to_string());
        }
    }
    text.push('}');
    frame::text(text.as_bytes())
}

/// An `error` message.
#[must_use]
pub(super) fn error(id: Option<&Value>, error: &Error) -> Bytes {
    reply("error", id, wording::error(error))
}

/// A `subscribed` message.
#[must_use]
pub(super) fn subscribed(id: Option<&Value>, joined: &[Joined], refused: &[Refused]) -> Bytes {
    reply("subscribed", id, wording::subscribed(joined, refused))
}

/// What the bus says by itself.
#[must_use]
pub(super) fn notice(notice: &Notice<'_>) -> Bytes {
    let (kind, body) = wording::notice(notice);
    reply(kind, None, body)
}

/// A `heartbeat` message behind a protocol Ping, whose payload comes back with the Pong.
#[must_use]
pub(super) fn heartbeat(now: Timestamp, clock_us: u64) -> Bytes {
    let ping = frame::ping(&clock_us.to_be_bytes());
    let message = reply("heartbeat", None, json!({ "timestamp": now.to_rfc3339() }));
    let mut both = BytesMut::with_capacity(ping.len() + message.len());
    both.put(ping);
    both.put(message);
    both.freeze()
}

/// A reply that ends with a list of ready events.
#[must_use]
pub(super) fn with_events(
    kind: &str,
    id: Option<&Value>,
    head: &Value,
    events: &[Box<serde_json::value::RawValue>],
) -> Bytes {
    let len: usize = events.iter().map(|event| event.get().len() + 1).sum();
    let mut text = String::with_capacity(len + 256);
    text.push_str("{\"type\":\"");
    text.push_str(kind);
    text.push('"');
    if let Some(id) = id {
        text.push_str(",\"id\":");
        text.push_str(&id.to_string());
    }
    for (name, value) in head.as_object().into_iter().flatten() {
        text.push_str(",\"");
        text.push_str(name);
        text.push_str("\":");
        text.push_str(&value.to_string());
    }
    text.push_str(",\"events\":[");
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(event.get());
    }
    text.push_str("]}");
    frame::text(text.as_bytes())
}
