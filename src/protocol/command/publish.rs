//! `publish`.

use serde_json::value::RawValue;

use super::CommandSpec;
use crate::error::{Error, Result};
use crate::event::{ChannelName, EventType, Headers, Payload, TraceContext};
use crate::hub::ConnCtx;
use crate::proto;
use crate::protocol::json::arguments::Arguments;
use crate::protocol::request_ctx::RequestCtx;
use crate::protocol::server_message::ServerMessage;
use crate::session;

/// Publishes an event to one channel.
#[derive(Debug, Clone)]
pub struct Publish(pub Box<session::Publish>);

impl CommandSpec for Publish {
    type Protobuf = proto::PublishCommand;

    const MEMBERS: &'static [&'static str] = &[
        "channel",
        "event_type",
        "data",
        "headers",
        "key",
        "idempotency_key",
        "traceparent",
        "tracestate",
    ];

    fn from_json(arguments: &Arguments<'_>) -> Result<Self> {
        let channel = arguments.channel()?;
        let event_type = arguments.required_text("event_type")?;
        let event_type = EventType::new(&*event_type)
            .map_err(|error| Error::field("event_type", error.description().to_owned()))?;
        let text = |name| Ok::<_, Error>(arguments.text(name)?.unwrap_or_default().into_owned());
        let trace = TraceContext::parse(&text("traceparent")?, &text("tracestate")?);
        Ok(Publish(Box::new(session::Publish {
            channels: vec![ChannelName::new(&channel)?],
            event_type,
            payload: payload(arguments.raw("data"))?,
            headers: Headers::new(arguments.pairs("headers")?)?,
            key: text("key")?,
            idempotency_key: text("idempotency_key")?,
            audience: None,
            source: session::Source::Own,
            time: None,
            trace,
        })))
    }

    fn from_protobuf(message: Self::Protobuf) -> Result<Self> {
        let event_type = EventType::new(&message.event_type)
            .map_err(|error| Error::field("event_type", error.description().to_owned()))?;
        Ok(Publish(Box::new(session::Publish {
            channels: vec![ChannelName::new(&message.channel)?],
            event_type,
            payload: Payload::new(message.data, &message.content_type)?,
            headers: Headers::new(message.headers)?,
            key: message.key,
            idempotency_key: message.idempotency_key,
            audience: None,
            source: session::Source::Own,
            time: None,
            trace: TraceContext::parse(&message.traceparent, &message.tracestate),
        })))
    }

    fn run(self, req: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()> {
        let session = req.session(cx)?;
        let req = req.clone();
        cx.wait(
            session.publish(*self.0),
            move |cx, published| match published {
                Ok(published) => req.reply(cx, &ServerMessage::Published(&published)),
                Err(error) => req.reply_error(cx, &error),
            },
        );
        Ok(())
    }
}

/// The payload, byte for byte as in the message.
fn payload(raw: Option<&RawValue>) -> Result<Payload> {
    let raw = raw.ok_or_else(|| Error::field("data", "expected JSON, but it is missing"))?;
    Payload::from_json(raw)
}
