//! `connect`: whether a client may connect, and who it is if it has no token.

use std::sync::Arc;

use super::identity::{is_jwt, stated};
use super::{ClientFacts, HookType};
use crate::auth::Identity;
use crate::error::Result;
use crate::event::{ConnectionId, TraceContext};
use crate::hooks::{Client, Question};
use crate::session::Services;

/// A client that connects.
pub struct Connecting<'a> {
    /// The token that it has presented.
    pub token: Option<&'a str>,
    /// What questions say of it.
    pub facts: ClientFacts,
    /// Its connection, if it is open already.
    pub id: Option<ConnectionId>,
    /// The span of its request.
    pub trace: Option<&'a TraceContext>,
}

impl Services {
    /// Whether the application is asked about clients that connect.
    #[must_use]
    pub fn asks_connect(&self) -> bool {
        self.hooks_for(HookType::Connect).is_some()
    }

    /// Verifies the token and asks the application. `None` if neither says who the client is: then
    /// it connects as if there were no hooks. A token that is no JWT is passed to the application
    /// unverified.
    ///
    /// # Errors
    ///
    /// That of the token, or the application's refusal.
    pub async fn connect(&self, connecting: Connecting<'_>) -> Result<Option<Arc<Identity>>> {
        let Connecting {
            token,
            facts,
            id,
            trace,
        } = connecting;
        let verified = match token.filter(|token| is_jwt(token)) {
            Some(token) => {
                let mut span = self.tracing.authenticate(trace);
                let identity = self.verifier.verify(token).await;
                Some(identity.inspect_err(|error| span.set_error(error))?)
            }
            None => None,
        };
        self.connect_as(verified, token, &facts, id, trace).await
    }

    /// The same for a client whose token is verified already.
    ///
    /// # Errors
    ///
    /// The application's refusal.
    pub async fn connect_as(
        &self,
        verified: Option<Arc<Identity>>,
        token: Option<&str>,
        facts: &ClientFacts,
        id: Option<ConnectionId>,
        trace: Option<&TraceContext>,
    ) -> Result<Option<Arc<Identity>>> {
        // Services and operators must get in while the application is down.
        let is_exempt = verified
            .as_ref()
            .is_some_and(|identity| identity.sees_all());
        let Some(hooks) = self.hooks_for(HookType::Connect).filter(|_| !is_exempt) else {
            return Ok(verified);
        };
        let client = Client {
            id,
            ..facts.client(verified.clone())
        };
        let question = Question {
            token: token.map(Box::from),
            ..Question::new(HookType::Connect, client)
        };
        let Some(answer) = hooks.ask(question, trace.cloned()).await? else {
            return Ok(verified);
        };
        if let Some(verified) = verified {
            if answer.channels.is_empty() && answer.expires_at.is_none() {
                return Ok(Some(verified));
            }
            let identity = verified.with(&answer.channels, answer.expires_at);
            return Ok(Some(Arc::new(identity)));
        }
        if answer.user.is_none() && self.limits.load().auth_required {
            return Ok(None);
        }
        stated(&answer, facts.address.ip()).map(Some)
    }
}
