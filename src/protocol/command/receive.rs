//! `receive`: an event that was to be confirmed has arrived.

use uuid::Uuid;

use super::ClientCommand;
use crate::error::{Error, Result};
use crate::event::{ChannelName, Timestamp};
use crate::hub::{Arrived, ConnCtx};
use crate::protocol::json::arguments::Arguments;
use crate::protocol::request_ctx::RequestCtx;

/// Confirms an event that the client was asked to confirm. It has no reply, and a client that was
/// not asked is not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receive(Arrived);

impl Receive {
    /// What a client says of an event.
    #[must_use]
    pub const fn new(arrived: Arrived) -> Self {
        Receive(arrived)
    }
}

impl ClientCommand for Receive {
    const MEMBERS: &'static [&'static str] =
        &["id", "channel", "received_at", "handled_at", "sent_at"];

    fn read(arguments: &Arguments<'_>) -> Result<Self> {
        let id = Uuid::parse_str(&arguments.required_text("id")?)
            .map_err(|_| Error::field("id", "expected the id of an event"))?;
        let channel = arguments.text("channel")?;
        let channel = channel.as_deref().map(ChannelName::new).transpose()?;
        let received_at = time("received_at", &arguments.required_text("received_at")?)?;
        let handled_at = time("handled_at", &arguments.required_text("handled_at")?)?;
        let sent_at = arguments.text("sent_at")?;
        let sent_at = sent_at.map(|text| time("sent_at", &text)).transpose()?;
        Ok(Receive(Arrived {
            id,
            channel,
            received_at,
            handled_at,
            // Most say so as soon as the handler has returned.
            sent_at: sent_at.unwrap_or(handled_at),
        }))
    }

    fn run(self, turn: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()> {
        turn.session(cx)?;
        cx.confirm(&self.0);
        Ok(())
    }
}

fn time(name: &'static str, text: &str) -> Result<Timestamp> {
    Timestamp::parse(text)
        .ok_or_else(|| Error::field(name, "expected a time such as 2026-11-21T10:00:00.123Z"))
}
