//! The commands of clients: one file for each, and one line in the table below.
//!
//! To add a command `mute`:
//!
//! 1. `command/mute.rs`: its arguments, how JSON and protobuf carry them, and its execution
//!    ([`CommandSpec`]).
//! 2. `command/mod.rs`: `mod mute;` and its line in the table of [`commands!`].
//! 3. `server_message.rs`: the reply, if it has one of its own: a variant with its name and its
//!    members in JSON.
//! 4. `protobuf/encode.rs`: the same reply in protobuf.
//!
//! Also its messages in `proto/tidings/v1/messages.proto`, `docs/reference/protocol.md` and the
//! clients. The names of a command and of its reply reserve no event type: see
//! [`RESERVED_EVENT_TYPES`](crate::event::RESERVED_EVENT_TYPES).

mod ack;
mod authenticate;
mod heartbeat_response;
mod history;
mod ping;
mod presence;
mod publish;
mod receive;
mod register;
mod rpc;
mod subscribe;
mod unsubscribe;

pub use ack::Ack;
pub use authenticate::Authenticate;
pub use heartbeat_response::HeartbeatResponse;
pub use history::History;
pub use ping::Ping;
pub use presence::Presence;
pub use publish::Publish;
pub use receive::Receive;
pub use register::Register;
pub use rpc::Rpc;
pub use subscribe::Subscribe;
pub use unsubscribe::Unsubscribe;

use super::json::arguments::Arguments;
use super::request_ctx::RequestCtx;
use crate::error::{Error, Result};
use crate::hub::ConnCtx;
use crate::proto;

/// The channel to which `event_types` without channels apply.
const GLOBAL: &str = "global";

/// The definition of a command.
pub(super) trait CommandSpec: Sized {
    /// Its message in protobuf.
    type Protobuf;

    /// Whether a client may send it before it is authenticated.
    const OPEN: bool = false;

    /// The names of its arguments.
    const MEMBERS: &'static [&'static str];

    /// Parses it from the arguments of a JSON message.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the field.
    fn from_json(arguments: &Arguments<'_>) -> Result<Self>;

    /// Converts it from its protobuf message.
    ///
    /// # Errors
    ///
    /// `invalid_argument` with the field.
    fn from_protobuf(message: Self::Protobuf) -> Result<Self>;

    /// Executes it, and replies. The client gets the error as the reply.
    ///
    /// # Errors
    ///
    /// The reason for a refusal.
    fn run(self, req: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()>;
}

macro_rules! commands {
    ($($name:literal => $command:ident,)*) => {
        /// A command of a client, decoded.
        #[derive(Debug)]
        pub enum ClientCommand {
            $(#[doc = concat!("`", $name, "`.")] $command($command),)*
        }

        /// The kind of a command.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $(#[doc = concat!("`", $name, "`.")] $command,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Kind] = &[$(Kind::$command),*];

            /// Its name in the dialect `tidings`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$command => $name,)* }
            }

            /// Whether a client may send it before it is authenticated.
            #[must_use]
            pub(super) const fn is_open(self) -> bool {
                match self { $(Kind::$command => <$command as CommandSpec>::OPEN,)* }
            }

            /// The names of its arguments in the dialect `tidings`.
            #[must_use]
            pub const fn members(self) -> &'static [&'static str] {
                match self { $(Kind::$command => <$command as CommandSpec>::MEMBERS,)* }
            }

            /// Parses the command from the arguments of a JSON message.
            ///
            /// # Errors
            ///
            /// `invalid_argument` with the field.
            pub(super) fn parse_json(self, arguments: &Arguments<'_>) -> Result<ClientCommand> {
                match self {
                    $(Kind::$command => <$command as CommandSpec>::from_json(arguments).map(ClientCommand::$command),)*
                }
            }
        }

        /// Converts a command from its protobuf message.
        pub(super) fn from_protobuf(
            message: proto::client_message::Command,
        ) -> (Kind, Result<ClientCommand>) {
            use proto::client_message::Command as Message;
            match message {
                $(Message::$command(message) => {
                    let command = <$command as CommandSpec>::from_protobuf(message);
                    (Kind::$command, command.map(ClientCommand::$command))
                })*
            }
        }

        impl ClientCommand {
            /// Its kind.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(ClientCommand::$command(_) => Kind::$command,)* }
            }

            /// Executes it, and replies.
            ///
            /// # Errors
            ///
            /// The reason for a refusal: the client gets it as the reply.
            pub(super) fn run(self, req: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()> {
                match self { $(ClientCommand::$command(command) => CommandSpec::run(command, req, cx),)* }
            }
        }
    };
}

commands! {
    "authenticate" => Authenticate,
    "register" => Register,
    "subscribe" => Subscribe,
    "unsubscribe" => Unsubscribe,
    "publish" => Publish,
    "history" => History,
    "presence" => Presence,
    "ping" => Ping,
    "heartbeat_response" => HeartbeatResponse,
    "receive" => Receive,
    "ack" => Ack,
    "rpc" => Rpc,
}

impl Kind {
    /// The kind with this name. A client's message `pong` counts as the answer to a heartbeat.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        if name == "pong" {
            return Some(Kind::HeartbeatResponse);
        }
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Whether it has channels as an argument.
    #[must_use]
    pub fn names_channels(self) -> bool {
        let members = self.members();
        members.contains(&"channel") || members.contains(&"channels")
    }

    /// All names for an error message: `a, b or c`.
    #[must_use]
    pub fn list() -> String {
        Self::list_after(&[])
    }

    fn list_after(own: &[&str]) -> String {
        let ours = Self::ALL.iter().map(|kind| kind.name());
        // A dialect may use the name of a built-in command for a command of its own.
        let ours = ours.filter(|name| !own.contains(name));
        let names: Vec<&str> = own.iter().copied().chain(ours).collect();
        match names.split_last() {
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }

    /// The error for a message whose name is neither one of these nor one of the dialect's own.
    pub(super) fn unknown(name: &str, own: &[&str]) -> Error {
        let shown: String = name.chars().take(64).collect();
        let known = Self::list_after(own);
        Error::field("type", format!("expected {known}, not {shown:?}"))
    }
}
