//! `presence`: the users in a channel.

use super::CommandSpec;
use crate::error::Result;
use crate::event::ChannelName;
use crate::hub::ConnCtx;
use crate::proto;
use crate::protocol::json::arguments::Arguments;
use crate::protocol::request_ctx::RequestCtx;
use crate::protocol::server_message::ServerMessage;

/// Requests the users in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The channel.
    pub channel: String,
}

impl CommandSpec for Presence {
    type Protobuf = proto::PresenceCommand;

    const MEMBERS: &'static [&'static str] = &["channel"];

    fn from_json(arguments: &Arguments<'_>) -> Result<Self> {
        let channel = arguments.channel()?;
        Ok(Presence { channel })
    }

    fn from_protobuf(message: Self::Protobuf) -> Result<Self> {
        Ok(Presence {
            channel: message.channel,
        })
    }

    fn run(self, req: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()> {
        let session = req.session(cx)?;
        let channel = ChannelName::new(&self.channel)?;
        let req = req.clone();
        cx.wait(
            session.presence(&channel),
            move |cx, present| match present {
                Ok(present) => {
                    let (channel, present) = (&channel, &present);
                    req.reply(cx, &ServerMessage::Presence { channel, present });
                }
                Err(error) => req.reply_error(cx, &error),
            },
        );
        Ok(())
    }
}
