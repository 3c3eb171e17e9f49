//! Connecting to a namespace: who the client is, and whether it may be there.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::namespace_set::Place;
use super::packet::{Kind, head};
use super::protocol::NamespaceProtocol;
use super::state::Shown;
use crate::audit::{Record, What};
use crate::auth::{AuthFailure, Identity};
use crate::error::{Code, Error, Result};
use crate::hub::ConnCtx;
use crate::maybe_ready::MaybeReady;
use crate::protocol::{error_members, send_welcome};
use crate::session::Services;
use crate::telemetry::Transport;

/// What a client shows as it connects. Other members are the application's own.
#[derive(Default, Deserialize)]
struct Auth<'a> {
    #[serde(borrow, default)]
    token: Option<Token<'a>>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Token<'a>(#[serde(borrow)] Cow<'a, str>);

/// Lets a client into a namespace, or says why not. The token of `auth` counts first, then that of
/// the handshake.
pub(super) fn connect(
    protocol: &Arc<NamespaceProtocol>,
    cx: &mut ConnCtx<'_>,
    shown: Option<&Shown>,
    namespace: &str,
    auth: &str,
) {
    let place = match may_try(protocol, cx, namespace) {
        Ok(place) => place,
        Err(error) => return refuse(protocol, cx, namespace, &error),
    };
    if protocol.place == place {
        return welcome(protocol, cx);
    }
    let services = Arc::clone(&protocol.namespace_set.services);
    let mut span = None;
    let identity = match token(auth) {
        Err(error) => MaybeReady::Ready(Err(error)),
        Ok(Some(token)) => {
            span = Some(services.tracing.authenticate(None));
            services.verifier.verify(&token)
        }
        Ok(None) => MaybeReady::Ready(of_handshake(&services, shown)),
    };
    let (protocol, namespace) = (Arc::clone(protocol), namespace.to_owned());
    cx.set_unjudged(true);
    cx.wait(identity, move |cx, identity| {
        // The connection may have left polling for a WebSocket meanwhile.
        let protocol = protocol.now(cx);
        let let_in = identity.and_then(|identity| cx.recognise(identity));
        if let (Some(span), Err(error)) = (&mut span, &let_in) {
            span.set_error(error);
        }
        drop(span);
        let code = let_in.as_ref().err().map(Error::code);
        cx.set_unjudged(code == Some(Code::Unavailable));
        match let_in {
            Ok(()) => enter(&protocol, place, cx),
            Err(error) => {
                let address = cx.address();
                if let Some(address) = address {
                    services.note_rejection(address, Some(Transport::SocketIo), &error);
                }
                refuse(&protocol, cx, &namespace, &error);
            }
        }
    });
}

/// The place of a namespace that the client may try to connect to.
fn may_try(protocol: &NamespaceProtocol, cx: &mut ConnCtx<'_>, namespace: &str) -> Result<Place> {
    cx.take_message()?;
    let place = protocol.namespace_set.place_of(namespace);
    let place = place.ok_or_else(|| Error::not_found("Invalid namespace"))?;
    if protocol.place != Place::Lobby && protocol.place != place {
        return Err(Error::precondition(
            "this connection is in another namespace: open a second one (forceNew)",
        ));
    }
    Ok(place)
}

/// The token in what the client shows.
fn token(auth: &str) -> Result<Option<Cow<'_, str>>> {
    if auth.is_empty() {
        return Ok(None);
    }
    let wrong = || Error::field("auth", "expected an object, and in it token as a string");
    if !auth.starts_with('{') {
        return Err(wrong());
    }
    let auth: Auth<'_> = serde_json::from_str(auth).map_err(|_| wrong())?;
    Ok(auth.token.map(|token| token.0))
}

/// The handshake's identity.
fn of_handshake(services: &Services, shown: Option<&Shown>) -> Result<Arc<Identity>> {
    let identity = shown.map_or(Ok(None), |shown| (**shown).clone())?;
    identity.ok_or_else(|| services.verifier.refused(AuthFailure::Missing))
}

fn enter(protocol: &NamespaceProtocol, place: Place, cx: &mut ConnCtx<'_>) {
    let entered = NamespaceProtocol::new(&protocol.namespace_set, place, protocol.packing);
    cx.speak(Arc::<NamespaceProtocol>::clone(&entered));
    let services = &entered.namespace_set.services;
    let identity = cx.identity().cloned();
    let user = identity.as_ref().and_then(|identity| identity.user());
    if user.is_some() {
        let record = Record {
            connection: Some(cx.id()),
            user: user.map(|user| &**user),
            ..Record::default()
        };
        services.audit.note(What::Authenticated, &record);
    }
    welcome(&entered, cx);
    send_welcome(services, &entered.writer(), cx);
}

/// The client is connected: the id that it knows itself by is the connection's.
fn welcome(protocol: &NamespaceProtocol, cx: &mut ConnCtx<'_>) {
    if let Some(namespace) = protocol.namespace() {
        let body = json!({ "sid": cx.id().to_string() });
        let packet = format!("{}{body}", namespace.connect);
        protocol.send(cx, &packet);
    }
}

fn refuse(protocol: &NamespaceProtocol, cx: &mut ConnCtx<'_>, namespace: &str, error: &Error) {
    cx.hub().metrics().error(error.code());
    let body = json!({ "message": error.message(), "data": error_members(error) });
    let packet = format!("{}{body}", head(Kind::ConnectError, namespace));
    protocol.send(cx, &packet);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_in_an_object_beside_anything_else() {
        let read = |auth| token(auth).map(|token| token.map(Cow::into_owned));
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("{}"), Ok(None));
        assert_eq!(read(r#"{"token":null}"#), Ok(None));
        assert_eq!(
            read(r#"{"user":{"a":[1]},"token":"a.b.c"}"#),
            Ok(Some("a.b.c".to_owned()))
        );
        for wrong in ["[]", "5", r#"{"token":5}"#, "{", r#""token""#] {
            assert_eq!(
                read(wrong).unwrap_err().field_name(),
                Some("auth"),
                "{wrong}"
            );
        }
    }
}
