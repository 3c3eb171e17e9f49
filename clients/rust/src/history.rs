//! Reads what was published in a channel.

use std::collections::VecDeque;

use crate::{Client, Event, Position, Result, proto};

/// Selects a part of a channel's history.
#[derive(Debug, Clone, Default)]
pub struct History {
    request: proto::GetHistoryRequest,
}

impl History {
    /// All of a channel's history, oldest first.
    pub fn of(channel: impl Into<String>) -> Self {
        History {
            request: proto::GetHistoryRequest {
                channel: channel.into(),
                ..proto::GetHistoryRequest::default()
            },
        }
    }

    /// Only events after this position, or before it with [`History::reverse`].
    #[must_use]
    pub fn since(mut self, position: Position) -> Self {
        self.request.since = Some(position.into());
        self
    }

    /// Newest first.
    #[must_use]
    pub fn reverse(mut self) -> Self {
        self.request.reverse = true;
        self
    }

    /// Events per page: 1 to 1,000. Default: 100.
    #[must_use]
    pub fn page_size(mut self, events: u32) -> Self {
        self.request.page_size = events;
        self
    }

    /// The page that follows one with this [`HistoryPage::next_page_token`].
    #[must_use]
    pub fn page_token(mut self, token: impl Into<String>) -> Self {
        self.request.page_token = token.into();
        self
    }
}

/// A page of a channel's history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryPage {
    /// The events.
    pub events: Vec<Event>,
    /// The channel's newest position.
    pub position: Option<Position>,
    /// Empty on the last page.
    pub next_page_token: String,
}

impl Client {
    /// Reads one page of a channel's history.
    ///
    /// # Errors
    /// The server's refusal. `Unavailable` or `DeadlineExceeded` if it cannot be reached in time.
    pub async fn history_page(&self, what: History) -> Result<HistoryPage> {
        let call = |request| {
            let mut events = self.events();
            async move { events.get_history(request).await }
        };
        let page = self.call(call, what.request, true).await?;
        Ok(HistoryPage {
            events: page.events.into_iter().map(Event::from).collect(),
            position: page.position.map(Position::from),
            next_page_token: page.next_page_token,
        })
    }

    /// Reads a channel's history, page by page. Call [`HistoryEvents::next`] in a loop.
    #[must_use]
    pub fn history(&self, what: History) -> HistoryEvents {
        HistoryEvents {
            client: self.clone(),
            next: Some(what),
            events: VecDeque::new(),
        }
    }
}

/// The events of a channel's history. See [`Client::history`].
#[derive(Debug)]
pub struct HistoryEvents {
    client: Client,
    // None after the last page.
    next: Option<History>,
    events: VecDeque<Event>,
}

impl HistoryEvents {
    /// The next event, or `None` after the last one.
    ///
    /// # Errors
    /// As [`Client::history_page`]. The next call tries the same page again.
    pub async fn next(&mut self) -> Option<Result<Event>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(Ok(event));
            }
            let what = self.next.as_ref()?;
            let page = match self.client.history_page(what.clone()).await {
                Ok(page) => page,
                Err(error) => return Some(Err(error)),
            };
            self.events.extend(page.events);
            self.next = self
                .next
                .take()
                .filter(|_| !page.next_page_token.is_empty());
            self.next = self
                .next
                .take()
                .map(|what| what.page_token(page.next_page_token));
        }
    }
}
