//! `heartbeat_response`: I am.

use super::ClientCommand;
use crate::bus::ConnCtx;
use crate::dialect::arguments::Arguments;
use crate::dialect::request_ctx::RequestCtx;
use crate::error::Result;

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
