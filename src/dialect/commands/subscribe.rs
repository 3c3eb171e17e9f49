//! `subscribe`: send me these.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Ask, GLOBAL};
use crate::bus::Cx;
use crate::dialect::arguments::Arguments;
use crate::dialect::said::Said;
use crate::dialect::turn::Turn;
use crate::error::{Error, Result};
use crate::event::{ChannelPattern, Position};
use crate::session::{self, Wanted};

/// Follows channels, or narrows `global` to event types.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscribe {
    /// Channels or patterns of channels; none is `global`, narrowed to the event types.
    pub channels: Vec<String>,
    /// Only these: exact names, or with a trailing `*`; all if empty.
    pub event_types: Vec<String>,
    /// A CEL expression; none if empty.
    pub filter: String,
    /// By channel, the position after which to resume.
    pub since: HashMap<String, Position>,
    /// Replay the newest so many events of each channel without such a position.
    pub rewind: Option<u32>,
    /// Whether to hear who comes and goes.
    pub presence: bool,
}

impl Ask for Subscribe {
    const MEMBERS: &'static [&'static str] = &[
        "channels",
        "event_types",
        "filter",
        "since",
        "rewind",
        "presence",
    ];

    fn read(arguments: &Arguments<'_>) -> Result<Self> {
        let event_types = arguments.texts("event_types")?;
        let channels = arguments.channels()?;
        if channels.is_empty() && arguments.given("channels").is_some() {
            return Err(no_channels());
        }
        Ok(Subscribe {
            channels,
            event_types,
            since: arguments.positions("since")?,
            rewind: arguments.number("rewind")?,
            filter: arguments.text("filter")?.unwrap_or_default().into_owned(),
            presence: arguments.flag("presence")?,
        })
    }

    fn run(self, turn: &Turn, cx: &mut Cx<'_>) -> Result<()> {
        let session = turn.session(cx)?;
        let wanted = self.wanted(cx)?;
        let tracing = &turn.services.tracing;
        let span = tracing.subscribe(cx.id(), wanted.channels.len(), None);
        let request = session.subscribe(wanted)?;
        let turn = turn.clone();
        cx.join(request, move |cx, joined, refused| {
            drop(span);
            turn.services.note_refused(cx.identity(), cx.id(), &refused);
            for refused in &refused {
                cx.hub().metrics().error(refused.error.code());
            }
            let (joined, refused) = (&joined, &refused);
            turn.say(cx, &Said::Subscribed { joined, refused });
        });
        Ok(())
    }
}

impl Subscribe {
    fn wanted(self, cx: &Cx<'_>) -> Result<session::Subscribe> {
        let Subscribe {
            mut channels,
            mut event_types,
            filter,
            since,
            rewind,
            presence,
        } = self;
        if channels.is_empty() {
            if event_types.is_empty() {
                return Err(no_channels());
            }
            channels.push(GLOBAL.to_owned());
            event_types.extend(narrowed_types(cx, &ChannelPattern::parse(GLOBAL)?));
            event_types.sort_unstable();
            event_types.dedup();
        }
        let wanted = channels.into_iter().map(|channel| {
            let since = since.get(&channel).copied();
            // A position is better than a count.
            let rewind = if since.is_some() { None } else { rewind };
            Wanted {
                channel,
                since,
                rewind,
            }
        });
        Ok(session::Subscribe {
            channels: wanted.collect(),
            event_types,
            filter,
            presence,
        })
    }
}

fn no_channels() -> Error {
    Error::field("channels", "expected a list of channels")
}

/// The event types to which a subscription is already narrowed.
pub(super) fn narrowed_types(cx: &Cx<'_>, pattern: &ChannelPattern) -> Vec<String> {
    match cx.filter_of(pattern) {
        Some(Some(filter)) => types_of(&filter),
        Some(None) | None => Vec::new(),
    }
}

fn types_of(filter: &Arc<crate::bus::filter::EventFilter>) -> Vec<String> {
    let types = filter.key().types().iter();
    types.map(|kind| kind.as_str().to_owned()).collect()
}
