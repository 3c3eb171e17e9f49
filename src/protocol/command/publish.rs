//! `publish`: tell the others.

use serde_json::value::RawValue;

use super::ClientCommand;
use crate::error::{Error, Result};
use crate::event::{ChannelName, EventType, Headers, Payload, TraceContext};
use crate::hub::ConnCtx;
use crate::protocol::json::arguments::Arguments;
use crate::protocol::request_ctx::RequestCtx;
use crate::protocol::server_message::ServerMessage;
use crate::session;

/// Publishes an event to one channel.
#[derive(Debug, Clone)]
pub struct Publish(pub Box<session::Publish>);

impl ClientCommand for Publish {
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

    fn read(arguments: &Arguments<'_>) -> Result<Self> {
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

    fn run(self, turn: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()> {
        let session = turn.session(cx)?;
        let turn = turn.clone();
        cx.wait(
            session.publish(*self.0),
            move |cx, published| match published {
                Ok(published) => turn.say(cx, &ServerMessage::Published(&published)),
                Err(error) => turn.refuse(cx, &error),
            },
        );
        Ok(())
    }
}

/// A payload as it stands in the message: not one byte of it is rewritten.
fn payload(raw: Option<&RawValue>) -> Result<Payload> {
    let raw = raw.ok_or_else(|| Error::field("data", "expected JSON, and it is missing"))?;
    Payload::from_json(raw)
}
