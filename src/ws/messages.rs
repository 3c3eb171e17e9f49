//! What the server says in the dialect `tidings`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value, json};

use super::frame::{self, Opcode};
use crate::bus::{Joined, Notice, Refused};
use crate::error::Error;
use crate::event::{Event, Timestamp};

/// An event as a text frame.
#[must_use]
pub(super) fn event_frame(event: &Event) -> Bytes {
    let mut out = frame::reserve(event_size(event));
    write_event(&mut out, event);
    frame::seal(out, Opcode::Text)
}

/// An event as a JSON object.
#[must_use]
pub(super) fn event_json(event: &Event) -> Bytes {
    let mut out = BytesMut::with_capacity(event_size(event));
    write_event(&mut out, event);
    out.freeze()
}

/// About how long the JSON of an event is; the buffer grows where the guess was short.
fn event_size(event: &Event) -> usize {
    let data = event.payload.data().len();
    let data = if event.payload.is_json() {
        data
    } else {
        data.div_ceil(3) * 4 + 64
    };
    let headers: usize = event
        .headers
        .iter()
        .map(|(n, v)| n.len() + v.len() + 8)
        .sum();
    let names =
        event.event_type.as_str().len() + event.channel.as_ref().map_or(0, |c| c.as_str().len());
    data + headers + names + 256
}

/// Names of channels, types and ids need no escaping: what they may hold is plain.
fn write_event(out: &mut BytesMut, event: &Event) {
    out.put_slice(b"{\"type\":\"");
    out.put_slice(event.event_type.as_str().as_bytes());
    if let Some(channel) = &event.channel {
        out.put_slice(b"\",\"channel\":\"");
        out.put_slice(channel.as_str().as_bytes());
    }
    out.put_slice(b"\",\"id\":\"");
    let mut id = uuid::Uuid::encode_buffer();
    out.put_slice(event.id.hyphenated().encode_lower(&mut id).as_bytes());
    out.put_slice(b"\",\"timestamp\":\"");
    out.put_slice(event.time.to_rfc3339().as_bytes());
    out.put_slice(b"\"");
    if let Some(position) = event.position {
        out.put_slice(b",\"offset\":");
        out.put_slice(position.offset.to_string().as_bytes());
    }
    write_headers(out, event);
    if event.payload.is_json() {
        out.put_slice(b",\"data\":");
        out.put_slice(event.payload.data());
    } else {
        out.put_slice(b",\"data_base64\":\"");
        out.put_slice(BASE64.encode(event.payload.data()).as_bytes());
        out.put_slice(b"\"");
    }
    if event.payload.explicit_content_type().is_some() {
        out.put_slice(b",\"content_type\":");
        write_text(out, event.payload.content_type());
    }
    if let Some(trace) = &event.trace {
        out.put_slice(b",\"traceparent\":\"");
        out.put_slice(trace.to_string().as_bytes());
        out.put_slice(b"\"");
        if let Some(state) = &trace.state {
            out.put_slice(b",\"tracestate\":");
            write_text(out, state);
        }
    }
    out.put_slice(b"}");
}

fn write_headers(out: &mut BytesMut, event: &Event) {
    if event.headers.is_empty() {
        return;
    }
    out.put_slice(b",\"headers\":{");
    for (at, (name, value)) in event.headers.iter().enumerate() {
        if at > 0 {
            out.put_slice(b",");
        }
        write_text(out, name);
        out.put_slice(b":");
        write_text(out, value);
    }
    out.put_slice(b"}");
}

fn write_text(out: &mut BytesMut, text: &str) {
    out.put_slice(Value::from(text).to_string().as_bytes());
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
    let mut body = Map::new();
    body.insert("code".into(), error.code().as_str().into());
    body.insert("message".into(), error.message().into());
    if let Some(field) = error.field_name() {
        body.insert(
            "details".into(),
            json!({ "field": field, "expected": error.description() }),
        );
    }
    if let Some(wait) = error.retry_delay() {
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        body.insert("retry_after_ms".into(), millis.into());
    }
    reply("error", id, Value::Object(body))
}

/// A `subscribed` message.
#[must_use]
pub(super) fn subscribed(id: Option<&Value>, joined: &[Joined], refused: &[Refused]) -> Bytes {
    let channels = joined.iter().map(|joined| {
        let mut entry = json!({
            "channel": joined.channel,
            "recovered": joined.recovered,
            "replayed": joined.replayed,
        });
        if let (Some(position), Some(entry)) = (joined.position, entry.as_object_mut()) {
            entry.insert("epoch".into(), position.epoch.to_string().into());
            entry.insert("offset".into(), position.offset.into());
        }
        entry
    });
    let errors = refused.iter().map(|refused| {
        json!({
            "channel": refused.channel,
            "code": refused.error.code().as_str(),
            "message": refused.error.message(),
        })
    });
    let body =
        json!({ "channels": channels.collect::<Vec<_>>(), "errors": errors.collect::<Vec<_>>() });
    reply("subscribed", id, body)
}

/// What the bus says by itself.
#[must_use]
pub(super) fn notice(notice: &Notice<'_>) -> Bytes {
    match notice {
        Notice::Gap {
            channel,
            from,
            to,
            reason,
        } => reply(
            "gap",
            None,
            json!({ "channel": channel, "from": from, "to": to, "reason": reason }),
        ),
        Notice::Presence {
            channel,
            user,
            joined,
        } => {
            let kind = if *joined {
                "presence_joined"
            } else {
                "presence_left"
            };
            reply(kind, None, json!({ "channel": channel, "user": user }))
        }
        Notice::TokenExpiring { expires_at } => reply(
            "token_expiring",
            None,
            json!({ "expires_at": expires_at.to_rfc3339() }),
        ),
        Notice::Reconnect { after_ms, reason } => reply(
            "reconnect",
            None,
            json!({ "after_ms": after_ms, "reason": reason }),
        ),
        Notice::Failure(failure) => error(None, failure),
        Notice::Unsubscribed { channel, error } => {
            let (code, message) = (error.code().as_str(), error.message());
            let reason = json!({ "code": code, "message": message });
            reply(
                "unsubscribed",
                None,
                json!({ "channels": [channel], "reason": reason }),
            )
        }
    }
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
    text.push_str(&format!("{{\"type\":\"{kind}\""));
    if let Some(id) = id {
        text.push_str(",\"id\":");
        text.push_str(&id.to_string());
    }
    for (name, value) in head.as_object().into_iter().flatten() {
        text.push_str(&format!(",\"{name}\":{value}"));
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
