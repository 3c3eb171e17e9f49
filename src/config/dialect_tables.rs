//! The tables of the TOML file that define dialects.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `[[dialect]]`: the message names and formats of another system's clients.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DialectConfig {
    /// Its name.
    pub name: String,
    /// Its transport.
    pub protocol: DialectProtocol,
    /// Its paths, in addition to `websocket.path` if that names it.
    pub paths: Vec<String>,
    /// The Socket.IO namespaces to which a client may connect.
    pub namespaces: Vec<String>,
    /// How an event is written.
    pub event: DialectEvent,
    /// How replies and the server's own messages are written.
    pub control: DialectControl,
    /// The client commands.
    pub command: Vec<DialectCommand>,
}

/// The transport of a dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum DialectProtocol {
    /// Messages of a WebSocket.
    #[serde(rename = "websocket")]
    WebSocket,
    /// Events of Socket.IO.
    #[serde(rename = "socket.io")]
    SocketIo,
}

/// `event` of a dialect.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DialectEvent {
    /// The member that holds the data; empty: the data's own members are at the top level.
    pub data: String,
    /// The members of the envelope that are written, in this order.
    pub members: Vec<String>,
}

/// `control` of a dialect.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DialectControl {
    /// The member that holds the body; empty: the body's members are at the top level.
    pub data: String,
    /// The members that are written besides the body: `type`, `timestamp`.
    pub members: Vec<String>,
    /// How refused channels are reported.
    pub refusals: DialectRefusals,
    /// Maps our name of a message to the dialect's names.
    pub names: BTreeMap<String, DialectNames>,
}

/// How it is said that a channel may not be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DialectRefusals {
    /// In the list `errors` of `subscribed`.
    Subscribed,
    /// Each in an `error` of its own.
    Error,
}

/// The dialect's names of a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum DialectNames {
    /// One name.
    One(String),
    /// Several: the message is sent once under each.
    Each(Vec<String>),
}

impl DialectNames {
    /// The names.
    #[must_use]
    pub fn list(&self) -> &[String] {
        match self {
            DialectNames::One(name) => std::slice::from_ref(name),
            DialectNames::Each(names) => names,
        }
    }
}

/// `command` of a dialect: something that a client may say.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DialectCommand {
    /// The dialect's name of the command.
    pub name: String,
    /// Our command that it maps to.
    pub does: String,
    /// The template of the channel names; empty: the message names channels as ours does.
    pub channels: String,
    /// Maps the dialect's members to ours.
    pub members: BTreeMap<String, String>,
    /// Members of the message that its reply repeats.
    pub echo: Vec<String>,
}
