//! `subscribe`: whether a client may follow a channel, and which of its events.
//!
//! History and presence of a channel are for those who may follow it, so the same question is asked
//! before a client reads them.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::HookType;
use crate::error::{Code, Error, Result};
use crate::event::{ChannelName, Event, TypePattern};
use crate::fair_queue::Share;
use crate::filter::expression::Steps;
use crate::filter::{EventFilter, EventView};
use crate::hooks::{Answer, Client, Hooks, Question};
use crate::hub::{Join, JoinRequest, Refused};
use crate::maybe_ready::MaybeReady;
use crate::session::Session;

/// The answer about a channel; `None` if the rules decide alone.
type Asked = Result<Option<Arc<Answer>>>;

impl Session {
    /// Asks about each subscription of a request. Refused ones are reported with the rest.
    pub(in crate::session) fn ask_subscribe(
        &self,
        request: JoinRequest,
    ) -> MaybeReady<JoinRequest> {
        if request.joins.is_empty() {
            return MaybeReady::ok(request);
        }
        let Some((hooks, client)) = self.asked(HookType::Subscribe) else {
            return MaybeReady::ok(request);
        };
        let session = self.clone();
        MaybeReady::later(async move {
            let answers = ask_all(&hooks, &client, &request.joins).await;
            session.narrow(request, answers).await
        })
    }

    /// Applies the answers: refuses, or adds the application's filter to the client's.
    async fn narrow(&self, mut request: JoinRequest, answers: Vec<Asked>) -> Result<JoinRequest> {
        let joins = std::mem::take(&mut request.joins);
        for (mut join, answer) in joins.into_iter().zip(answers) {
            let narrowed = match answer {
                Ok(answer) => {
                    self.own_filter(request.filter.as_ref(), answer.as_deref())
                        .await
                }
                Err(error) => Err(error),
            };
            match narrowed {
                Ok(filter) => {
                    join.filter = filter;
                    request.joins.push(join);
                }
                Err(error) => request.refused.push(Refused {
                    channel: join.pattern.to_string(),
                    error,
                }),
            }
        }
        Ok(request)
    }

    /// The client's filter and the application's in one. `None` if the application has none.
    async fn own_filter(
        &self,
        client: Option<&Arc<EventFilter>>,
        answer: Option<&Answer>,
    ) -> Result<Option<Arc<EventFilter>>> {
        let Some(own) = answer.and_then(|answer| answer.filter.as_deref()) else {
            return Ok(None);
        };
        let key = client.map(|filter| filter.key());
        let types: Vec<TypePattern> = key.map_or_else(Vec::new, |key| key.types().to_vec());
        // Both are complete expressions by themselves. The line breaks end their comments.
        let source = match key.and_then(|key| key.source()) {
            Some(client) => format!("({own}\n) && ({client}\n)"),
            None => own.to_owned(),
        };
        let share = Share::of_identity(Some(&self.identity));
        // By itself, so that nothing that only fits together with the client's filter passes.
        let condition = self.services.hub.condition(own, share).await;
        let condition = condition.map_err(|error| {
            if error.code() != Code::InvalidArgument {
                return error;
            }
            let reason = error.description();
            tracing::warn!(
                reason,
                "the application's filter for a subscription is invalid"
            );
            Error::internal("the application's filter is not valid")
        })?;
        if source == own {
            return EventFilter::with(types, Some(condition));
        }
        let both = self.services.hub.condition(&source, share).await;
        let both = both.map_err(|error| {
            if error.code() != Code::InvalidArgument {
                return error;
            }
            Error::field(
                "filter",
                "too long or too deep together with the filter of the application",
            )
        })?;
        EventFilter::with(types, Some(both))
    }

    /// Asks about reading a channel. The application's filter applies to what is read.
    pub(in crate::session) fn ask_reading(
        &self,
        channel: &ChannelName,
    ) -> Option<MaybeReady<Option<Arc<EventFilter>>>> {
        let (hooks, client) = self.asked(HookType::Subscribe)?;
        let question = Question {
            channel: Some(channel.to_string()),
            ..Question::new(HookType::Subscribe, client)
        };
        let session = self.clone();
        Some(MaybeReady::later(async move {
            let answer = hooks.ask(question, None).await?;
            session.own_filter(None, answer.as_deref()).await
        }))
    }

    /// Whether the application's filter lets an event of history pass. A filter that fails or takes
    /// too many steps lets nothing pass.
    pub(in crate::session) fn passes(&self, filter: Option<&EventFilter>, event: &Event) -> bool {
        let Some(filter) = filter else {
            return true;
        };
        let steps = Steps::new(self.services.hub.settings().filters.steps);
        filter.ask(&EventView::new(event), &steps).unwrap_or(false)
    }
}

/// Asks about all channels at the same time, and returns the answers in their order.
async fn ask_all(hooks: &Arc<Hooks>, client: &Client, joins: &[Join]) -> Vec<Asked> {
    let mut tasks = JoinSet::new();
    for (at, join) in joins.iter().enumerate() {
        let question = Question {
            channel: Some(join.pattern.to_string()),
            ..Question::new(HookType::Subscribe, client.clone())
        };
        let hooks = Arc::clone(hooks);
        tasks.spawn(async move { (at, hooks.ask(question, None).await) });
    }
    let mut answers: Vec<Asked> = joins
        .iter()
        .map(|_| Err(Error::internal("the application was not asked")))
        .collect();
    while let Some(done) = tasks.join_next().await {
        if let Ok((at, answer)) = done
            && let Some(place) = answers.get_mut(at)
        {
            *place = answer;
        }
    }
    answers
}
