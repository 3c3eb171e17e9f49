//! What back ends do with channels and users: cursors, purges, subscriptions of others.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{Client, Position, Result, proto};

/// How far a user has acknowledged a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The user.
    pub user: String,
    /// The name of the durable subscription.
    pub durable: String,
    /// The channel.
    pub channel: String,
    /// The acknowledged position.
    pub position: Option<Position>,
    /// When the cursor was last moved, or used.
    pub used_at: Option<SystemTime>,
}

impl From<proto::Cursor> for Cursor {
    fn from(cursor: proto::Cursor) -> Self {
        let since = |at: prost_types::Timestamp| {
            let seconds = Duration::from_secs(u64::try_from(at.seconds).ok()?);
            let nanos = Duration::from_nanos(u64::try_from(at.nanos).ok()?);
            UNIX_EPOCH.checked_add(seconds)?.checked_add(nanos)
        };
        Cursor {
            user: cursor.user,
            durable: cursor.durable,
            channel: cursor.channel,
            position: cursor.position.map(Position::from),
            used_at: cursor.used_at.and_then(since),
        }
    }
}

/// The cursors that a request selects, page by page. See [`Client::get_cursors`].
#[derive(Debug)]
pub struct Cursors {
    client: Client,
    // None after the last page.
    next: Option<proto::GetCursorsRequest>,
    ready: VecDeque<Cursor>,
}

impl Cursors {
    /// The next cursor, or `None` after the last one.
    ///
    /// # Errors
    /// As [`Client::history_page`]. The next call tries the same page again.
    pub async fn next(&mut self) -> Option<Result<Cursor>> {
        loop {
            if let Some(cursor) = self.ready.pop_front() {
                return Some(Ok(cursor));
            }
            let request = self.next.clone()?;
            let call = |request| {
                let mut events = self.client.events();
                async move { events.get_cursors(request).await }
            };
            let page = match self.client.call(call, request.clone(), true).await {
                Ok(page) => page,
                Err(error) => return Some(Err(error)),
            };
            self.ready
                .extend(page.cursors.into_iter().map(Cursor::from));
            let is_last = page.next_page_token.is_empty();
            let next = proto::GetCursorsRequest {
                page_token: page.next_page_token,
                ..request
            };
            self.next = Some(next).filter(|_| !is_last);
        }
    }
}

/// The result of [`Client::purge_history`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purged {
    /// The number of purged events.
    pub purged: u64,
    /// The channel's newest position, which a purge does not change.
    pub position: Option<Position>,
}

#[allow(clippy::missing_errors_doc, reason = "they fail like history_page")]
impl Client {
    /// Lists the cursors of durable subscriptions: who has acknowledged what. Fails like
    /// [`Client::history_page`], and needs role `service` or `admin`.
    #[must_use]
    pub fn get_cursors(&self, request: proto::GetCursorsRequest) -> Cursors {
        Cursors {
            client: self.clone(),
            next: Some(request),
            ready: VecDeque::new(),
        }
    }

    /// Removes events from a channel's history before their time. Fails like
    /// [`Client::history_page`], and needs role `service` or `admin`.
    pub async fn purge_history(&self, request: proto::PurgeHistoryRequest) -> Result<Purged> {
        let call = |request| {
            let mut events = self.events();
            async move { events.purge_history(request).await }
        };
        let answer = self.call(call, request, true).await?;
        Ok(Purged {
            purged: answer.purged,
            position: answer.position.map(Position::from),
        })
    }

    /// Subscribes the connections that a user has now, or one connection, to channels. Returns how
    /// many. Fails like [`Client::history_page`], and needs role `service` or `admin`.
    pub async fn subscribe_user(&self, request: proto::SubscribeUserRequest) -> Result<u64> {
        let call = |request| {
            let mut events = self.events();
            async move { events.subscribe_user(request).await }
        };
        Ok(self.call(call, request, true).await?.connections)
    }

    /// Ends subscriptions of a user's connections, or of one. Returns how many connections there
    /// are. Fails like [`Client::history_page`], and needs role `service` or `admin`.
    pub async fn unsubscribe_user(&self, request: proto::UnsubscribeUserRequest) -> Result<u64> {
        let call = |request| {
            let mut events = self.events();
            async move { events.unsubscribe_user(request).await }
        };
        Ok(self.call(call, request, true).await?.connections)
    }
}
