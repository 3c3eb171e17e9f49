//! `heartbeat_response`: I am.

use super::Ask;
use crate::bus::Cx;
use crate::dialect::arguments::Arguments;
use crate::dialect::turn::Turn;
use crate::error::Result;

/// A sign of life, which any message is. It has no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatResponse;

impl Ask for HeartbeatResponse {
    const MEMBERS: &'static [&'static str] = &[];
    const OPEN: bool = true;

    fn read(_: &Arguments<'_>) -> Result<Self> {
        Ok(HeartbeatResponse)
    }

    fn run(self, _: &Turn, _: &mut Cx<'_>) -> Result<()> {
        Ok(())
    }
}
