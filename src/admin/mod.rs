//! The operations of operators: one set of use cases that gRPC and HTTP both call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;

use crate::audit::{Record, What};
use crate::auth::{Identity, is_name};
use crate::cluster::{Answer, ConnectionsQuery, Control, DEADLINE, Place, Query, To};
use crate::error::{Code, Error, Result};
use crate::event::{ChannelName, ConnectionId, NodeId, Position};
use crate::hub::{ConnectionFilter, ConnectionInfo};
use crate::session::{MAX_ANSWER_BYTES, Services};
use crate::telemetry::StatsSnapshot;

/// The most entries of one page.
const MAX_PAGE: usize = 1000;
/// The default page size.
const DEFAULT_PAGE: usize = 100;
/// The longest reason of a disconnect: the capacity of a close frame (RFC 6455 §5.5).
const MAX_REASON: usize = 123;

/// The operations of one operator.
#[derive(Clone)]
pub struct Admin {
    services: Arc<Services>,
    /// The operator's name, for the audit log.
    by: Arc<str>,
}

/// A channel, as shown to operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// Its name.
    pub channel: ChannelName,
    /// Subscriptions to it on this node.
    pub subscribers: u64,
    /// Its newest position; `None` if it keeps no history.
    pub position: Option<Position>,
}

/// The connections to close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One connection.
    Connection(ConnectionId),
    /// All connections of a user.
    User(String),
}

impl Admin {
    /// Requires the role `admin`.
    ///
    /// # Errors
    ///
    /// `permission_denied` without it.
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

    /// The current counters of this node.
    ///
    /// # Errors
    ///
    /// `unavailable` if the node does not answer.
    pub async fn stats(&self) -> Result<StatsSnapshot> {
        match self.ask(self.services.cluster.node(), Query::Stats).await? {
            Some(Answer::Stats(stats)) => Ok(*stats),
            _ => Err(no_answer()),
        }
    }

    /// The current counters of this node, for `WatchStats`.
    #[must_use]
    pub fn stats_here(&self) -> StatsSnapshot {
        self.services.metrics.snapshot()
    }

    /// A page of connections, and the token of the next; an empty token is the start or the end. A
    /// page ends early if the response would become too large. Nodes follow one another by number.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for the fields `page_size` and `page_token`.
    pub async fn connections(
        &self,
        filter: ConnectionFilter,
        page_size: u32,
        page_token: &str,
    ) -> Result<(Vec<ConnectionInfo>, String)> {
        let size = page_size_of(page_size)?;
        let (start, mut from) = parse_token(page_token)?;
        let (mut found, mut room) = (Vec::<ConnectionInfo>::new(), MAX_ANSWER_BYTES);
        for node in self.services.cluster.nodes() {
            if node < start {
                continue;
            }
            if node > start {
                from = Place::default();
            }
            if found.len() == size {
                return Ok((found, page_token_of(node, from)));
            }
            let query = Query::Connections(ConnectionsQuery {
                filter: filter.clone(),
                from,
                limit: size - found.len(),
                bytes: room,
            });
            let Some(Answer::Connections(page)) = self.ask(node, query).await? else {
                continue;
            };
            found.extend(page.connections);
            room = room.saturating_sub(page.bytes);
            if let Some(next) = page.next {
                return Ok((found, page_token_of(node, next)));
            }
        }
        Ok((found, String::new()))
    }

    /// One connection.
    ///
    /// # Errors
    ///
    /// `not_found` if it no longer exists.
    pub async fn connection(&self, id: ConnectionId) -> Result<ConnectionInfo> {
        match self.ask(id.node(), Query::Connection(id)).await? {
            Some(Answer::Connection(Some(connection))) => Ok(*connection),
            _ => Err(gone()),
        }
    }

    /// Queries one node; `None` if there is no such node.
    async fn ask(&self, node: NodeId, query: Query) -> Result<Option<Answer>> {
        let cluster = &self.services.cluster;
        let survey = cluster.survey(To::Node(node), query, DEADLINE).await?;
        if !survey.unreachable.is_empty() {
            return Err(no_answer());
        }
        Ok(survey.answers.into_iter().next().map(|(_, answer)| answer))
    }

    /// Closes connections and returns how many. With `revoke`, first revokes the connection's
    /// token, or all tokens issued to the user until now, and closes all other connections that use
    /// them with 4401.
    ///
    /// # Errors
    ///
    /// `not_found` if the connection no longer exists; `invalid_argument` for `reason` and `user`;
    /// `failed_precondition` if it has no token that could be revoked; `resource_exhausted` if
    /// there are `auth.revocations` already.
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
        let (cluster, by) = (&self.services.cluster, Arc::clone(&self.by));
        let (to, control) = match &target {
            Target::Connection(connection) => {
                let control = Control::Disconnect {
                    connection: *connection,
                    reason: reason.to_owned(),
                    by,
                };
                (To::Node(connection.node()), control)
            }
            Target::User(user) => {
                let control = Control::DisconnectUser {
                    user: Arc::from(user.as_str()),
                    reason: Arc::from(reason),
                    by,
                };
                (To::All, control)
            }
        };
        let ended = cluster.notify(to, control).await;
        if revoke {
            cluster.notify(To::All, Control::Revoked).await?;
        }
        match (target, ended) {
            (Target::Connection(_), Ok(0)) => Err(gone()),
            (_, ended) => ended,
        }
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
                let answer = self.ask(id.node(), Query::Identity(*id)).await?;
                let Some(Answer::Identity(Some(identity))) = answer else {
                    return Err(gone());
                };
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
        // Counted in characters, as in the API's description: channel names are ASCII, so a name
        // that is longer in bytes only matches nothing.
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
        let query = Query::Channels {
            prefix: prefix.to_owned(),
            after: page_token.to_owned(),
            limit: size + 1,
        };
        let survey = self.services.cluster.survey(To::All, query, DEADLINE);
        let mut channels = BTreeMap::<ChannelName, ChannelInfo>::new();
        for (_, answer) in survey.await?.answers {
            let Answer::Channels(followed) = answer else {
                continue;
            };
            for (channel, subscribers) in followed {
                entry(&mut channels, channel).subscribers += subscribers;
            }
        }
        let kept = self
            .services
            .broker
            .list(prefix, page_token, size + 1)
            .await?;
        for kept in kept {
            entry(&mut channels, kept.channel).position = Some(kept.top);
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

fn gone() -> Error {
    Error::not_found("no such connection")
}

fn no_answer() -> Error {
    Error::unavailable("the node does not answer").retry_after(Duration::from_secs(1))
}

fn entry(
    channels: &mut BTreeMap<ChannelName, ChannelInfo>,
    channel: ChannelName,
) -> &mut ChannelInfo {
    let unknown = ChannelInfo {
        channel: channel.clone(),
        subscribers: 0,
        position: None,
    };
    channels.entry(channel).or_insert(unknown)
}

/// The token of a page of connections: node, shard and slot at which it starts.
fn page_token_of(node: NodeId, Place { shard, slot }: Place) -> String {
    format!("{node}.{shard}.{slot}")
}

fn parse_token(token: &str) -> Result<(NodeId, Place)> {
    if token.is_empty() {
        return Ok((NodeId::default(), Place::default()));
    }
    let parse = || {
        let mut parts = token.split('.');
        let node = parts.next()?.parse().ok()?;
        let shard = parts.next()?.parse().ok()?;
        let slot = parts.next()?.parse().ok()?;
        let is_whole = parts.next().is_none();
        is_whole.then_some((node, Place { shard, slot }))
    };
    parse().ok_or_else(|| {
        Error::field(
            "page_token",
            "expected the next_page_token of the page before",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_token_contains_node_shard_and_slot() {
        let (node, place) = (NodeId::new(7), Place { shard: 3, slot: 90 });
        let token = page_token_of(node, place);
        assert_eq!(token, "7.3.90");
        assert_eq!(parse_token(&token).unwrap(), (node, place));
        assert_eq!(parse_token("").unwrap(), (NodeId::ALONE, Place::default()));
    }

    #[test]
    fn old_page_token_is_refused_with_field_name() {
        for token in [
            "3.90",
            "3",
            "1.2.3.4",
            "x.0.0",
            "-1.0.0",
            "70000.0.0",
            "0..0",
        ] {
            let error = parse_token(token).unwrap_err();
            assert_eq!(error.field_name(), Some("page_token"), "{token}");
        }
    }
}
