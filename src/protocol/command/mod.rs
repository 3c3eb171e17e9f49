//! What a client may ask for: one file for each command, and one line in the table below.

mod authenticate;
mod heartbeat_response;
mod history;
mod ping;
mod presence;
mod publish;
mod receive;
mod register;
mod subscribe;
mod unsubscribe;

pub use authenticate::Authenticate;
pub use heartbeat_response::HeartbeatResponse;
pub use history::History;
pub use ping::Ping;
pub use presence::Presence;
pub use publish::Publish;
pub use receive::Receive;
pub use register::Register;
pub use subscribe::Subscribe;
pub use unsubscribe::Unsubscribe;

use super::json::arguments::Arguments;
use super::request_ctx::RequestCtx;
use crate::error::{Error, Result};
use crate::hub::ConnCtx;

/// The channel that `event_types` without channels are about.
const GLOBAL: &str = "global";

/// One thing that a client may ask for.
pub(super) trait ClientCommand: Sized {
    /// True if it may be asked before the client has shown who it is.
    const OPEN: bool = false;

    /// The names of its arguments.
    const MEMBERS: &'static [&'static str];

    /// Takes it out of the arguments of a message.
    fn read(arguments: &Arguments<'_>) -> Result<Self>;

    /// Does it, and replies. An error is told to the client.
    fn run(self, turn: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()>;
}

macro_rules! commands {
    ($($name:literal => $command:ident,)*) => {
        /// Something that a client asks for, ready to be done.
        #[derive(Debug)]
        pub enum Command {
            $(#[doc = concat!("`", $name, "`.")] $command($command),)*
        }

        /// What kind of thing a client asks for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $(#[doc = concat!("`", $name, "`.")] $command,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Kind] = &[$(Kind::$command),*];

            /// What the dialect `tidings` calls it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$command => $name,)* }
            }

            /// True if it may be asked before the client has shown who it is.
            #[must_use]
            pub(super) const fn is_open(self) -> bool {
                match self { $(Kind::$command => <$command as ClientCommand>::OPEN,)* }
            }

            /// The names of its arguments, as the dialect `tidings` has them.
            #[must_use]
            pub const fn members(self) -> &'static [&'static str] {
                match self { $(Kind::$command => <$command as ClientCommand>::MEMBERS,)* }
            }

            /// Takes the command out of the arguments of a message.
            ///
            /// # Errors
            /// `invalid_argument` naming the field.
            pub(super) fn read(self, arguments: &Arguments<'_>) -> Result<Command> {
                match self {
                    $(Kind::$command => <$command as ClientCommand>::read(arguments).map(Command::$command),)*
                }
            }
        }

        impl Command {
            /// What kind of thing it is.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(Command::$command(_) => Kind::$command,)* }
            }

            /// Does it, and replies.
            ///
            /// # Errors
            /// What the client is to be told.
            pub(super) fn run(self, turn: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()> {
                match self { $(Command::$command(command) => ClientCommand::run(command, turn, cx),)* }
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
}

impl Kind {
    /// The kind with this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// True if it is about channels.
    #[must_use]
    pub fn names_channels(self) -> bool {
        let members = self.members();
        members.contains(&"channel") || members.contains(&"channels")
    }

    /// Every name, as a sentence has them: `a, b or c`.
    #[must_use]
    pub fn list() -> String {
        Self::list_after(&[])
    }

    fn list_after(own: &[&str]) -> String {
        let ours = Self::ALL.iter().map(|kind| kind.name());
        // A dialect may call something of its own by a name of ours.
        let ours = ours.filter(|name| !own.contains(name));
        let names: Vec<&str> = own.iter().copied().chain(ours).collect();
        match names.split_last() {
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }

    /// The refusal of a message with a name that is none of these, nor of those that a dialect
    /// has of its own.
    pub(super) fn unknown(name: &str, own: &[&str]) -> Error {
        let shown: String = name.chars().take(64).collect();
        let known = Self::list_after(own);
        Error::field("type", format!("expected {known}, not {shown:?}"))
    }
}
