//! `ping`: are you there?

use super::ClientCommand;
use crate::error::Result;
use crate::event::Timestamp;
use crate::hub::ConnCtx;
use crate::protocol::json::arguments::Arguments;
use crate::protocol::request_ctx::RequestCtx;
use crate::protocol::server_message::ServerMessage;

/// Asks for a `pong`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping;

impl ClientCommand for Ping {
    const MEMBERS: &'static [&'static str] = &[];
    const OPEN: bool = true;

    fn read(_: &Arguments<'_>) -> Result<Self> {
        Ok(Ping)
    }

    fn run(self, turn: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()> {
        turn.say(cx, &ServerMessage::Pong(Timestamp::now()));
        Ok(())
    }
}
