//! The steps of a subscription.

use crate::{Event, Gap, Position};

/// A step of a subscription.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The state of a channel, at the start and after each reconnect.
    Subscribed(Joined),
    /// An event.
    Event(Event),
    /// Events that will not be delivered.
    Gap(Gap),
}

impl Step {
    /// True if events were missed and are lost: reload your state.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        match self {
            Step::Subscribed(joined) => joined.recovered == Some(false),
            // Conflated events are replaced by newer ones, so nothing is lost.
            Step::Gap(gap) => gap.reason != "conflated",
            Step::Event(_) => false,
        }
    }
}

/// The state of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The channel.
    pub channel: String,
    /// Where live delivery starts. `None` if the channel keeps no history.
    pub position: Option<Position>,
    /// `None`: the subscription is new. True: nothing was missed, and the rest follows. False:
    /// events may have been missed and are lost.
    pub recovered: Option<bool>,
    /// The number of replayed events.
    pub replayed: u64,
    /// The acknowledged offset. `None` unless the subscription is durable.
    pub cursor: Option<u64>,
}
