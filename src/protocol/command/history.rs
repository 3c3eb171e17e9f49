//! `history`: reads past events.

use super::CommandSpec;
use crate::error::Result;
use crate::event::{ChannelName, Position};
use crate::hub::ConnCtx;
use crate::proto;
use crate::protocol::json::arguments::Arguments;
use crate::protocol::protobuf::schema::since;
use crate::protocol::request_ctx::RequestCtx;
use crate::protocol::server_message::ServerMessage;
use crate::session::HistoryQuery;

/// Asks for a page of a channel's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The channel.
    pub channel: String,
    /// Only events after this position; before it, if `reverse`.
    pub since: Option<Position>,
    /// The most events, 1 to 1,000.
    pub limit: u32,
    /// Newest first.
    pub reverse: bool,
}

impl History {
    /// The default page size.
    const DEFAULT_LIMIT: u32 = 100;
}

impl CommandSpec for History {
    type Protobuf = proto::HistoryCommand;

    const MEMBERS: &'static [&'static str] = &["channel", "since", "limit", "reverse"];

    fn from_json(arguments: &Arguments<'_>) -> Result<Self> {
        Ok(History {
            channel: arguments.channel()?,
            limit: arguments.number("limit")?.unwrap_or(Self::DEFAULT_LIMIT),
            since: arguments.position("since")?,
            reverse: arguments.flag("reverse")?,
        })
    }

    fn from_protobuf(message: Self::Protobuf) -> Result<Self> {
        Ok(History {
            channel: message.channel,
            since: message.since.as_ref().map(since).transpose()?,
            limit: match message.limit {
                0 => Self::DEFAULT_LIMIT,
                limit => limit,
            },
            reverse: message.reverse,
        })
    }

    fn run(self, req: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()> {
        let session = req.session(cx)?;
        let channel = ChannelName::new(&self.channel)?;
        let query = HistoryQuery {
            channel: channel.clone(),
            since: self.since,
            limit: usize::try_from(self.limit).unwrap_or(usize::MAX),
            reverse: self.reverse,
        };
        let req = req.clone();
        cx.wait(session.history(query), move |cx, page| match page {
            Ok(page) => {
                let (channel, page) = (&channel, &page);
                req.reply(cx, &ServerMessage::History { channel, page });
            }
            Err(error) => req.reply_error(cx, &error),
        });
        Ok(())
    }
}
