//! `presence`: who is there?

use super::Ask;
use crate::bus::Cx;
use crate::dialect::arguments::Arguments;
use crate::dialect::said::Said;
use crate::dialect::turn::Turn;
use crate::error::Result;
use crate::event::ChannelName;

/// Asks who is in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The channel.
    pub channel: String,
}

impl Ask for Presence {
    const MEMBERS: &'static [&'static str] = &["channel"];

    fn read(arguments: &Arguments<'_>) -> Result<Self> {
        let channel = arguments.channel()?;
        Ok(Presence { channel })
    }

    fn run(self, turn: &Turn, cx: &mut Cx<'_>) -> Result<()> {
        let session = turn.session(cx)?;
        let channel = ChannelName::new(&self.channel)?;
        let present = session.presence(&channel)?;
        let said = Said::Presence {
            channel: &channel,
            present: &present,
        };
        turn.say(cx, &said);
        Ok(())
    }
}
