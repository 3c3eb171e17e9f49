//! `authenticate`: presents a token.

use std::fmt;
use std::sync::Arc;

use super::CommandSpec;
use crate::audit::{Record, What};
use crate::error::{Code, Error, Result};
use crate::hub::ConnCtx;
use crate::proto;
use crate::protocol::json::arguments::Arguments;
use crate::protocol::request_ctx::RequestCtx;
use crate::protocol::server_message::ServerMessage;

/// Authenticates, or renews the token of the same user.
#[derive(Clone, PartialEq, Eq)]
pub struct Authenticate {
    /// The token, a JWT.
    pub token: String,
}

impl fmt::Debug for Authenticate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticate").finish_non_exhaustive()
    }
}

impl CommandSpec for Authenticate {
    type Protobuf = proto::AuthenticateCommand;

    const MEMBERS: &'static [&'static str] = &["token"];
    const OPEN: bool = true;

    fn from_json(arguments: &Arguments<'_>) -> Result<Self> {
        let token = arguments.required_text("token")?.into_owned();
        Ok(Authenticate { token })
    }

    fn from_protobuf(message: Self::Protobuf) -> Result<Self> {
        Ok(Authenticate {
            token: message.token,
        })
    }

    fn run(self, req: &RequestCtx, cx: &mut ConnCtx<'_>) -> Result<()> {
        let mut span = req.services.tracing.authenticate(None);
        let verified = req.services.present_token(cx, &self.token);
        let req = req.clone();
        cx.set_unjudged(true);
        cx.wait(verified, move |cx, verified| {
            let known = cx
                .identity()
                .is_some_and(|identity| identity.user().is_some());
            let outcome = verified
                .and_then(|identity| cx.recognise(Arc::clone(&identity)).map(|()| identity));
            if let Err(error) = &outcome {
                span.set_error(error);
            }
            drop(span);
            let code = outcome.as_ref().err().map(Error::code);
            cx.set_unjudged(code == Some(Code::Unavailable));
            note(&req, cx, outcome.as_ref().err());
            match outcome {
                Ok(identity) => {
                    req.reply(cx, &ServerMessage::Authenticated(&identity));
                    cx.check_rights(&|identity, pattern, id| {
                        req.services.may_follow(identity, pattern, id)
                    });
                    if !known {
                        req.auto_subscribe(cx);
                    }
                }
                Err(error) => req.reply_error(cx, &error),
            }
        });
        Ok(())
    }
}

/// Audits the result of an authentication.
fn note(req: &RequestCtx, cx: &ConnCtx<'_>, error: Option<&Error>) {
    let identity = cx.identity();
    let record = Record {
        connection: Some(cx.id()),
        user: identity.and_then(|i| i.user()).map(|user| &**user),
        error,
        ..Record::default()
    };
    let what = match error.map(Error::code) {
        None => What::Authenticated,
        Some(Code::Unavailable) => What::Refused,
        Some(_) => What::AuthenticationFailed,
    };
    req.services.audit.note(what, &record);
    if let (Some(error), Some(address)) = (error, cx.address()) {
        req.services.log_rejected_token(address, cx.id(), error);
    }
}
