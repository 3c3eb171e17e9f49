//! `heartbeat_response`: I am.

use super::ClientCommand;
use crate::error::Result;
use crate::hub::ConnCtx;
use crate::protocol::json::arguments::Arguments;
use crate::protocol::request_ctx::RequestCtx;

/// A sign of life, which any message is. It has no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatResponse;

impl ClientCommand for HeartbeatResponse {
    const MEMBERS: &'static [&'static str] = &[];
    const OPEN: bool = true;

    fn read(_: &Arguments<'_>) -> Result<Self> {
        Ok(HeartbeatResponse)
    }

    fn run(self, _: &RequestCtx, _: &mut ConnCtx<'_>) -> Result<()> {
        Ok(())
    }
}
