//! `receive`: a client confirms an event that it was asked to confirm. There is no answer to it.

use uuid::Uuid;

use super::arguments::Arguments;
use crate::bus::{Arrived, Cx};
use crate::error::{Error, Result};
use crate::event::{ChannelName, Timestamp};

/// Takes `receive {id, channel?, received_at, handled_at, sent_at?}`.
///
/// # Errors
/// `invalid_argument` for what is missing or malformed. A client that was not asked is not told.
pub(super) fn receive(cx: &mut Cx<'_>, arguments: &Arguments<'_>) -> Result<()> {
    let id = Uuid::parse_str(&arguments.required_text("id")?)
        .map_err(|_| Error::field("id", "expected the id of an event"))?;
    let channel = arguments.text("channel")?;
    let channel = channel.as_deref().map(ChannelName::new).transpose()?;
    let received_at = time("received_at", &arguments.required_text("received_at")?)?;
    let handled_at = time("handled_at", &arguments.required_text("handled_at")?)?;
    let sent_at = arguments.text("sent_at")?;
    let sent_at = sent_at.map(|text| time("sent_at", &text)).transpose()?;
    cx.confirm(&Arrived {
        id,
        channel,
        received_at,
        handled_at,
        // Most say so as soon as the handler has returned.
        sent_at: sent_at.unwrap_or(handled_at),
    });
    Ok(())
}

fn time(name: &'static str, text: &str) -> Result<Timestamp> {
    Timestamp::parse(text)
        .ok_or_else(|| Error::field(name, "expected a time such as 2026-11-21T10:00:00.123Z"))
}
