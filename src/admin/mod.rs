//! What operators may ask and do: one set of use cases that gRPC and HTTP both call.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;

use crate::audit::{Record, What};
use crate::auth::{Identity, is_name};
use crate::error::{Code, Error, Result};
use crate::event::{ChannelName, ConnectionId, Position};
use crate::hub::{ConnectionFilter, ConnectionInfo, ConnectionQuery};
use crate::session::{MAX_ANSWER_BYTES, Services};
use crate::telemetry::StatsSnapshot;

/// The most entries of one page.
const MAX_PAGE: usize = 1000;
/// Entries of a page that names no size.
const DEFAULT_PAGE: usize = 100;
/// The longest reason of a disconnect: what a close frame holds (RFC 6455 §5.5).
const MAX_REASON: usize = 123;

/// An operator's dealings with the server.
#[derive(Clone)]
pub struct Admin {
    services: Arc<Services>,
    /// The operator's name, for the audit log.
    by: Arc<str>,
}

/// A channel, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its name.
    pub channel: ChannelName,
    /// Subscriptions to it on this node.
    pub subscribers: u64,
    /// Its newest position; `None` where it keeps no history.
    pub position: Option<Position>,
}

/// Whom to disconnect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One connection.
    Connection(ConnectionId),
    /// All of a user's.
    User(String),
}

impl Admin {
    /// Only for holders of role `admin`.
    ///
    /// # Errors
    /// `permission_denied` for everyone else.
    pub fn new(services: &Arc<Services>, identity: &Identity) -> Result<Self> {
        if identity.is_admin() {
            let unnamed = || Arc::from("an operator");
            Ok(Admin {
                services: Arc::clone(services),
                by: identity.audited().cloned().unwrap_or_else(unnamed),
            })
        } else {
            let error = Error::denied("needs role admin");
            let record = Record {
                user: identity.user().map(|user| &**user),
                roles: identity.roles(),
                error: Some(&error),
                ..Record::default()
            };
            services.audit.note(What::Refused, &record);
            Err(error)
        }
    }

    /// The counters at this moment.
    #[must_use]
    pub fn stats(&self) -> StatsSnapshot {
        self.services.metrics.snapshot()
    }

    /// A page of connections, and the token of the next; an empty token is the start or the end. A
    /// page ends early where more would not fit an answer.
    ///
    /// # Errors
    /// `invalid_argument` for the fields `page_size` and `page_token`.
    pub async fn connections(
        &self,
        filter: ConnectionFilter,
        page_size: u32,
        page_token: &str,
    ) -> Result<(Vec<ConnectionInfo>, String)> {
        let size = page_size_of(page_size)?;
        let (mut shard, mut place) = parse_token(page_token)?;
        let hub = &self.services.hub;
        let (mut found, mut room) = (Vec::<ConnectionInfo>::new(), MAX_ANSWER_BYTES);
        while shard < hub.shards() {
            let query = ConnectionQuery {
                filter: filter.clone(),
                from: place,
                limit: size - found.len(),
                bytes: room,
            };
            let page = hub.list_connections(shard, query).await?;
            found.extend(page.connections);
            room = room.saturating_sub(page.bytes);
            (shard, place) = page.next.map_or((shard + 1, 0), |next| (shard, next));
            if (page.full || found.len() == size) && shard < hub.shards() {
                return Ok((found, format!("{shard}.{place}")));
            }
        }
        Ok((found, String::new()))
    }

    /// One connection.
    ///
    /// # Errors
    /// `not_found` where it has gone.
    pub async fn connection(&self, id: ConnectionId) -> Result<ConnectionInfo> {
        let connection = self.services.hub.connection(id).await?;
        connection.ok_or_else(|| Error::not_found("no such connection"))
    }

    /// Ends connections; answers how many. With `revoke`, first takes back the one connection's
    /// token, or all tokens of the user that were issued until now, and closes whatever else uses
    /// them with 4401.
    ///
    /// # Errors
    /// `not_found` where the one connection has gone; `invalid_argument` for `reason` and `user`;
    /// `failed_precondition` where it has shown no token that could be taken back;
    /// `resource_exhausted` where `auth.revocations` are kept already.
    pub async fn disconnect(&self, target: Target, reason: &str, revoke: bool) -> Result<u64> {
        if reason.len() > MAX_REASON {
            return Err(Error::field("reason", "expected at most 123 bytes"));
        }
        if let Target::User(user) = &target
            && !is_name(user)
        {
            let expected = "expected 1 to 255 bytes without control characters";
            return Err(Error::field("user", expected));
        }
        let reason = if reason.is_empty() {
            "disconnected by an operator"
        } else {
            reason
        };
        if revoke {
            let revoked = self.revoke(&target, reason).await;
            revoked.inspect_err(|error| {
                if error.code() == Code::ResourceExhausted {
                    self.services.metrics.limit_reached("revocations");
                }
            })?;
        }
        let (hub, by) = (&self.services.hub, &self.by);
        let ended = match target {
            Target::Connection(id) => {
                if hub
                    .disconnect(id, reason.to_owned(), Arc::clone(by))
                    .await?
                {
                    Ok(1)
                } else {
                    Err(Error::not_found("no such connection"))
                }
            }
            Target::User(user) => hub.disconnect_user(&user, reason, by).await,
        };
        if revoke {
            hub.check_identities();
        }
        ended
    }

    /// Revokes tokens before any connection is closed, so that no client can reconnect with one.
    async fn revoke(&self, target: &Target, reason: &str) -> Result<()> {
        let services = &self.services;
        let mut record = Record {
            reason: Some(reason),
            by: Some(&self.by),
            ..Record::default()
        };
        match target {
            Target::Connection(id) => {
                let gone = || Error::not_found("no such connection");
                let identity = services.hub.identity_of(*id).await?.ok_or_else(gone)?;
                services.verifier.revoke_token(&identity).await?;
                record.connection = Some(*id);
                record.user = identity.user().map(|user| &**user);
                services.audit.note(What::Revoke, &record);
            }
            Target::User(user) => {
                services.verifier.revoke_user(user).await?;
                record.user = Some(user);
                services.audit.note(What::Revoke, &record);
            }
        }
        services.metrics.revocations(services.verifier.sweep());
        Ok(())
    }

    /// A page of channels by name, and the token of the next.
    ///
    /// # Errors
    /// `invalid_argument` for the fields `page_size` and `page_token`.
    pub async fn channels(
        &self,
        prefix: &str,
        page_size: u32,
        page_token: &str,
    ) -> Result<(Vec<ChannelInfo>, String)> {
        let size = page_size_of(page_size)?;
        // Counted in characters, as the API's description does: no channel's name has others than
        // ASCII, so that what is longer in bytes only finds nothing.
        let is_long = |text: &str| text.chars().count() > ChannelName::MAX_LEN;
        if is_long(prefix) {
            return Err(Error::field("prefix", "expected at most 255 characters"));
        }
        if is_long(page_token) {
            return Err(Error::field(
                "page_token",
                "expected the next_page_token of the page before",
            ));
        }
        let followed = self
            .services
            .hub
            .routes()
            .list(prefix, page_token, size + 1);
        let kept = self
            .services
            .broker
            .list(prefix, page_token, size + 1)
            .await?;
        let mut channels: std::collections::BTreeMap<ChannelName, ChannelInfo> = followed
            .into_iter()
            .map(|(channel, subscribers)| {
                (
                    channel.clone(),
                    ChannelInfo {
                        channel,
                        subscribers,
                        position: None,
                    },
                )
            })
            .collect();
        for kept in kept {
            let channel = kept.channel.clone();
            let entry = channels.entry(channel.clone());
            entry
                .or_insert(ChannelInfo {
                    channel,
                    subscribers: 0,
                    position: None,
                })
                .position = Some(kept.top);
        }
        let mut page: Vec<ChannelInfo> = channels.into_values().collect();
        let more = page.len() > size;
        page.truncate(size);
        let next = if more {
            page.last().map(|last| last.channel.to_string())
        } else {
            None
        };
        Ok((page, next.unwrap_or_default()))
    }

    /// A backup of the store, in parts.
    ///
    /// # Errors
    /// As [`Broker::backup`](crate::broker::Broker::backup).
    pub fn backup(&self) -> Result<Receiver<Result<Bytes>>> {
        tracing::info!(by = %self.by, "a backup is made");
        self.services.broker.backup()
    }
}

/// The size of a page: 0 is the default.
///
/// # Errors
/// `invalid_argument` for the field `page_size`.
pub fn page_size_of(asked: u32) -> Result<usize> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT_PAGE),
        Ok(size) if size <= MAX_PAGE => Ok(size),
        _ => Err(Error::field("page_size", "expected at most 1000")),
    }
}

fn parse_token(token: &str) -> Result<(usize, u32)> {
    if token.is_empty() {
        return Ok((0, 0));
    }
    let wrong = || {
        Error::field(
            "page_token",
            "expected the next_page_token of the page before",
        )
    };
    let (shard, place) = token.split_once('.').ok_or_else(wrong)?;
    Ok((
        shard.parse().map_err(|_| wrong())?,
        place.parse().map_err(|_| wrong())?,
    ))
}
