//! Connecting to a namespace: authenticates the client and enters the namespace.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::namespace_set::Slot;
use super::packet::{Kind, head};
use super::protocol::NamespaceProtocol;
use super::state::HandshakeIdentity;
use crate::audit::{Record, What};
use crate::auth::{AuthFailure, Identity};
use crate::error::{Code, Error, Result};
use crate::hub::ConnCtx;
use crate::maybe_ready::MaybeReady;
use crate::protocol::{error_members, send_welcome};
use crate::session::{ClientFacts, Connecting, Services};
use crate::telemetry::Transport;

/// The `auth` object of a CONNECT packet. Other members are the application's own.
#[derive(Default, Deserialize)]
struct Auth<'a> {
    #[serde(borrow, default)]
    token: Option<Token<'a>>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Token<'a>(#[serde(borrow)] Cow<'a, str>);

/// Connects a client to a namespace or sends `CONNECT_ERROR`. The token of `auth` takes precedence over
/// that of the handshake.
pub(super) fn connect(
    protocol: &Arc<NamespaceProtocol>,
    cx: &mut ConnCtx<'_>,
    handshake: Option<&HandshakeIdentity>,
    namespace: &str,
    auth: &str,
) {
    let slot = match check_namespace(protocol, cx, namespace) {
        Ok(slot) => slot,
        Err(error) => return refuse(protocol, cx, namespace, &error),
    };
    if protocol.slot == slot {
        return welcome(protocol, cx);
    }
    let services = Arc::clone(&protocol.namespace_set.services);
    let mut span = None;
    let identity = match token(auth) {
        Ok(token) if services.asks_connect() => ask(&services, cx, handshake, token.as_deref()),
        Err(error) => MaybeReady::Ready(Err(error)),
        Ok(Some(token)) => {
            span = Some(services.tracing.authenticate(None));
            services.verifier.verify(&token)
        }
        Ok(None) => MaybeReady::Ready(handshake_identity(&services, handshake)),
    };
    let (protocol, namespace) = (Arc::clone(protocol), namespace.to_owned());
    cx.set_unjudged(true);
    cx.wait(identity, move |cx, identity| {
        // Meanwhile the connection may have upgraded to a WebSocket.
        let protocol = protocol.now(cx);
        let connected = identity.and_then(|identity| cx.recognise(identity));
        if let (Some(span), Err(error)) = (&mut span, &connected) {
            span.set_error(error);
        }
        drop(span);
        let code = connected.as_ref().err().map(Error::code);
        cx.set_unjudged(code == Some(Code::Unavailable));
        match connected {
            Ok(()) => enter(&protocol, slot, cx),
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

/// The slot of a namespace that clients may connect to.
fn check_namespace(
    protocol: &NamespaceProtocol,
    cx: &mut ConnCtx<'_>,
    namespace: &str,
) -> Result<Slot> {
    cx.take_message()?;
    let slot = protocol.namespace_set.slot_of(namespace);
    let slot = slot.ok_or_else(|| Error::not_found("Invalid namespace"))?;
    if protocol.slot != Slot::Unconnected && protocol.slot != slot {
        return Err(Error::precondition(
            "this connection is in another namespace: open a second one (forceNew)",
        ));
    }
    Ok(slot)
}

/// The token of the `auth` object.
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
fn handshake_identity(
    services: &Services,
    handshake: Option<&HandshakeIdentity>,
) -> Result<Arc<Identity>> {
    let identity = handshake.map_or(Ok(None), |handshake| (**handshake).clone())?;
    identity.ok_or_else(|| services.verifier.refused(AuthFailure::Missing))
}

/// Verifies the token of `auth`, or takes the handshake's identity, and asks the application.
fn ask(
    services: &Arc<Services>,
    cx: &ConnCtx<'_>,
    handshake: Option<&HandshakeIdentity>,
    token: Option<&str>,
) -> MaybeReady<Arc<Identity>> {
    let (services, facts, id) = (Arc::clone(services), ClientFacts::of(cx), Some(cx.id()));
    if let Some(token) = token {
        let token = Box::<str>::from(token);
        return MaybeReady::later(async move {
            let connecting = Connecting {
                token: Some(&token),
                facts,
                id,
                trace: None,
            };
            match services.connect(connecting).await? {
                Some(identity) => Ok(identity),
                None => services.verifier.verify(&token).await,
            }
        });
    }
    let verified = match handshake.map_or(Ok(None), |handshake| (**handshake).clone()) {
        Ok(verified) => verified,
        Err(error) => return MaybeReady::Ready(Err(error)),
    };
    MaybeReady::later(async move {
        // An anonymous client has no token: the application says who it is.
        let known = verified.clone().filter(|identity| !identity.is_anonymous());
        let asked = services.connect_as(known, None, &facts, id, None).await?;
        let missing = || services.verifier.refused(AuthFailure::Missing);
        asked.or(verified).ok_or_else(missing)
    })
}

fn enter(protocol: &NamespaceProtocol, slot: Slot, cx: &mut ConnCtx<'_>) {
    let entered = NamespaceProtocol::new(&protocol.namespace_set, slot, protocol.packing);
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

/// Confirms the CONNECT; the `sid` is the connection's id.
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
    fn token_is_a_member_of_the_auth_object() {
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
