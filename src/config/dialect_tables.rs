//! The tables of the TOML file that say what clients and server call things.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `[[dialect]]`: what clients and server call things.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DialectConfig {
    /// Its name.
    pub name: String,
    /// What carries it.
    pub protocol: DialectProtocol,
    /// Paths where it is spoken, beside `websocket.path` if that names it.
    pub paths: Vec<String>,
    /// The Socket.IO namespaces to which a client may connect.
    pub namespaces: Vec<String>,
    /// How an event is written.
    pub event: DialectEvent,
    /// How replies and the server's own messages are written.
    pub control: DialectControl,
    /// What clients say.
    pub command: Vec<DialectCommand>,
}

/// What carries a dialect.
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
    /// The member that carries the data; empty: the data's own members stand beside the others.
    pub data: String,
    /// Which members of the envelope are written, in this order.
    pub members: Vec<String>,
}

/// `control` of a dialect.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DialectControl {
    /// The member that carries the body; empty: the body's members stand beside the others.
    pub data: String,
    /// What is written beside the body: `type`, `timestamp`.
    pub members: Vec<String>,
    /// How it is said that a channel may not be followed.
    pub refusals: DialectRefusals,
    /// By our name, what a message is called.
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

/// What a message is called.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum DialectNames {
    /// This.
    One(String),
    /// All of these: it is said once under each.
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
    /// What the client says.
    pub name: String,
    /// What it does, by the name of our command.
    pub does: String,
    /// What the channels are made from; empty: they are named as ours are.
    pub channels: String,
    /// Their members and ours.
    pub members: BTreeMap<String, String>,
    /// Members of the message that its reply repeats.
    pub echo: Vec<String>,
}
