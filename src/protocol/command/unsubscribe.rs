//! `unsubscribe`.

use super::subscribe::narrowed_types;
use super::{CommandSpec, GLOBAL};
use crate::error::{Error, Result};
use crate::event::{ChannelPattern, TypePattern};
use crate::filter::EventFilter;
use crate::hub::ConnCtx;
use crate::proto;
use crate::protocol::json::arguments::Arguments;
use crate::protocol::request_ctx::RequestCtx;
use crate::protocol::server_message::ServerMessage;

/// Unsubscribes from channels, or removes event types from the restriction of `global`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unsubscribe {
    /// The channels or patterns, as they were subscribed to.
    pub channels: Vec<String>,
    /// Event types.
    pub event_types: Vec<String>,
}

impl CommandSpec for Unsubscribe {
    type Protobuf = proto::UnsubscribeCommand;

    const MEMBERS: &'static [&'static str] = &["channels", "event_types"];

    fn from_json(arguments: &Arguments<'_>) -> Result<Self> {
        Ok(Unsubscribe {
            channels: arguments.channels()?,
            event_types: arguments.texts("event_types")?,
        })
    }

    fn from_protobuf(message: Self::Protobuf) -> Result<Self> {
        Ok(Unsubscribe {
            channels: message.channels,
            event_types: message.event_types,
        })
    }

    fn run(self, req: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()> {
        req.session(cx)?;
        let Unsubscribe {
            channels,
            event_types,
        } = self;
        if channels.is_empty() && event_types.is_empty() {
            let text = "expected a list of channels, or event_types";
            return Err(Error::field("channels", text));
        }
        let patterns = channels
            .iter()
            .map(|channel| ChannelPattern::parse(channel));
        let patterns: Vec<ChannelPattern> = patterns.collect::<Result<_>>()?;
        let mut left: Vec<String> = Vec::new();
        for pattern in patterns {
            if cx.leave(&pattern) {
                left.push(pattern.to_string());
            }
        }
        if !event_types.is_empty() {
            widen(cx, &event_types, &mut left)?;
        }
        let message = ServerMessage::Unsubscribed {
            channels: &left,
            event_types: &event_types,
        };
        req.reply(cx, &message);
        Ok(())
    }
}

/// Removes event types from the restriction of `global`; unsubscribes from it with the last.
fn widen(cx: &mut ConnCtx<'_>, event_types: &[String], left: &mut Vec<String>) -> Result<()> {
    let global = ChannelPattern::parse(GLOBAL)?;
    let mut types = narrowed_types(cx, &global);
    if types.is_empty() {
        return Err(Error::precondition("global is not narrowed to event types"));
    }
    let condition = cx
        .filter_of(&global)
        .flatten()
        .and_then(|filter| filter.condition().cloned());
    types.retain(|kept| !event_types.contains(kept));
    if types.is_empty() {
        cx.leave(&global);
        left.push(GLOBAL.to_owned());
        return Ok(());
    }
    let types = types
        .iter()
        .map(|text| TypePattern::parse(text))
        .collect::<Result<Vec<_>>>()?;
    cx.narrow(&global, EventFilter::with(types, condition)?.as_ref());
    Ok(())
}
