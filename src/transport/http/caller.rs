//! The authenticated caller.

use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use http::request::Parts;

use super::Shared;
use super::observe::Trace;
use super::parameters::Parameters;
use super::query::Query;
use super::reply::Refusal;
use crate::admin::{Admin, Viewer};
use crate::auth::{AuthFailure, Identity, bearer};
use crate::error::Result;
use crate::session::{ClientFacts, Services, Session};

/// The caller, authenticated by the token of the header `Authorization`. A handler that needs a
/// token takes a `Caller`, so it can't run without one.
pub(super) struct Caller {
    services: Arc<Services>,
    identity: Arc<Identity>,
    /// What questions to the application say of it; `None` without hooks.
    facts: Option<ClientFacts>,
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let services = Arc::clone(&shared.services);
        let parent = parts.extensions.get::<Trace>();
        let mut span = services
            .tracing
            .authenticate(parent.and_then(Trace::context));
        let token = bearer(&parts.headers);
        let without =
            matches!(token, Ok(None)).then(|| shared.access.without_token(&parts.extensions));
        let identity = match (
            token.and_then(|token| token.ok_or(AuthFailure::Missing)),
            without,
        ) {
            (_, Some(Some(identity))) => Ok(identity),
            (Ok(token), _) => services.verifier.verify(token).await,
            (Err(failure), _) => Err(services.verifier.refused(failure)),
        };
        let identity = identity.inspect_err(|error| {
            span.set_error(error);
            if let Some(ConnectInfo(address)) = parts.extensions.get() {
                services.note_rejection(*address, None, error);
            }
        })?;
        check_parameters(parts)?;
        let facts = match parts.extensions.get() {
            Some(ConnectInfo(address)) if services.has_hooks() => {
                let headers = Some(&parts.headers);
                Some(services.client_facts("http", *address, headers)?)
            }
            _ => None,
        };
        Ok(Caller {
            services,
            identity,
            facts,
        })
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
    /// What operators may look at.
    ///
    /// # Errors
    /// `permission_denied` without role `admin` or `viewer`.
    pub(super) fn viewer(&self) -> Result<Viewer> {
        Viewer::new(&self.services, &self.identity)
    }

    /// What operators may do.
    ///
    /// # Errors
    ///
    /// `permission_denied` without role `admin`.
    pub(super) fn admin(&self) -> Result<Admin> {
        Admin::new(&self.services, &self.identity)
    }

    /// The session, for operations that the rules of each namespace authorize.
    pub(super) fn session(&self) -> Session {
        let (services, identity) = (Arc::clone(&self.services), Arc::clone(&self.identity));
        let session = Session::new(services, identity, None);
        match &self.facts {
            Some(facts) => session.with_facts(|| facts.clone()),
            None => session,
        }
    }

    /// The session, for whoever may see every channel.
    ///
    /// # Errors
    /// `permission_denied` without role `service`, `admin` or `viewer`.
    pub(super) fn reader(&self) -> Result<Session> {
        let session = self.session();
        session.check_reader()?;
        Ok(session)
    }

    /// Fails if the token of the request would not be taken any more.
    ///
    /// # Errors
    /// `unauthenticated`.
    pub(super) fn still_good(&self) -> Result<()> {
        let verifier = &self.services.verifier;
        let refused = |failure| verifier.refused(failure);
        verifier.recheck(&self.identity).map_err(refused)
    }

    /// Who calls.
    pub(super) fn identity(&self) -> &Arc<Identity> {
        &self.identity
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
