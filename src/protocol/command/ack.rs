//! `ack`: acknowledges events of a durable subscription.

use super::CommandSpec;
use crate::error::{Error, Result};
use crate::event::ChannelName;
use crate::hub::ConnCtx;
use crate::proto;
use crate::protocol::json::arguments::Arguments;
use crate::protocol::request_ctx::RequestCtx;

/// Acknowledges the events of a channel up to an offset. Has no reply, but for an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The channel.
    pub channel: String,
    /// The name of the durable subscription.
    pub durable: String,
    /// The offset.
    pub offset: u64,
}

impl CommandSpec for Ack {
    type Protobuf = proto::AckCommand;

    const MEMBERS: &'static [&'static str] = &["channel", "durable", "offset"];

    fn from_json(arguments: &Arguments<'_>) -> Result<Self> {
        let offset = arguments.offset("offset")?;
        Ok(Ack {
            channel: arguments.channel()?,
            durable: arguments.required_text("durable")?.into_owned(),
            offset: offset.ok_or_else(|| {
                Error::field("offset", "expected a whole number, and it is missing")
            })?,
        })
    }

    fn from_protobuf(message: Self::Protobuf) -> Result<Self> {
        Ok(Ack {
            channel: message.channel,
            durable: message.durable,
            offset: message.offset,
        })
    }

    fn run(self, req: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()> {
        let session = req.session(cx)?;
        let channel = ChannelName::new(&self.channel)?;
        let req = req.clone();
        cx.wait(
            session.ack(&self.durable, &channel, self.offset),
            move |cx, acknowledged| {
                if let Err(error) = acknowledged {
                    req.reply_error(cx, &error);
                }
            },
        );
        Ok(())
    }
}
