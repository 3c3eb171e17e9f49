//! The port between hub and transports: what a transport implements for its connections, and what the
//! hub notifies them of.

use bytes::Bytes;

use super::delivery::DialectId;
use super::shard::ConnCtx;
use crate::error::{CloseCode, Error};
use crate::event::{Event, Position, Timestamp};
use crate::telemetry::Transport;

/// Turns events and notices into bytes of one codec, and bytes of a client into calls on its
/// [`ConnCtx`]. One value serves all connections of its codec, so it holds no state of any.
pub trait Protocol: Send + Sync {
    /// The transport.
    fn transport(&self) -> Transport;

    /// The number of the codec: connections with the same number share frames.
    fn dialect(&self) -> DialectId;

    /// An event, ready for the socket or stream.
    fn event(&self, event: &Event) -> Bytes;

    /// The same event with the question to confirm its arrival; `None` where the codec has no form for
    /// that. The clients' answers go to [`ConnCtx::confirm`].
    fn event_to_confirm(&self, event: &Event) -> Option<Bytes> {
        let _ = event;
        None
    }

    /// Whether frames of several events may be joined in one piece of memory: the client must be able to
    /// tell them apart by their content.
    fn frames_join(&self) -> bool {
        true
    }

    /// A notice; `None` where the codec has no form for it.
    fn notice(&self, notice: &Notice<'_>) -> Option<Bytes>;

    /// What is sent after an interval without traffic from the client.
    fn heartbeat(&self, now: Timestamp) -> Bytes;

    /// The last bytes of a connection.
    fn close(&self, code: CloseCode, reason: &str) -> Bytes;

    /// Handles received bytes and returns how many it consumed from the front. The rest is passed again
    /// with the next bytes.
    fn received(&self, cx: &mut ConnCtx<'_>, input: &mut [u8]) -> usize;
}

/// Something that the hub notifies one connection of.
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
    /// The channel has a new epoch: what the connection missed is unknown, and positions from before are
    /// void.
    Renumbered {
        /// The channel.
        channel: &'a str,
        /// Where live delivery goes on.
        position: Position,
    },
    /// A user joined or left a channel.
    Presence {
        /// The channel.
        channel: &'a str,
        /// The user.
        user: &'a str,
        /// Joined, or left.
        joined: bool,
    },
    /// The token will expire.
    TokenExpiring {
        /// When.
        expires_at: Timestamp,
    },
    /// The server closes: reconnect after a while.
    Reconnect {
        /// After how long, in milliseconds.
        after_ms: u64,
        /// Why.
        reason: &'static str,
    },
    /// A failure that is not the answer to a request.
    Failure(&'a Error),
    /// The server has ended a subscription.
    Unsubscribed {
        /// The channel.
        channel: &'a str,
        /// Why.
        error: &'a Error,
    },
}

/// A subscription that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The channel as requested.
    pub channel: String,
    /// Where live delivery starts; `None` where the channel keeps no history.
    pub position: Option<Position>,
    /// Whether every event after the requested position follows.
    pub recovered: bool,
    /// How many events are replayed.
    pub replayed: u64,
    /// The acknowledged offset of a durable subscription.
    pub cursor: Option<u64>,
}

/// A refused subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The channel as requested.
    pub channel: String,
    /// Why.
    pub error: Error,
}
