//! `rpc`: calls a method of the application.

use super::CommandSpec;
use crate::error::Result;
use crate::event::Payload;
use crate::hub::ConnCtx;
use crate::proto;
use crate::protocol::json::arguments::Arguments;
use crate::protocol::request_ctx::RequestCtx;
use crate::protocol::server_message::ServerMessage;

/// Calls a method of the application behind the server.
#[derive(Debug, Clone)]
pub struct Rpc {
    /// The method.
    pub method: String,
    /// Its arguments, JSON; `None` without any.
    pub data: Option<Payload>,
}

impl CommandSpec for Rpc {
    type Protobuf = proto::RpcCommand;

    const MEMBERS: &'static [&'static str] = &["method", "data"];

    fn from_json(arguments: &Arguments<'_>) -> Result<Self> {
        Ok(Rpc {
            method: arguments.required_text("method")?.into_owned(),
            data: arguments.raw("data").map(Payload::from_json).transpose()?,
        })
    }

    fn from_protobuf(message: Self::Protobuf) -> Result<Self> {
        let data = (!message.data.is_empty()).then(|| Payload::new(message.data, ""));
        Ok(Rpc {
            method: message.method,
            data: data.transpose()?,
        })
    }

    fn run(self, req: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()> {
        let session = req.session(cx)?;
        let req = req.clone();
        cx.wait(
            session.rpc(&self.method, self.data),
            move |cx, result| match result {
                Ok(result) => req.reply(cx, &ServerMessage::Rpc(&result)),
                Err(error) => req.reply_error(cx, &error),
            },
        );
        Ok(())
    }
}
