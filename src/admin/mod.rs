//! The operations of operators: one set of use cases that gRPC and HTTP both call.
//!
//! A [`Viewer`] looks and changes nothing; an [`Admin`] is a viewer that may also act.

mod channels;
mod connections;
mod explain;
mod server_info;
mod viewer;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;

use crate::audit::{Record, What};
use crate::auth::{Identity, is_name};
use crate::cluster::{Answer, Control, Query, To};
use crate::error::{Code, Error, Result};
use crate::event::ConnectionId;
use crate::session::Services;

pub use channels::{ChannelInfo, ChannelOrder, ChannelsQuery};
pub use connections::{ConnectionsAnswer, ConnectionsRequest, parse_order};
pub use explain::ExplainRequest;
pub use server_info::{LimitUse, NodeInfo, ServerInfo};
pub use viewer::{ClusterStats, Viewer};

/// The most entries of one page.
const MAX_PAGE: usize = 1000;
/// The default page size.
const DEFAULT_PAGE: usize = 100;
/// The longest reason of a disconnect: the capacity of a close frame (RFC 6455 §5.5).
const MAX_REASON: usize = 123;

/// The operations of one operator.
#[derive(Clone)]
pub struct Admin {
    viewer: Viewer,
    /// The operator's name, for the audit log.
    by: Arc<str>,
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
                viewer: Viewer {
                    services: Arc::clone(services),
                },
                by: identity.audited().cloned().unwrap_or_else(unnamed),
            })
        } else {
            Err(refused(services, identity, "needs role admin"))
        }
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
                    self.viewer.services.metrics.limit_reached("revocations");
                }
            })?;
        }
        let (cluster, by) = (&self.viewer.services.cluster, Arc::clone(&self.by));
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
        let services = &self.viewer.services;
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

    /// Queues the dead letters of a webhook of this node again, or of all if `url` is empty. Failing
    /// webhooks are tried at once. Returns how many events were queued.
    ///
    /// # Errors
    /// `not_found` if there is no webhook with this URL; `unavailable` if the queue can't be written.
    pub async fn resend_webhooks(&self, url: &str) -> Result<u64> {
        let services = &self.viewer.services;
        let resent = match &services.webhooks {
            Some(webhooks) => webhooks.resend(url).await?,
            None if url.is_empty() => 0,
            None => return Err(Error::not_found("no webhook with this URL")),
        };
        let record = Record {
            reason: (!url.is_empty()).then_some(url),
            by: Some(&self.by),
            ..Record::default()
        };
        services.audit.note(What::ResendWebhooks, &record);
        Ok(resent)
    }

    /// A backup of the store, in parts.
    ///
    /// # Errors
    /// As [`Broker::backup`](crate::broker::Broker::backup).
    pub fn backup(&self) -> Result<Receiver<Result<Bytes>>> {
        tracing::info!(by = %self.by, "a backup is made");
        self.viewer.services.broker.backup()
    }
}

impl Deref for Admin {
    type Target = Viewer;

    fn deref(&self) -> &Viewer {
        &self.viewer
    }
}

/// The refusal of somebody without the role, audited.
fn refused(services: &Services, identity: &Identity, needs: &'static str) -> Error {
    let error = Error::denied(needs);
    let record = Record {
        user: identity.user().map(|user| &**user),
        roles: identity.roles(),
        error: Some(&error),
        ..Record::default()
    };
    services.audit.note(What::Refused, &record);
    error
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
