//! The definition of a custom dialect.

use std::collections::HashMap;

use super::template::Template;
use crate::event::json::Member;
use crate::protocol::command::Kind;

/// The names and envelopes of a dialect. The default is the dialect `tidings`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Definition {
    /// The envelope of events.
    pub event: EventWords,
    /// The envelope of replies and notices.
    pub control: ControlWords,
    /// The commands of clients. Built-in commands that are not listed keep their names.
    pub commands: Vec<CommandWords>,
}

/// The envelope of an event: a JSON object of members, and the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventWords {
    /// The member with the data; empty if the data's own members are at the top level. Data that is
    /// not an object is then under `data`.
    pub data: String,
    /// The members of the envelope, in this order.
    pub members: Vec<Member>,
}

impl Default for EventWords {
    fn default() -> Self {
        EventWords {
            data: "data".into(),
            members: Member::ALL.to_vec(),
        }
    }
}

/// The envelope of a reply or a notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlWords {
    /// The member with the body; empty if the body's members are at the top level.
    pub data: String,
    /// The members besides the body, in this order.
    pub members: Vec<ControlMember>,
    /// How refused subscriptions are reported.
    pub refusals: Refusals,
    /// By built-in name, the names under which a message is sent, once each; an empty list
    /// suppresses it. Messages that are not listed keep their names.
    pub names: HashMap<String, Vec<String>>,
}

impl Default for ControlWords {
    fn default() -> Self {
        ControlWords {
            data: String::new(),
            members: vec![ControlMember::Type],
            refusals: Refusals::Subscribed,
            names: HashMap::new(),
        }
    }
}

/// A member besides the body of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlMember {
    /// `type`: the message's name.
    Type,
    /// `timestamp`: the current time.
    Timestamp,
}

/// How refused subscriptions are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusals {
    /// In the list `errors` of `subscribed`.
    Subscribed,
    /// Each in a separate `error`.
    Error,
}

/// A command of a custom dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandWords {
    /// Its name.
    pub name: String,
    /// The built-in command that it maps to.
    pub does: Kind,
    /// The template of the channel names, if the message does not name channels like the built-in
    /// command.
    pub channels: Option<Template>,
    /// Renamed members: the client's name and the built-in one.
    pub members: Vec<(String, String)>,
    /// Members of the message that its reply repeats.
    pub echo: Vec<String>,
}
