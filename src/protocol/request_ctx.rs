//! One message of a client, from its reading to its reply.

use std::sync::Arc;

use super::codec::{Framer, say};
use super::request::{Asked, Incoming};
use super::server_message::ServerMessage;
use crate::error::{CloseCode, Error, Result};
use crate::event::Timestamp;
use crate::hub::ConnCtx;
use crate::session::{Services, Session};

/// Does what a client's message asks for. A message that is refused is answered with `error`, and
/// the connection lives. Takes one message's share of the client's rate.
pub fn handle(
    services: &Arc<Services>,
    framer: &Arc<dyn Framer>,
    cx: &mut ConnCtx<'_>,
    incoming: &Incoming<'_>,
) {
    let (asked, read) = match cx.take_message() {
        Ok(()) => framer.dialect().read(incoming),
        // Even a refusal for the rate echoes the id.
        Err(error) => (framer.dialect().asked(incoming), Err(error.into())),
    };
    let turn = RequestCtx {
        services: Arc::clone(services),
        framer: Arc::clone(framer),
        asked,
    };
    let outcome = match read {
        Ok(command) => command.run(&turn, cx),
        Err(unread) if unread.guarded => Err(turn.session(cx).err().unwrap_or(unread.error)),
        Err(unread) => Err(unread.error),
    };
    if let Err(error) = outcome {
        turn.refuse(cx, &error);
    }
}

/// Says the first message on a connection, and begins the subscriptions that come by themselves.
pub fn send_welcome(services: &Arc<Services>, framer: &Arc<dyn Framer>, cx: &mut ConnCtx<'_>) {
    let turn = RequestCtx {
        services: Arc::clone(services),
        framer: Arc::clone(framer),
        asked: Asked::default(),
    };
    let (interval, timeout) = cx.heartbeat_ms();
    let identity = cx.identity().cloned();
    let said = ServerMessage::ConnectionEstablished {
        connection: cx.id(),
        identity: identity.as_deref(),
        heartbeat_interval_ms: interval,
        heartbeat_timeout_ms: timeout,
        now: Timestamp::now(),
    };
    turn.say(cx, &said);
    turn.auto_subscribe(cx);
}

/// Says on a connection that is just open why it can't stay, and closes it.
pub fn reject(framer: &dyn Framer, cx: &mut ConnCtx<'_>, error: &Error) {
    cx.hub().metrics().error(error.code());
    say(framer, cx, &Asked::default(), &ServerMessage::Error(error));
    cx.close(CloseCode::for_code(error.code()), error.description());
}

/// What is at hand while one message is dealt with.
#[derive(Clone)]
pub(super) struct RequestCtx {
    pub(super) services: Arc<Services>,
    pub(super) framer: Arc<dyn Framer>,
    pub(super) asked: Asked,
}

impl RequestCtx {
    /// Replies.
    pub(super) fn say(&self, cx: &mut ConnCtx<'_>, said: &ServerMessage<'_>) {
        say(&*self.framer, cx, &self.asked, said);
    }

    /// Says what is wrong with the message.
    pub(super) fn refuse(&self, cx: &mut ConnCtx<'_>, error: &Error) {
        cx.hub().metrics().error(error.code());
        self.say(cx, &ServerMessage::Error(error));
    }

    /// What the client may do.
    ///
    /// # Errors
    /// `unauthenticated` where it has not shown who it is.
    pub(super) fn session(&self, cx: &ConnCtx<'_>) -> Result<Session> {
        let identity = cx
            .identity()
            .ok_or_else(|| Error::unauthenticated("send authenticate with a token first"))?;
        Ok(Session::new(
            Arc::clone(&self.services),
            Arc::clone(identity),
            Some(cx.id()),
        ))
    }

    /// Begins the subscriptions that come by themselves.
    pub(super) fn auto_subscribe(&self, cx: &mut ConnCtx<'_>) {
        let Ok(session) = self.session(cx) else {
            return;
        };
        let mut request = session.auto_subscribe();
        // What the client already follows stays as it has set it up.
        request
            .joins
            .retain(|join| cx.filter_of(&join.pattern).is_none());
        cx.join(request, |_, _, _| {});
    }
}
