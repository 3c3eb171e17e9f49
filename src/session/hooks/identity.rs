//! From an answer to an identity.

use std::net::IpAddr;
use std::sync::Arc;

use crate::auth::{Identity, StatedIdentity};
use crate::error::{Error, Result};
use crate::hooks::Answer;

/// The identity that an answer states for a client without a token.
///
/// # Errors
///
/// `internal` for claims that can't be read.
pub(super) fn stated(answer: &Answer, address: IpAddr) -> Result<Arc<Identity>> {
    let identity = Identity::stated(StatedIdentity {
        user: answer.user.as_deref(),
        roles: answer.roles.as_deref().unwrap_or_default(),
        claims: answer.claims.as_deref(),
        channels: &answer.channels,
        expires_at: answer.expires_at,
        stated_at: answer.received_at(),
        address,
    });
    identity.map(Arc::new).map_err(|_| unreadable())
}

/// The identity after the application has renewed it. What the answer leaves out stays, except for
/// the expiry.
///
/// # Errors
///
/// `permission_denied` for another user, `internal` for claims that can't be read.
pub(super) fn renewed(identity: &Identity, answer: &Answer) -> Result<Arc<Identity>> {
    let user = identity.user().map(|user| &**user);
    if answer.user.is_some() && answer.user.as_deref() != user {
        return Err(Error::denied(
            "a connection can't change its user: open another one",
        ));
    }
    let renewed = identity.renewed(
        answer.roles.as_deref(),
        answer.claims.as_deref(),
        answer.expires_at,
        answer.received_at(),
    );
    renewed.map(Arc::new).map_err(|_| unreadable())
}

fn unreadable() -> Error {
    Error::internal("the application states claims that can't be read")
}

/// True for three parts separated by dots, as a JWT has them. Any other token is the application's
/// own, and only the application can tell whose it is.
pub(super) fn is_jwt(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}
