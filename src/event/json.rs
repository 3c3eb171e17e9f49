//! The JSON representation of an event, shared by all transports.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

use super::Event;

/// An event as a JSON object.
#[must_use]
pub fn object(event: &Event) -> Bytes {
    let mut out = BytesMut::with_capacity(size(event));
    write(&mut out, event);
    out.freeze()
}

/// An estimate of the size of an event's JSON, in bytes, for sizing a buffer.
#[must_use]
pub fn size(event: &Event) -> usize {
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

/// A member of an event's envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Member {
    /// `type`.
    Type,
    /// `channel`, if the event has one.
    Channel,
    /// `id`.
    Id,
    /// `timestamp`.
    Timestamp,
    /// `offset`, if the channel keeps history.
    Offset,
    /// `headers`, if there are any.
    Headers,
    /// `traceparent` and `tracestate`, if the event is traced.
    Traceparent,
    /// `position`, the channel with its epoch and offset, if the channel keeps history. Not in the
    /// dialect `tidings`, whose clients know the channel's epoch from `subscribed`.
    Position,
}

impl Member {
    /// Every member in the order of the dialect `tidings`. The data precedes the last one.
    pub const ALL: [Member; 7] = [
        Member::Type,
        Member::Channel,
        Member::Id,
        Member::Timestamp,
        Member::Offset,
        Member::Headers,
        Member::Traceparent,
    ];

    /// Every member that a custom dialect may have.
    pub const KNOWN: [Member; 8] = [
        Member::Type,
        Member::Channel,
        Member::Id,
        Member::Timestamp,
        Member::Offset,
        Member::Headers,
        Member::Traceparent,
        Member::Position,
    ];

    /// The member's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Member::Type => "type",
            Member::Channel => "channel",
            Member::Id => "id",
            Member::Timestamp => "timestamp",
            Member::Offset => "offset",
            Member::Headers => "headers",
            Member::Traceparent => "traceparent",
            Member::Position => "position",
        }
    }
}

/// Appends an event as a JSON object: `type` first, `data` exactly as published.
pub fn write(out: &mut BytesMut, event: &Event) {
    let start = out.len();
    for member in Member::ALL {
        if member == Member::Traceparent {
            put_data(out, event, b",\"data\":");
            put_content_type(out, event);
        }
        put_member(out, event, member);
    }
    close(out, start);
}

/// Appends `,"name":value` if the event has the member. Channel names, types and ids need no
/// escaping, because their character sets contain nothing to escape.
pub fn put_member(out: &mut BytesMut, event: &Event, member: Member) {
    match member {
        Member::Type => put_plain(out, b",\"type\":\"", event.event_type.as_str()),
        Member::Channel => {
            if let Some(channel) = &event.channel {
                put_plain(out, b",\"channel\":\"", channel.as_str());
            }
        }
        Member::Id => {
            let mut id = uuid::Uuid::encode_buffer();
            let id = event.id.hyphenated().encode_lower(&mut id);
            put_plain(out, b",\"id\":\"", id);
        }
        Member::Timestamp => put_plain(out, b",\"timestamp\":\"", &event.time.to_rfc3339()),
        Member::Offset => {
            if let Some(position) = event.position {
                out.put_slice(b",\"offset\":");
                out.put_slice(position.offset.to_string().as_bytes());
            }
        }
        Member::Headers => put_headers(out, event),
        Member::Position => {
            if let (Some(channel), Some(position)) = (&event.channel, event.position) {
                put_plain(out, b",\"position\":{\"channel\":\"", channel.as_str());
                put_plain(out, b",\"epoch\":\"", &position.epoch.to_string());
                out.put_slice(b",\"offset\":");
                out.put_slice(position.offset.to_string().as_bytes());
                out.put_u8(b'}');
            }
        }
        Member::Traceparent => {
            if let Some(trace) = &event.trace {
                put_plain(out, b",\"traceparent\":\"", &trace.to_string());
                if let Some(state) = &trace.state {
                    out.put_slice(b",\"tracestate\":");
                    put_text(out, state);
                }
            }
        }
    }
}

/// Appends the data after `name`, which is a comma, the member's name and a colon. Data that is not
/// JSON is appended as `data_base64`.
pub fn put_data(out: &mut BytesMut, event: &Event, name: &[u8]) {
    if event.payload.is_json() {
        out.put_slice(name);
        out.put_slice(event.payload.data());
    } else {
        put_plain(
            out,
            b",\"data_base64\":\"",
            &BASE64.encode(event.payload.data()),
        );
    }
}

/// Appends `content_type`, unless it is plain JSON.
pub fn put_content_type(out: &mut BytesMut, event: &Event) {
    if event.payload.explicit_content_type().is_some() {
        out.put_slice(b",\"content_type\":");
        put_text(out, event.payload.content_type());
    }
}

/// Wraps the members appended from `start` on, each preceded by a comma, into one object.
pub fn close(out: &mut BytesMut, start: usize) {
    match out.get_mut(start) {
        Some(comma) => *comma = b'{',
        None => out.put_u8(b'{'),
    }
    out.put_u8(b'}');
}

/// Appends a string as JSON.
pub fn put_text(out: &mut BytesMut, text: &str) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        put_plain(out, b"\"", text);
    } else {
        put_value(out, &Value::from(text));
    }
}

/// Appends a value as JSON.
pub fn put_value(out: &mut BytesMut, value: &Value) {
    let before = out.len();
    if serde_json::to_writer(out.writer(), value).is_err() {
        // Cannot fail: the value is valid, and writing to memory succeeds.
        out.truncate(before);
    }
}

fn put_plain(out: &mut BytesMut, before: &[u8], text: &str) {
    out.put_slice(before);
    out.put_slice(text.as_bytes());
    out.put_u8(b'"');
}

fn put_headers(out: &mut BytesMut, event: &Event) {
    if event.headers.is_empty() {
        return;
    }
    out.put_slice(b",\"headers\":{");
    for (at, (name, value)) in event.headers.iter().enumerate() {
        if at > 0 {
            out.put_slice(b",");
        }
        put_text(out, name);
        out.put_slice(b":");
        put_text(out, value);
    }
    out.put_slice(b"}");
}
