//! The authenticated caller.

use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use http::request::Parts;

use super::Shared;
use super::observe::Trace;
use super::parameters::Parameters;
use super::query::Query;
use super::reply::Refusal;
use crate::admin::Admin;
use crate::auth::{AuthFailure, Identity, bearer};
use crate::error::Result;
use crate::session::{Services, Session};

/// The caller, authenticated by the token of the header `Authorization`. A handler that needs a
/// token takes a `Caller`, so it can't run without one.
pub(super) struct Caller {
    services: Arc<Services>,
    identity: Arc<Identity>,
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let services = Arc::clone(&shared.services);
        let parent = parts.extensions.get::<Trace>();
        let mut span = services
            .tracing
            .authenticate(parent.and_then(Trace::context));
        let token = bearer(&parts.headers).and_then(|token| token.ok_or(AuthFailure::Missing));
        let identity = match token {
            Ok(token) => services.verifier.verify(token).await,
            Err(failure) => Err(services.verifier.refused(failure)),
        };
        let identity = identity.inspect_err(|error| {
            span.set_error(error);
            if let Some(ConnectInfo(address)) = parts.extensions.get() {
                services.note_rejection(*address, None, error);
            }
        })?;
        check_parameters(parts)?;
        Ok(Caller { services, identity })
    }
}

/// A reader of the API documents: anyone, or if `public.documents` requires it, holders of a token.
pub(super) struct Reader;

impl FromRequestParts<Shared> for Reader {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        if shared.services.limits.load().open_documents {
            check_parameters(parts)?;
        } else {
            Caller::from_request_parts(parts, shared).await?;
        }
        Ok(Reader)
    }
}

/// Refuses an unknown parameter, after the caller is authenticated.
fn check_parameters(parts: &Parts) -> Result<()> {
    let Some(parameters) = parts.extensions.get::<Parameters>() else {
        return Ok(());
    };
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    parameters.check(&query)
}

impl Caller {
    /// The operators' use cases.
    ///
    /// # Errors
    ///
    /// `permission_denied` without role `admin`.
    pub(super) fn admin(&self) -> Result<Admin> {
        Admin::new(&self.services, &self.identity)
    }

    /// The session, for operations that the rules of each namespace authorize.
    pub(super) fn session(&self) -> Session {
        Session::new(Arc::clone(&self.services), Arc::clone(&self.identity), None)
    }

    /// The session, for operations of services only.
    ///
    /// # Errors
    ///
    /// `permission_denied` without role `service` or `admin`.
    pub(super) fn service(&self) -> Result<Session> {
        let session = self.session();
        session.check_service()?;
        Ok(session)
    }
}
