//! What a transport supplies for its connections, and what the bus tells it.

use bytes::Bytes;

use super::delivery::DialectId;
use super::shard::ConnCtx;
use crate::error::{CloseCode, Error};
use crate::event::{Event, Position, Timestamp};
use crate::telemetry::Transport;

/// Turns what happens on the bus into bytes of one dialect, and bytes of a client into calls on
/// its [`ConnCtx`]. One value serves all connections of its kind, so it keeps nothing about any.
pub trait Protocol: Send + Sync {
    /// How its connections reach the server.
    fn transport(&self) -> Transport;

    /// The dialect whose frames [`Protocol::event`] makes.
    fn dialect(&self) -> DialectId;

    /// An event, ready for the socket or stream.
    fn event(&self, event: &Event) -> Bytes;

    /// The same event, with the question to confirm that it has arrived; `None` where the dialect
    /// has no words for that. What clients answer goes to [`ConnCtx::confirm`].
    fn event_to_confirm(&self, event: &Event) -> Option<Bytes> {
        let _ = event;
        None
    }

    /// True if the frames of several events may stand in one piece of memory, end to end: where
    /// the other side tells them apart by what is in them.
    fn frames_join(&self) -> bool {
        true
    }

    /// Something that the bus has to say; `None` where the dialect has no words for it.
    fn notice(&self, notice: &Notice<'_>) -> Option<Bytes>;

    /// What is sent when nothing was heard for an interval.
    fn heartbeat(&self, now: Timestamp) -> Bytes;

    /// The last bytes of a connection.
    fn close(&self, code: CloseCode, reason: &str) -> Bytes;

    /// Bytes have come; answers how many of them, from the front, are done with. The rest is
    /// shown again with what comes next.
    fn received(&self, cx: &mut ConnCtx<'_>, input: &mut [u8]) -> usize;
}

/// Something that the bus says to one connection.
#[derive(Debug)]
pub enum Notice<'a> {
    /// Events that the connection will not get.
    Gap {
        /// The channel.
        channel: &'a str,
        /// The first offset that is missing.
        from: u64,
        /// The last offset that is missing.
        to: u64,
        /// Why.
        reason: &'static str,
    },
    /// The channel is numbered anew: what the connection missed can't be told, and positions of
    /// before hold no more.
    Renumbered {
        /// The channel.
        channel: &'a str,
        /// Where live delivery goes on.
        position: Position,
    },
    /// A user came to a channel or left it.
    Presence {
        /// The channel.
        channel: &'a str,
        /// The user.
        user: &'a str,
        /// Came, or left.
        joined: bool,
    },
    /// The token will expire.
    TokenExpiring {
        /// When.
        expires_at: Timestamp,
    },
    /// The server goes away: come back after a while.
    Reconnect {
        /// After how long, in milliseconds.
        after_ms: u64,
        /// Why.
        reason: &'static str,
    },
    /// A failure that is not the answer to a request.
    Failure(&'a Error),
    /// A subscription ended without being asked to.
    Unsubscribed {
        /// The channel.
        channel: &'a str,
        /// Why.
        error: &'a Error,
    },
}

/// How one subscription began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The channel, as asked.
    pub channel: String,
    /// Where live delivery starts; `None` where the channel keeps no history.
    pub position: Option<Position>,
    /// True if every event after the asked position follows.
    pub recovered: bool,
    /// How many events are replayed.
    pub replayed: u64,
}

/// Why one subscription was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The channel, as asked.
    pub channel: String,
    /// Why.
    pub error: Error,
}
