//! `receive`: confirms the delivery of an event.

use uuid::Uuid;

use super::CommandSpec;
use crate::error::{Error, Result};
use crate::event::{ChannelName, Timestamp};
use crate::hub::{Arrived, ConnCtx};
use crate::proto;
use crate::protocol::json::arguments::Arguments;
use crate::protocol::protobuf::schema::moment;
use crate::protocol::request_ctx::RequestCtx;

/// Confirms an event that was sent with `confirm`. It has no reply; an unsolicited one is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receive(Arrived);

impl CommandSpec for Receive {
    type Protobuf = proto::ReceiveCommand;

    const MEMBERS: &'static [&'static str] =
        &["id", "channel", "received_at", "handled_at", "sent_at"];

    fn from_json(arguments: &Arguments<'_>) -> Result<Self> {
        let id = Uuid::parse_str(&arguments.required_text("id")?)
            .map_err(|_| Error::field("id", "expected the id of an event"))?;
        let channel = arguments.text("channel")?;
        let channel = channel.as_deref().map(ChannelName::new).transpose()?;
        let received_at = time("received_at", &arguments.required_text("received_at")?)?;
        let handled_at = time("handled_at", &arguments.required_text("handled_at")?)?;
        let sent_at = arguments.text("sent_at")?;
        let sent_at = sent_at.map(|text| time("sent_at", &text)).transpose()?;
        Ok(Receive(Arrived {
            id,
            channel,
            received_at,
            handled_at,
            // Most clients confirm as soon as the handler has returned.
            sent_at: sent_at.unwrap_or(handled_at),
        }))
    }

    fn from_protobuf(message: Self::Protobuf) -> Result<Self> {
        let id = Uuid::parse_str(&message.id)
            .map_err(|_| Error::field("id", "expected the id of an event"))?;
        let channel = (!message.channel.is_empty()).then(|| ChannelName::new(&message.channel));
        let time = |name, time: Option<prost_types::Timestamp>| {
            time.and_then(moment)
                .ok_or_else(|| Error::field(name, "expected a time of the years 1 to 9999"))
        };
        let handled_at = time("handled_at", message.handled_at)?;
        Ok(Receive(Arrived {
            id,
            channel: channel.transpose()?,
            received_at: time("received_at", message.received_at)?,
            handled_at,
            sent_at: match message.sent_at {
                Some(_) => time("sent_at", message.sent_at)?,
                None => handled_at,
            },
        }))
    }

    fn run(self, req: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()> {
        req.session(cx)?;
        cx.confirm(&self.0);
        Ok(())
    }
}

fn time(name: &'static str, text: &str) -> Result<Timestamp> {
    Timestamp::parse(text)
        .ok_or_else(|| Error::field(name, "expected a time such as 2026-11-21T10:00:00.123Z"))
}
