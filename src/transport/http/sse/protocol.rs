//! Events and messages as server-sent events.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value};

use super::resume::Ids;
use crate::error::CloseCode;
use crate::event::{Event, Timestamp, json as event_json};
use crate::hub::{ConnCtx, DialectId, Joined, Notice, Protocol, Refused};
use crate::protocol::{ReplyTo, ServerMessage};
use crate::telemetry::Transport;

/// The reconnection time of a browser, in milliseconds.
const RETRY_MS: u32 = 2_000;

/// The hub's protocol for event streams.
pub(super) struct EventStream;

impl Protocol for EventStream {
    fn transport(&self) -> Transport {
        Transport::Sse
    }

    fn dialect(&self) -> DialectId {
        DialectId::SSE
    }

    fn event(&self, event: &Event) -> Bytes {
        let json = event_json::object(event);
        let mut out = BytesMut::with_capacity(json.len() + 64);
        if let Some(position) = event.position {
            out.put_slice(format!("id: {position}\n").as_bytes());
        }
        put_data(&mut out, &json);
        out.freeze()
    }

    fn notice(&self, notice: &Notice<'_>) -> Option<Bytes> {
        let message = ServerMessage::from(notice);
        let kind = message.name();
        // `EventSource` names its own failures `error`.
        let name = if kind == "error" {
            "server_error"
        } else {
            kind
        };
        let retry = match notice {
            Notice::Reconnect { after_ms, .. } => u32::try_from(*after_ms).ok(),
            Notice::Gap { .. }
            | Notice::Renumbered { .. }
            | Notice::Presence { .. }
            | Notice::TokenExpiring { .. }
            | Notice::Failure(_)
            | Notice::Unsubscribed { .. } => None,
        };
        let members = message.members(&ReplyTo::default());
        Some(self::message(name, kind, None, retry, members))
    }

    fn heartbeat(&self, _: Timestamp) -> Bytes {
        Bytes::from_static(b": heartbeat\n\n")
    }

    fn close(&self, code: CloseCode, reason: &str) -> Bytes {
        let members = [("code", code.number().into()), ("reason", reason.into())];
        let members = members.map(|(name, value): (&str, Value)| (name.to_owned(), value));
        message("close", "close", None, None, Map::from_iter(members))
    }

    fn received(&self, _: &mut ConnCtx<'_>, input: &mut [u8]) -> usize {
        input.len()
    }
}

/// The `retry` field: the reconnection time in milliseconds.
pub(super) fn retry(after_ms: u64) -> Bytes {
    format!("retry: {after_ms}\n").into()
}

/// The first message of a stream.
pub(super) fn subscribed(ids: &Ids, joined: &[Joined], refused: &[Refused]) -> Bytes {
    let subscribed = ServerMessage::Subscribed { joined, refused };
    let (kind, members) = (subscribed.name(), subscribed.members(&ReplyTo::default()));
    let id = ids.known();
    message(kind, kind, id.as_deref(), Some(RETRY_MS), members)
}

/// A message that is not an event: the same JSON as on the WebSocket, `type` first.
fn message(
    name: &str,
    kind: &str,
    id: Option<&str>,
    retry: Option<u32>,
    members: Map<String, Value>,
) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    if let Some(retry) = retry {
        out.put_slice(format!("retry: {retry}\n").as_bytes());
    }
    out.put_slice(format!("event: {name}\n").as_bytes());
    if let Some(id) = id {
        out.put_slice(format!("id: {id}\n").as_bytes());
    }
    let mut json = format!("{{\"type\":\"{kind}\"").into_bytes();
    for (name, value) in members {
        json.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
    }
    json.push(b'}');
    put_data(&mut out, &json);
    out.freeze()
}

/// The `data` fields and the end of the message. A line break in the payload, which JSON allows between
/// values, starts another field; the browser joins them.
fn put_data(out: &mut BytesMut, json: &[u8]) {
    let mut rest = json;
    while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
        let (line, after) = rest.split_at(at);
        out.put_slice(b"data: ");
        out.put_slice(line);
        out.put_slice(b"\n");
        rest = match after {
            [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
            [] => after,
        };
    }
    out.put_slice(b"data: ");
    out.put_slice(rest);
    out.put_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::strict_json::{self, properties::odd_json};

    #[test]
    fn line_break_in_payload_starts_another_data_field() {
        let mut out = BytesMut::new();
        put_data(&mut out, b"{\n\"a\":\r\n1\r}");
        assert_eq!(out, "data: {\ndata: \"a\":\ndata: 1\ndata: }\n\n");
    }

    proptest::proptest! {
        #[test]
        fn accepted_data_is_readable_by_browsers(text in odd_json()) {
            if let Ok(value) = strict_json::value(text.as_bytes()) {
                let mut out = BytesMut::new();
                put_data(&mut out, text.as_bytes());
                let message = std::str::from_utf8(&out).unwrap();
                let lines = message.split(['\n', '\r']).filter(|line| !line.is_empty());
                let lines: Vec<&str> = lines.map(|line| line.strip_prefix("data: ").unwrap()).collect();
                assert_eq!(strict_json::value(lines.join("\n").as_bytes()), Ok(value));
            }
        }
    }

    #[test]
    fn restart_sets_the_reconnection_time() {
        let notice = Notice::Reconnect {
            after_ms: 750,
            reason: "restart",
        };
        let text = EventStream.notice(&notice).unwrap();
        let expected = "retry: 750\nevent: reconnect\n\
            data: {\"type\":\"reconnect\",\"after_ms\":750,\"reason\":\"restart\"}\n\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn error_is_named_server_error() {
        let failure = crate::error::Error::denied("no");
        let text = EventStream.notice(&Notice::Failure(&failure)).unwrap();
        assert!(text.starts_with(b"event: server_error\ndata: {\"type\":\"error\","));
    }
}
