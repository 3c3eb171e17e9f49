//! `ping`: are you there?

use super::Ask;
use crate::bus::Cx;
use crate::dialect::arguments::Arguments;
use crate::dialect::said::Said;
use crate::dialect::turn::Turn;
use crate::error::Result;
use crate::event::Timestamp;

/// Asks for a `pong`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping;

impl Ask for Ping {
    const MEMBERS: &'static [&'static str] = &[];
    const OPEN: bool = true;

    fn read(_: &Arguments<'_>) -> Result<Self> {
        Ok(Ping)
    }

    fn run(self, turn: &Turn, cx: &mut Cx<'_>) -> Result<()> {
        turn.say(cx, &Said::Pong(Timestamp::now()));
        Ok(())
    }
}
