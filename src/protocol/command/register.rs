//! `register`: the client's type and name.

use super::CommandSpec;
use crate::error::{Error, Result};
use crate::hub::{Client, ConnCtx};
use crate::proto;
use crate::protocol::json::arguments::Arguments;
use crate::protocol::request_ctx::RequestCtx;
use crate::protocol::server_message::ServerMessage;

/// The longest client type or name, in bytes.
const MAX_TEXT: usize = 64;

/// Sets the client's type and name, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// Such as `gui` or `mobile`.
    pub client_type: String,
    /// Its name; may be empty.
    pub client_name: String,
}

impl CommandSpec for Register {
    type Protobuf = proto::RegisterCommand;

    const MEMBERS: &'static [&'static str] = &["client_type", "client_name"];
    const OPEN: bool = true;

    fn from_json(arguments: &Arguments<'_>) -> Result<Self> {
        let text = |name| Ok::<_, Error>(arguments.text(name)?.unwrap_or_default().into_owned());
        Ok(Register {
            client_type: text("client_type")?,
            client_name: text("client_name")?,
        })
    }

    fn from_protobuf(message: Self::Protobuf) -> Result<Self> {
        Ok(Register {
            client_type: message.client_type,
            client_name: message.client_name,
        })
    }

    fn run(self, req: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()> {
        check("client_type", &self.client_type)?;
        if self.client_type.is_empty() {
            let text = "expected a string, and it is missing";
            return Err(Error::field("client_type", text));
        }
        check("client_name", &self.client_name)?;
        let client = Client {
            kind: self.client_type.into(),
            name: self.client_name.into(),
        };
        cx.register(client.clone());
        req.reply(cx, &ServerMessage::Registered(&client));
        Ok(())
    }
}

fn check(name: &'static str, text: &str) -> Result<()> {
    if text.len() <= MAX_TEXT && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let expected = "expected at most 64 bytes without control characters";
    Err(Error::field(name, expected))
}
