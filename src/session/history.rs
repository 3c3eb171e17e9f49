//! History and presence.

use std::sync::Arc;

use super::Session;
use crate::auth::may_see;
use crate::broker::{Page, Range, Share};
use crate::cluster::{Answer, DEADLINE, Query, To};
use crate::error::{Error, Result};
use crate::event::{ChannelName, Event, Position};
use crate::filter::EventFilter;
use crate::hub::Present;
use crate::maybe_ready::MaybeReady;

/// The most events of one page.
const MAX_PAGE: usize = 1000;
/// The most bytes of one page, about.
const MAX_PAGE_BYTES: usize = 1 << 20;
/// The most users in one presence reply.
const MAX_USERS: usize = 1000;

/// A query for one page of a channel's history.
#[derive(Debug, Clone)]
pub struct HistoryQuery {
    /// The channel.
    pub channel: ChannelName,
    /// Only events after this position (before it, if `reverse`).
    pub since: Option<Position>,
    /// The most events, 1 to 1,000.
    pub limit: usize,
    /// Newest first.
    pub reverse: bool,
}

/// One page of a channel's history: the events that this identity may see.
#[derive(Debug, Clone)]
pub struct HistoryPage {
    /// The channel's newest position.
    pub top: Position,
    /// The events.
    pub events: Vec<Arc<Event>>,
    /// Where the next page starts; `None` on the last page.
    pub next: Option<Position>,
}

impl Session {
    /// Reads a page of history. Roles and audiences filter it as they do live events.
    pub fn history(&self, query: HistoryQuery) -> MaybeReady<HistoryPage> {
        if let Err(error) = self.check_history(&query) {
            return MaybeReady::Ready(Err(error));
        }
        let Some(asked) = self.ask_reading(&query.channel) else {
            return self.read(query, None);
        };
        let session = self.clone();
        MaybeReady::later(async move {
            let filter = asked.await?;
            session.read(query, filter).await
        })
    }

    fn read(
        &self,
        query: HistoryQuery,
        filter: Option<Arc<EventFilter>>,
    ) -> MaybeReady<HistoryPage> {
        let HistoryQuery {
            channel,
            since,
            limit,
            reverse,
        } = query;
        let all = Range {
            bytes: MAX_PAGE_BYTES,
            ..Range::all(limit)
        };
        let range = match (since, reverse) {
            (Some(since), false) => Range {
                after: since.offset,
                ..all
            },
            (Some(since), true) => Range {
                until: since.offset.saturating_sub(1),
                reverse,
                ..all
            },
            (None, _) => Range { reverse, ..all },
        };
        let session = self.clone();
        self.services
            .broker
            .read_for(Share::of_identity(Some(&self.identity)), &channel, range)
            .then(move |page| session.page(&channel, since, page?, filter.as_deref()))
    }

    fn check_history(&self, query: &HistoryQuery) -> Result<()> {
        if !(1..=MAX_PAGE).contains(&query.limit) {
            return Err(Error::field("limit", "expected 1 to 1000"));
        }
        self.may_subscribe(&query.channel)?;
        self.services.take_channel(&self.identity, &query.channel)
    }

    fn page(
        &self,
        channel: &ChannelName,
        since: Option<Position>,
        page: Option<Page>,
        filter: Option<&EventFilter>,
    ) -> Result<HistoryPage> {
        let Some(page) = page else {
            return Err(Error::precondition(format!("{channel} keeps no history")));
        };
        if since.is_some_and(|since| since.epoch != page.top.epoch) {
            return Err(Error::new(
                crate::error::Code::OutOfRange,
                "since: the position is of another epoch: read from the start",
            ));
        }
        let mut events = page.events;
        let cut = self.fitting(&events);
        let more = page.more || cut < events.len();
        events.truncate(cut);
        let last = events.last().and_then(|event| event.position);
        let next = if more { last } else { None };
        let visible = events.into_iter().filter(|event| {
            let roles = self.services.hub.type_roles(&event.event_type);
            may_see(
                event,
                roles.as_deref(),
                Some(&self.identity),
                self.connection,
            ) && self.passes(filter, event)
        });
        Ok(HistoryPage {
            top: page.top,
            events: visible.collect(),
            next,
        })
    }

    /// How many of these events make one page: at least one, and what an outbox can take.
    fn fitting(&self, events: &[Arc<Event>]) -> usize {
        let limit = MAX_PAGE_BYTES.min(self.services.hub.settings().outbox_bytes / 2);
        let mut bytes: usize = 0;
        let fits = events.iter().take_while(|event| {
            bytes = bytes.saturating_add(event.weight());
            bytes <= limit
        });
        fits.count().max(1)
    }

    /// The users in a channel.
    ///
    /// # Errors
    /// `permission_denied` without the right to subscribe, `failed_precondition` if the namespace has
    /// no presence.
    pub fn presence(&self, channel: &ChannelName) -> MaybeReady<Present> {
        if let Err(error) = self.may_subscribe(channel) {
            return MaybeReady::Ready(Err(error));
        }
        if !self.services.hub.namespaces().of(channel).presence {
            let error = Error::precondition(format!("{channel} keeps no presence"));
            return MaybeReady::Ready(Err(error));
        }
        let Some(asked) = self.ask_reading(channel) else {
            return self.present(channel);
        };
        let (session, channel) = (self.clone(), channel.clone());
        MaybeReady::later(async move {
            asked.await?;
            session.present(&channel).await
        })
    }

    fn present(&self, channel: &ChannelName) -> MaybeReady<Present> {
        let query = Query::Presence {
            channel: channel.clone(),
            limit: MAX_USERS,
        };
        let survey = self.services.cluster.survey(To::All, query, DEADLINE);
        survey.then(|survey| {
            let answers = survey?.answers.into_iter();
            let present = answers.filter_map(|(_, answer)| match answer {
                Answer::Presence(present) => Some(present),
                Answer::Stats(_)
                | Answer::Connections(_)
                | Answer::Ranked(_)
                | Answer::Connection(_)
                | Answer::Identity(_)
                | Answer::Channels(_) => None,
            });
            Ok(Present::merged(present, MAX_USERS))
        })
    }
}
