//! `rpc`: a client calls a method of the application.

use bytes::Bytes;

use super::HookType;
use crate::auth::is_name;
use crate::error::{Error, Result};
use crate::event::Payload;
use crate::hooks::Question;
use crate::maybe_ready::MaybeReady;
use crate::session::Session;

impl Session {
    /// Calls a method of the application and returns its result, which is JSON.
    ///
    /// # Errors
    ///
    /// `failed_precondition` if the application takes no calls, `invalid_argument` for `method`, the
    /// application's refusal, or `unavailable` if it failed.
    pub fn rpc(&self, method: &str, data: Option<Payload>) -> MaybeReady<Payload> {
        if !is_name(method) {
            let expected = "expected 1 to 255 bytes without control characters";
            return MaybeReady::Ready(Err(Error::field("method", expected)));
        }
        let Some(hooks) = self.services.hooks_for(HookType::Rpc) else {
            let text = "the application takes no calls: hooks.ask does not list rpc";
            return MaybeReady::Ready(Err(Error::precondition(text)));
        };
        let question = Question {
            method: Some(method.into()),
            data,
            ..Question::new(HookType::Rpc, self.client())
        };
        hooks.ask(question, None).then(|answer| {
            let result = answer?.and_then(|answer| answer.data.clone());
            result.map_or_else(null, Ok)
        })
    }
}

/// The result of a method that returns nothing.
fn null() -> Result<Payload> {
    Payload::new(Bytes::from_static(b"null"), "")
}
