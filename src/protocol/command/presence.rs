//! `presence`: who is there?

use super::ClientCommand;
use crate::error::Result;
use crate::event::ChannelName;
use crate::hub::ConnCtx;
use crate::protocol::json::arguments::Arguments;
use crate::protocol::request_ctx::RequestCtx;
use crate::protocol::server_message::ServerMessage;

/// Asks who is in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The channel.
    pub channel: String,
}

impl ClientCommand for Presence {
    const MEMBERS: &'static [&'static str] = &["channel"];

    fn read(arguments: &Arguments<'_>) -> Result<Self> {
        let channel = arguments.channel()?;
        Ok(Presence { channel })
    }

    fn run(self, turn: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()> {
        let session = turn.session(cx)?;
        let channel = ChannelName::new(&self.channel)?;
        let present = session.presence(&channel)?;
        let said = ServerMessage::Presence {
            channel: &channel,
            present: &present,
        };
        turn.say(cx, &said);
        Ok(())
    }
}
