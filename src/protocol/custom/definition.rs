//! A dialect as data: what it calls things, as an operator writes it down.

use std::collections::HashMap;

use super::template::Template;
use crate::event::json::Member;
use crate::protocol::command::Kind;

/// What a dialect calls things. The default is the dialect `tidings`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Definition {
    /// How events are written.
    pub event: EventWords,
    /// How replies and the server's own messages are written.
    pub control: ControlWords,
    /// What clients say. Commands that are not listed keep their names.
    pub commands: Vec<CommandWords>,
}

/// How an event is written: an object of members of its envelope, and its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventWords {
    /// The member that carries the data; empty where the data's own members stand beside the
    /// others. Data that is no object then stands under `data`.
    pub data: String,
    /// Which members of the envelope are written, in this order.
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

/// How a reply or a message of the server's own is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlWords {
    /// The member that carries the body; empty where the body's members stand beside the others.
    pub data: String,
    /// What is written beside the body, in this order.
    pub members: Vec<ControlMember>,
    /// How it is said that a channel may not be followed.
    pub refusals: Refusals,
    /// By our name, the names under which a message is said; none is not at all. What is not here
    /// keeps its name.
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

/// Something that stands beside the body of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlMember {
    /// `type`: the message's name.
    Type,
    /// `timestamp`: now.
    Timestamp,
}

/// How it is said that a channel may not be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusals {
    /// In the list `errors` of `subscribed`.
    Subscribed,
    /// Each in an `error` of its own.
    Error,
}

/// Something that a client may say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandWords {
    /// What the client says.
    pub name: String,
    /// What it does.
    pub does: Kind,
    /// What the channels are made from, where the message does not name them as ours does.
    pub channels: Option<Template>,
    /// What the client calls our members: its name and ours.
    pub members: Vec<(String, String)>,
    /// Members of the message that its reply repeats.
    pub echo: Vec<String>,
}
