//! An event as a JSON object, as every transport shows it.

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

/// About how many bytes the JSON of an event takes; for sizing a buffer.
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

/// Appends an event as a JSON object: `type` first, `data` exactly as it was published. Names of
/// channels, types and ids need no escaping: what they may hold is plain.
pub fn write(out: &mut BytesMut, event: &Event) {
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
