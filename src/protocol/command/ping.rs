//! `ping`.

use super::CommandSpec;
use crate::error::Result;
use crate::event::Timestamp;
use crate::hub::ConnCtx;
use crate::proto;
use crate::protocol::json::arguments::Arguments;
use crate::protocol::request_ctx::RequestCtx;
use crate::protocol::server_message::ServerMessage;

/// Requests a `pong`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping;

impl CommandSpec for Ping {
    type Protobuf = proto::PingCommand;

    const MEMBERS: &'static [&'static str] = &[];
    const OPEN: bool = true;

    fn from_json(_: &Arguments<'_>) -> Result<Self> {
        Ok(Ping)
    }

    fn from_protobuf(_: Self::Protobuf) -> Result<Self> {
        Ok(Ping)
    }

    fn run(self, req: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()> {
        req.reply(cx, &ServerMessage::Pong(Timestamp::now()));
        Ok(())
    }
}
