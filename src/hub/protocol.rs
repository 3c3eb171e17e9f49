//! The port between hub and transports: what a transport implements for its connections, and what the
//! hub notifies them of.

use bytes::Bytes;

use super::dialect_ids::DialectId;
use super::shard::ConnCtx;
use crate::error::{CloseCode, Error};
use crate::event::{Event, Position, Timestamp};
use crate::telemetry::Transport;

/// Turns events and notices into bytes of one codec, and bytes of a client into calls on its
/// [`ConnCtx`]. One value serves all connections of its codec, so it holds no state of any.
pub trait Protocol: Send + Sync {
    /// The transport.
    fn transport(&self) -> Transport;

    /// The name of the codec, for operators.
    fn name(&self) -> &str {
        self.transport().as_str()
    }

    /// Whether what it sends is compressed.
    fn is_compressed(&self) -> bool {
        false
    }

    /// The number of the codec: connections with the same number share frames.
    fn dialect(&self) -> DialectId;

    /// An event, ready for the socket or stream.
    fn event(&self, event: &Event) -> Bytes;

    /// The same event with `confirm`; `None` if the codec has no form for that. The clients'
    /// answers are passed to [`ConnCtx::confirm`].
    fn event_to_confirm(&self, event: &Event) -> Option<Bytes> {
        let _ = event;
        None
    }

    /// Whether frames of several events may be joined in one buffer: the client must be able to
    /// separate them by their content.
    fn frames_join(&self) -> bool {
        true
    }

    /// A notice; `None` if the codec has no form for it.
    fn notice(&self, notice: &Notice<'_>) -> Option<Bytes>;

    /// The bytes sent after an interval without traffic from the client.
    fn heartbeat(&self, now: Timestamp) -> Bytes;

    /// The last bytes of a connection.
    fn close(&self, code: CloseCode, reason: &str) -> Bytes;

    /// The identity of a connection expires soon. True if the protocol renews it by itself; otherwise
    /// the client is notified.
    fn renews(&self, cx: &mut ConnCtx<'_>) -> bool {
        let _ = cx;
        false
    }

    /// Handles received bytes and returns how many it consumed from the front. The rest is passed again
    /// with the next bytes.
    fn received(&self, cx: &mut ConnCtx<'_>, input: &mut [u8]) -> usize;
}

/// A notice of the hub to one connection.
#[derive(Debug)]
pub enum Notice<'a> {
    /// Events that will not be delivered to the connection.
    Gap {
        /// The channel.
        channel: &'a str,
        /// The first missing offset.
        from: u64,
        /// The last missing offset.
        to: u64,
        /// The reason.
        reason: &'static str,
    },
    /// The channel has a new epoch: it is unknown what the connection missed, and earlier positions
    /// are invalid.
    Renumbered {
        /// The channel.
        channel: &'a str,
        /// The position after which live delivery continues.
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
        /// When it expires.
        expires_at: Timestamp,
    },
    /// The server closes: reconnect after a delay.
    Reconnect {
        /// The delay in milliseconds.
        after_ms: u64,
        /// The reason.
        reason: &'static str,
    },
    /// A failure that is not the reply to a request.
    Failure(&'a Error),
    /// The server has ended a subscription.
    Unsubscribed {
        /// The channel.
        channel: &'a str,
        /// The reason.
        error: &'a Error,
    },
}

/// A subscription that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The channel as requested.
    pub channel: String,
    /// Where live delivery starts; `None` if the channel keeps no history.
    pub position: Option<Position>,
    /// Whether every event after the requested position follows.
    pub recovered: bool,
    /// The number of replayed events.
    pub replayed: u64,
    /// The acknowledged offset of a durable subscription.
    pub cursor: Option<u64>,
}

/// A refused subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The channel as requested.
    pub channel: String,
    /// The reason.
    pub error: Error,
}
