//! `subscribe`.

use std::collections::HashSet;
use std::sync::Arc;

use super::{CommandSpec, GLOBAL};
use crate::error::{Error, Result};
use crate::event::ChannelPattern;
use crate::hub::ConnCtx;
use crate::proto;
use crate::protocol::json::arguments::Arguments;
use crate::protocol::protobuf::schema::since;
use crate::protocol::request_ctx::RequestCtx;
use crate::protocol::server_message::ServerMessage;
use crate::session::{self, Wanted};

/// Subscribes to channels, or restricts `global` to event types.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscribe {
    wanted: session::Subscribe,
    /// Whether `global` is restricted, because no channel was named.
    narrows: bool,
}

impl Subscribe {
    /// Subscribes to the channels. Without any, adds the event types to those to which `global` is
    /// restricted.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for the field `channels` if there are no event types either.
    pub fn new(mut wanted: session::Subscribe) -> Result<Self> {
        // Duplicate channels are dropped: the second subscription would replace the first while
        // that begins.
        let mut seen = HashSet::new();
        wanted
            .channels
            .retain(|wanted| seen.insert(wanted.channel.clone()));
        let narrows = wanted.channels.is_empty();
        if narrows {
            if wanted.event_types.is_empty() {
                return Err(no_channels());
            }
            wanted.channels.push(Wanted {
                channel: GLOBAL.to_owned(),
                ..Wanted::default()
            });
        }
        Ok(Subscribe { wanted, narrows })
    }

    /// The requested subscriptions.
    #[must_use]
    pub fn wanted(&self) -> &session::Subscribe {
        &self.wanted
    }
}

impl CommandSpec for Subscribe {
    type Protobuf = proto::SubscribeCommand;

    const MEMBERS: &'static [&'static str] = &[
        "channels",
        "event_types",
        "filter",
        "since",
        "rewind",
        "presence",
    ];

    fn from_json(arguments: &Arguments<'_>) -> Result<Self> {
        let event_types = arguments.texts("event_types")?;
        let channels = arguments.channels()?;
        if channels.is_empty() && arguments.given("channels").is_some() {
            return Err(no_channels());
        }
        let (since, rewind) = (arguments.positions("since")?, arguments.number("rewind")?);
        let wanted = |channel: String| {
            let since = since.get(&channel).copied();
            // A position takes precedence over a count.
            let rewind = if since.is_some() { None } else { rewind };
            Wanted {
                channel,
                since,
                rewind,
            }
        };
        let mut subscribe = Subscribe::new(session::Subscribe {
            channels: channels.into_iter().map(wanted).collect(),
            event_types,
            filter: arguments.text("filter")?.unwrap_or_default().into_owned(),
            presence: arguments.flag("presence")?,
        })?;
        if subscribe.narrows {
            subscribe.wanted.channels = vec![wanted(GLOBAL.to_owned())];
        }
        Ok(subscribe)
    }

    fn from_protobuf(message: Self::Protobuf) -> Result<Self> {
        let channels = message.subscriptions.into_iter().map(|wanted| {
            Ok(Wanted {
                channel: wanted.channel,
                since: wanted.since.as_ref().map(since).transpose()?,
                rewind: (wanted.rewind > 0).then_some(wanted.rewind),
            })
        });
        Subscribe::new(session::Subscribe {
            channels: channels.collect::<Result<_>>()?,
            event_types: message.event_types,
            filter: message.filter,
            presence: message.presence,
        })
    }

    fn run(self, req: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()> {
        let session = req.session(cx)?;
        let mut wanted = self.wanted;
        if self.narrows {
            let types = &mut wanted.event_types;
            types.extend(narrowed_types(cx, &ChannelPattern::parse(GLOBAL)?));
            types.sort_unstable();
            types.dedup();
        }
        let tracing = &req.services.tracing;
        let span = tracing.subscribe(cx.id(), wanted.channels.len(), None);
        let req = req.clone();
        cx.wait(session.subscribe(wanted), move |cx, request| {
            let request = match request {
                Ok(request) => request,
                Err(error) => return req.reply_error(cx, &error),
            };
            cx.join(request, move |cx, joined, refused| {
                drop(span);
                req.services
                    .note_subscribed(cx.identity(), cx.id(), &joined, &refused);
                for refused in &refused {
                    cx.hub().metrics().error(refused.error.code());
                }
                let (joined, refused) = (&joined, &refused);
                req.reply(cx, &ServerMessage::Subscribed { joined, refused });
            });
        });
        Ok(())
    }
}

fn no_channels() -> Error {
    Error::field("channels", "expected a list of channels")
}

/// The event types to which a subscription is already restricted.
pub(super) fn narrowed_types(cx: &ConnCtx<'_>, pattern: &ChannelPattern) -> Vec<String> {
    match cx.filter_of(pattern) {
        Some(Some(filter)) => types_of(&filter),
        Some(None) | None => Vec::new(),
    }
}

fn types_of(filter: &Arc<crate::filter::EventFilter>) -> Vec<String> {
    let types = filter.key().types().iter();
    types.map(|kind| kind.as_str().to_owned()).collect()
}
