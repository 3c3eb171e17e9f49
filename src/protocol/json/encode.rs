//! Replies and notices in JSON.

use bytes::{BufMut, BytesMut};
use serde_json::{Map, Value};

use super::JsonCodec;
use crate::error::Error;
use crate::event::{Event, Timestamp, json};
use crate::hub::{Joined, Refused};
use crate::protocol::codec::{Encoded, Encoder as _};
use crate::protocol::custom::{ControlMember, Refusals};
use crate::protocol::request::{GivenId, ReplyTo, RequestId};
use crate::protocol::server_message::ServerMessage;

/// The content of a message, without its name.
struct Body<'a> {
    members: Map<String, Value>,
    /// The events of a page of history.
    events: &'a [std::sync::Arc<Event>],
    /// The result of a call, JSON, which is passed on byte for byte.
    result: Option<&'a [u8]>,
}

impl JsonCodec {
    /// Encodes a message as the dialect's payloads.
    pub(super) fn encode_message(
        &self,
        reply_to: &ReplyTo,
        message: &ServerMessage<'_>,
        out: &mut dyn FnMut(Encoded<'_>),
    ) {
        if let ServerMessage::Event(event) = message {
            let mut body = BytesMut::with_capacity(self.event_size(event));
            self.encode_event(&mut body, event);
            return out(Encoded {
                name: message.name(),
                body: &body,
                token: None,
            });
        }
        if let RequestId::Token(token) = reply_to.id {
            // A numbered request has one acknowledgement, whatever the reply's name.
            return self.acknowledge(token, reply_to, message, out);
        }
        if let ServerMessage::Subscribed { joined, refused } = message
            && self.definition.control.refusals == Refusals::Error
            && !refused.is_empty()
        {
            return self.subscribed_in_part(reply_to, joined, refused, out);
        }
        self.encode_names(message.name(), reply_to, &body(reply_to, message), out);
    }

    /// Encodes a message under each of its names.
    fn encode_names(
        &self,
        name: &str,
        reply_to: &ReplyTo,
        body: &Body<'_>,
        out: &mut dyn FnMut(Encoded<'_>),
    ) {
        let mut one = |name: &str| {
            let body = self.write(name, reply_to, body);
            let body = &body;
            let token = None;
            out(Encoded { name, body, token });
        };
        match self.definition.control.names.get(name) {
            Some(names) => names.iter().for_each(|name| one(name)),
            None => one(name),
        }
    }

    /// The subscriptions that have begun, and an `error` for each refused channel.
    fn subscribed_in_part(
        &self,
        reply_to: &ReplyTo,
        joined: &[Joined],
        refused: &[Refused],
        out: &mut dyn FnMut(Encoded<'_>),
    ) {
        if !joined.is_empty() {
            let refused = &[];
            let message = ServerMessage::Subscribed { joined, refused };
            self.encode_names(message.name(), reply_to, &body(reply_to, &message), out);
        }
        for Refused { channel, error } in refused {
            let body = refusal(channel, error);
            self.encode_names("error", reply_to, &body, out);
        }
    }

    /// The acknowledgement of a request that the transport has numbered. An error is its member
    /// `error`. If all of several channels were refused, `error` is the first refusal, and `errors`
    /// lists all as in `subscribed`.
    fn acknowledge(
        &self,
        token: u64,
        reply_to: &ReplyTo,
        message: &ServerMessage<'_>,
        out: &mut dyn FnMut(Encoded<'_>),
    ) {
        let mut name = message.name();
        let mut answer = body(reply_to, message);
        match (message, self.definition.control.refusals) {
            (ServerMessage::Error(_), _) => {
                let error = Value::Object(std::mem::take(&mut answer.members));
                answer.members.insert("error".into(), error);
            }
            (
                ServerMessage::Subscribed {
                    joined: [],
                    refused: [Refused { channel, error }, ..],
                },
                Refusals::Error,
            ) => {
                let error = Value::Object(refusal(channel, error).members);
                // Nothing is subscribed, so the acknowledgement must not report a subscription.
                name = "error";
                answer.members.remove("channels");
                answer.members.insert("error".into(), error);
            }
            (_, _) => {}
        }
        let written = self.write(name, reply_to, &answer);
        let first = self.definition.control.names.get(name);
        let name = first
            .and_then(|names| names.first())
            .map_or(name, |name| name);
        out(Encoded {
            name,
            body: &written,
            token: Some(token),
        });
    }

    /// One message.
    fn write(&self, name: &str, reply_to: &ReplyTo, body: &Body<'_>) -> BytesMut {
        let control = &self.definition.control;
        let flat = control.data.is_empty();
        let mut out = BytesMut::with_capacity(256);
        for member in &control.members {
            match member {
                ControlMember::Type => {
                    put_name(&mut out, "type");
                    json::put_text(&mut out, name);
                }
                ControlMember::Timestamp if flat && body.members.contains_key("timestamp") => {}
                ControlMember::Timestamp => {
                    let now = Timestamp::now().to_rfc3339();
                    put(&mut out, "timestamp", &now.into());
                }
            }
        }
        if let RequestId::Given(id) = &reply_to.id {
            put_name(&mut out, "id");
            match id {
                GivenId::Text(text) => json::put_text(&mut out, text),
                GivenId::Number(number) => out.put_slice(number.as_bytes()),
            }
        }
        if flat {
            self.put_body(&mut out, reply_to, body);
        } else {
            put_name(&mut out, &control.data);
            let start = out.len();
            self.put_body(&mut out, reply_to, body);
            json::close(&mut out, start);
        }
        json::close(&mut out, 0);
        out
    }

    fn put_body(&self, out: &mut BytesMut, reply_to: &ReplyTo, body: &Body<'_>) {
        for (name, value) in &reply_to.echoed {
            // The message's own members take precedence over echoed ones.
            if !body.members.contains_key(&**name) {
                put_name(out, name);
                out.put_slice(value.get().as_bytes());
            }
        }
        for (name, value) in &body.members {
            put(out, name, value);
        }
        if let Some(result) = body.result {
            put_name(out, "data");
            out.put_slice(result);
        }
        for (at, event) in body.events.iter().enumerate() {
            out.put_slice(if at == 0 { b",\"events\":[" } else { b"," });
            self.encode_event(out, event);
        }
        if !body.events.is_empty() {
            out.put_u8(b']');
        }
    }
}

fn body<'a>(reply_to: &ReplyTo, message: &ServerMessage<'a>) -> Body<'a> {
    let mut body = Body {
        members: message.members(reply_to),
        events: &[],
        result: None,
    };
    if let ServerMessage::Rpc(result) = message {
        body.result = Some(result.data());
    }
    if let ServerMessage::History { page, .. } = message {
        body.events = &page.events;
        if page.events.is_empty() {
            body.members
                .insert("events".into(), Value::Array(Vec::new()));
        }
    }
    body
}

fn refusal(channel: &str, error: &Error) -> Body<'static> {
    let mut body = body(&ReplyTo::default(), &ServerMessage::Error(error));
    body.members.insert("channel".into(), channel.into());
    Body {
        members: body.members,
        events: &[],
        result: None,
    }
}

/// Appends a comma and a member.
fn put(out: &mut BytesMut, name: &str, value: &Value) {
    put_name(out, name);
    match value.as_str() {
        Some(text) => json::put_text(out, text),
        None => json::put_value(out, value),
    }
}

fn put_name(out: &mut BytesMut, name: &str) {
    out.put_u8(b',');
    json::put_text(out, name);
    out.put_u8(b':');
}
