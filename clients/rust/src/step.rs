//! What following channels brings, step by step.

use crate::{Event, Gap, Position};

/// What following channels brings.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// How a channel stands: at the beginning, and after each drop.
    Subscribed(Joined),
    /// An event.
    Event(Event),
    /// Events that will not come.
    Gap(Gap),
}

impl Step {
    /// True where something was missed and will not come: load your state anew.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        match self {
            Step::Subscribed(joined) => joined.recovered == Some(false),
            // Newer events stand for those that are left out.
            Step::Gap(gap) => gap.reason != "conflated",
            Step::Event(_) => false,
        }
    }
}

/// How a channel stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The channel.
    pub channel: String,
    /// Where live delivery starts; `None` where the channel keeps no history.
    pub position: Option<Position>,
    /// `None`: it has just begun. True: nothing was missed, the rest follows. False: something may have been missed
    /// and will not come.
    pub recovered: Option<bool>,
    /// How many events are replayed.
    pub replayed: u64,
}
