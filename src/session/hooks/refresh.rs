//! `refresh`: renews the identity of an open connection.

use std::sync::Arc;

use super::identity::{is_jwt, renewed, stated};
use super::{ClientFacts, Connecting, HookType};
use crate::auth::Identity;
use crate::error::{CloseCode, Code, Result};
use crate::event::ConnectionId;
use crate::hooks::{Client, Question};
use crate::hub::ConnCtx;
use crate::maybe_ready::MaybeReady;
use crate::session::Services;

impl Services {
    /// The identity of a token that a client presents on an open connection. The application is
    /// asked `connect` about a client that was unknown so far, and `refresh` about another.
    pub fn present_token(
        self: &Arc<Self>,
        cx: &ConnCtx<'_>,
        token: &str,
    ) -> MaybeReady<Arc<Identity>> {
        let before = cx.identity().filter(|identity| identity.user().is_some());
        let kind = match before {
            Some(_) => HookType::Refresh,
            None => HookType::Connect,
        };
        if self.hooks_for(kind).is_none() {
            return self.verifier.verify(token);
        }
        let (services, before) = (Arc::clone(self), before.cloned());
        let (facts, id) = (ClientFacts::of(cx), cx.id());
        let token = Box::<str>::from(token);
        MaybeReady::later(async move {
            match before {
                Some(before) => services.refresh(&before, &token, &facts, id).await,
                None => services.introduce(&token, facts, id).await,
            }
        })
    }

    /// A token on a connection without a user.
    async fn introduce(
        self: &Arc<Self>,
        token: &str,
        facts: ClientFacts,
        id: ConnectionId,
    ) -> Result<Arc<Identity>> {
        let connecting = Connecting {
            token: Some(token),
            facts,
            id: Some(id),
            trace: None,
        };
        match self.connect(connecting).await? {
            Some(identity) => Ok(identity),
            // Nobody knows it: the reason is that of the token.
            None => self.verifier.verify(token).await,
        }
    }

    async fn refresh(
        self: &Arc<Self>,
        before: &Arc<Identity>,
        token: &str,
        facts: &ClientFacts,
        id: ConnectionId,
    ) -> Result<Arc<Identity>> {
        let verified = if is_jwt(token) {
            Some(self.verifier.verify(token).await?)
        } else {
            None
        };
        let hooks = self.hooks_for(HookType::Refresh);
        let Some(hooks) = hooks.filter(|_| !before.sees_all()) else {
            return match verified {
                Some(verified) => Ok(verified),
                None => self.verifier.verify(token).await,
            };
        };
        let identity = verified.as_ref().unwrap_or(before);
        let client = Client {
            id: Some(id),
            ..facts.client(Some(Arc::clone(identity)))
        };
        let question = Question {
            token: Some(Box::from(token)),
            ..Question::new(HookType::Refresh, client)
        };
        let answer = hooks.ask(question, None).await?;
        match (verified, answer) {
            (Some(verified), None) => Ok(verified),
            (Some(verified), Some(answer)) => {
                Ok(Arc::new(verified.with(&answer.channels, answer.expires_at)))
            }
            (None, None) => self.verifier.verify(token).await,
            (None, Some(answer)) if before.is_stated() => renewed(before, &answer),
            (None, Some(answer)) => stated(&answer, facts.address.ip()),
        }
    }
}

/// Renews the identity of a connection that the application has stated, before it expires. False if
/// the application is not asked: then the client must present a token.
pub fn renew_stated(services: &Arc<Services>, cx: &mut ConnCtx<'_>) -> bool {
    let stated = cx.identity().filter(|identity| identity.is_stated());
    let Some(before) = stated.cloned() else {
        return false;
    };
    let Some(hooks) = services.hooks_for(HookType::Refresh) else {
        return false;
    };
    let client = Client {
        id: Some(cx.id()),
        ..ClientFacts::of(cx).client(Some(Arc::clone(&before)))
    };
    let answer = hooks.ask(Question::new(HookType::Refresh, client), None);
    let services = Arc::clone(services);
    cx.wait_aside(answer, move |cx, answer| {
        let outcome = match answer {
            Ok(Some(answer)) => {
                let renewed = renewed(&before, &answer);
                renewed.and_then(|identity| cx.recognise(identity))
            }
            Ok(None) => return cx.renew_again(),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                cx.check_rights(&|identity, pattern, id| services.may_follow(identity, pattern, id))
            }
            // The application gave no answer. The identity holds until it expires.
            Err(error) if error.code() == Code::Unavailable => cx.renew_again(),
            Err(error) => cx.fail(&error, CloseCode::for_code(error.code())),
        }
    });
    true
}
