//! `heartbeat_response`: shows that the client is alive.

use super::CommandSpec;
use crate::error::Result;
use crate::hub::ConnCtx;
use crate::proto;
use crate::protocol::json::arguments::Arguments;
use crate::protocol::request_ctx::RequestCtx;

/// Does nothing, because every message shows that the client is alive. It has no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatResponse;

impl CommandSpec for HeartbeatResponse {
    type Protobuf = proto::HeartbeatResponseCommand;

    const MEMBERS: &'static [&'static str] = &[];
    const OPEN: bool = true;

    fn from_json(_: &Arguments<'_>) -> Result<Self> {
        Ok(HeartbeatResponse)
    }

    fn from_protobuf(_: Self::Protobuf) -> Result<Self> {
        Ok(HeartbeatResponse)
    }

    fn run(self, _: &RequestCtx, _: &mut ConnCtx<'_>) -> Result<()> {
        Ok(())
    }
}
