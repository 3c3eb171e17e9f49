//! `publish`: whether a client may publish an event, and with which data.

use std::sync::Arc;

use super::HookType;
use crate::error::{Error, Result};
use crate::event::{Draft, Payload, TraceContext};
use crate::hooks::{Answer, Client, Hooks, Question};
use crate::session::Session;

impl Session {
    /// The hooks and the client, if the application is asked about its publishes.
    pub(in crate::session) fn asked_to_publish(&self) -> Option<(Arc<Hooks>, Client)> {
        self.asked(HookType::Publish)
    }

    /// Asks about one event, and replaces its data if the answer says so. `has_key` if the client has
    /// set the conflation key.
    ///
    /// # Errors
    ///
    /// The application's refusal, or `internal` for data that no client could publish.
    pub(in crate::session) async fn ask_publish(
        &self,
        hooks: &Arc<Hooks>,
        client: &Client,
        draft: &mut Draft,
        has_key: bool,
        trace: Option<TraceContext>,
    ) -> Result<()> {
        let question = Question {
            channel: draft.channel.as_ref().map(ToString::to_string),
            event_type: Some(draft.event_type.as_str().to_owned()),
            data: Some(draft.payload.clone()),
            ..Question::new(HookType::Publish, client.clone())
        };
        let answer: Option<Arc<Answer>> = hooks.ask(question, trace).await?;
        let Some(payload) = answer.and_then(|answer| answer.data.clone()) else {
            return Ok(());
        };
        self.check_replaced(draft, &payload).map_err(|error| {
            let reason = error.message();
            tracing::warn!(reason, "the application's data for an event is invalid");
            Error::internal(format!(
                "the application's data can't be published: {reason}"
            ))
        })?;
        if !has_key {
            let catalog = self.services.catalog.load();
            draft.key = catalog.conflation_key(&draft.event_type, &payload);
        }
        draft.payload = payload;
        Ok(())
    }

    fn check_replaced(&self, draft: &Draft, payload: &Payload) -> Result<()> {
        let most = self.services.limits.load().event_bytes;
        if payload.data().len() > most {
            let expected = format!("expected at most {most} bytes (limits.event_bytes)");
            return Err(Error::field("data", expected));
        }
        let catalog = self.services.catalog.load();
        catalog.check_payload(&draft.event_type, payload)
    }
}
