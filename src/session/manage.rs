//! What services do to channels and to the subscriptions of others.

use std::sync::Arc;

use super::{Session, about};
use crate::audit::{Record, What};
use crate::auth::is_name;
use crate::broker::{Purge, Purged};
use crate::cluster::{Control, To};
use crate::error::{Error, Result};
use crate::event::{ChannelName, ChannelPattern, ConnectionId, TypePattern};
use crate::fair_queue::Share;
use crate::filter::EventFilter;
use crate::hub::{Grant, GrantTo};

/// The most channels of one request.
const MAX_CHANNELS: usize = 256;

/// Subscriptions that a service makes or ends for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrantRequest {
    /// Whose connections.
    pub user: String,
    /// Or one connection, by its id.
    pub connection: String,
    /// The channels, or patterns.
    pub channels: Vec<String>,
    /// Event types; all if empty.
    pub event_types: Vec<String>,
    /// A CEL expression; none if empty.
    pub filter: String,
}

impl Session {
    /// Removes events from a channel's history for good.
    ///
    /// # Errors
    /// `permission_denied`; `invalid_argument` for `user`; `unavailable` while the store can't write.
    pub async fn purge(&self, channel: &ChannelName, purge: Purge) -> Result<Purged> {
        self.check_service()?;
        if purge.user.as_ref().is_some_and(|user| !is_name(user)) {
            return Err(wrong_user());
        }
        let purged = self.services.broker.purge(channel, purge.clone()).await?;
        if let Some(user) = &purge.user {
            self.services.cursors.forget(user, Some(channel)).await?;
        }
        self.services.metrics.purged(purged.events);
        let record = Record {
            connection: self.connection,
            channel: Some(channel.as_str()),
            reason: purge.user.as_deref(),
            ..Record::default()
        };
        let record = about(&self.identity, record);
        self.services.audit.note(What::Purge, &record);
        Ok(purged)
    }

    /// Subscribes a user's present connections, or one connection, whatever the rules say. Returns
    /// how many connections there are.
    ///
    /// # Errors
    /// `permission_denied`; `invalid_argument`, naming the field; `not_found` where the one
    /// connection has gone.
    pub async fn subscribe_other(&self, request: GrantRequest) -> Result<u64> {
        self.grant(request, true).await
    }

    /// Ends subscriptions of a user's connections, or of one connection.
    ///
    /// # Errors
    /// As [`Session::subscribe_other`].
    pub async fn unsubscribe_other(&self, request: GrantRequest) -> Result<u64> {
        self.grant(request, false).await
    }

    async fn grant(&self, request: GrantRequest, begins: bool) -> Result<u64> {
        self.check_service()?;
        let (to, grant_to) = match (request.user.as_str(), request.connection.as_str()) {
            (user, "") if is_name(user) => (To::All, GrantTo::User(user.into())),
            ("", connection) if !connection.is_empty() => {
                let id: ConnectionId = connection.parse()?;
                (To::Node(id.node()), GrantTo::Connection(id))
            }
            _ => return Err(wrong_user()),
        };
        if !(1..=MAX_CHANNELS).contains(&request.channels.len()) {
            return Err(Error::field("channels", "expected 1 to 256 channels"));
        }
        let patterns = request
            .channels
            .iter()
            .map(|name| ChannelPattern::parse(name));
        let types = request
            .event_types
            .iter()
            .map(|name| TypePattern::parse(name));
        let types = types.collect::<Result<Vec<TypePattern>>>()?;
        let condition = match request.filter.trim() {
            "" => None,
            source => {
                let share = Share::of_identity(Some(&self.identity));
                Some(self.services.hub.condition(source, share).await?)
            }
        };
        let is_one = matches!(grant_to, GrantTo::Connection(_));
        let grant = Grant {
            to: grant_to,
            patterns: patterns.collect::<Result<_>>()?,
            filter: EventFilter::with(types, condition)?,
            begins,
        };
        let audited: Vec<String> = grant.patterns.iter().map(ToString::to_string).collect();
        let control = Control::Grant(Arc::new(grant));
        let count = self.services.cluster.notify(to, control).await?;
        if is_one && count == 0 {
            return Err(Error::not_found("no such connection"));
        }
        for channel in &audited {
            let record = Record {
                channel: Some(channel),
                reason: Some(if begins { "subscribed" } else { "unsubscribed" }),
                ..Record::default()
            };
            let record = about(&self.identity, record);
            self.services.audit.note(What::Grant, &record);
        }
        Ok(count)
    }
}

fn wrong_user() -> Error {
    Error::field(
        "user",
        "expected a user of 1 to 255 bytes without control characters, or a connection_id",
    )
}
