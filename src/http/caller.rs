//! Who calls.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::Shared;
use super::observe::Trace;
use super::reply::Refusal;
use crate::admin::Admin;
use crate::auth::{Identity, bearer};
use crate::error::{Error, Result};
use crate::session::{Services, Session};

/// Who calls, by the token of the header `Authorization`. What needs a token asks for a `Caller`:
/// without one there is nobody to act for.
pub(super) struct Caller {
    services: Arc<Services>,
    identity: Arc<Identity>,
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let services = Arc::clone(&shared.services);
        let token = bearer(&parts.headers).ok_or_else(|| services.verifier.missing())?;
        let parent = parts.extensions.get::<Trace>();
        let _span = services
            .tracing
            .authenticate(parent.and_then(Trace::context));
        let identity = services.verifier.verify(token).await?;
        Ok(Caller { services, identity })
    }
}

impl Caller {
    /// The operators' use cases.
    ///
    /// # Errors
    /// `permission_denied` without role `admin`.
    pub(super) fn admin(&self) -> Result<Admin> {
        Admin::new(&self.services, &self.identity)
    }

    /// The session, for what the rules of each namespace allow or refuse.
    pub(super) fn session(&self) -> Session {
        Session::new(Arc::clone(&self.services), Arc::clone(&self.identity), None)
    }

    /// The session, for what only services may do.
    ///
    /// # Errors
    /// `permission_denied` without role `service` or `admin`.
    pub(super) fn service(&self) -> Result<Session> {
        if self.identity.is_service() {
            Ok(self.session())
        } else {
            Err(Error::denied("needs role service or admin"))
        }
    }
}
