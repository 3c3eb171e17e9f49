//! One message of a client, from its reading to its reply.

use std::sync::Arc;

use super::request::{Asked, Incoming};
use super::said::Said;
use super::voice::{Voice, say};
use crate::bus::Cx;
use crate::error::{CloseCode, Error, Result};
use crate::event::Timestamp;
use crate::session::{Services, Session};

/// Does what a client's message asks for. A message that is refused is answered with `error`, and
/// the connection lives. Takes one message's share of the client's rate.
pub fn handle(
    services: &Arc<Services>,
    voice: &Arc<dyn Voice>,
    cx: &mut Cx<'_>,
    incoming: &Incoming<'_>,
) {
    let (asked, read) = match cx.take_message() {
        Ok(()) => voice.dialect().read(incoming),
        // Even a refusal for the rate echoes the id.
        Err(error) => (voice.dialect().asked(incoming), Err(error.into())),
    };
    let turn = Turn {
        services: Arc::clone(services),
        voice: Arc::clone(voice),
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
pub fn greet(services: &Arc<Services>, voice: &Arc<dyn Voice>, cx: &mut Cx<'_>) {
    let turn = Turn {
        services: Arc::clone(services),
        voice: Arc::clone(voice),
        asked: Asked::default(),
    };
    let (interval, timeout) = cx.heartbeat_ms();
    let identity = cx.identity().cloned();
    let said = Said::ConnectionEstablished {
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
pub fn turn_away(voice: &dyn Voice, cx: &mut Cx<'_>, error: &Error) {
    cx.hub().metrics().error(error.code());
    say(voice, cx, &Asked::default(), &Said::Error(error));
    cx.close(CloseCode::for_code(error.code()), error.description());
}

/// What is at hand while one message is dealt with.
#[derive(Clone)]
pub(super) struct Turn {
    pub(super) services: Arc<Services>,
    pub(super) voice: Arc<dyn Voice>,
    pub(super) asked: Asked,
}

impl Turn {
    /// Replies.
    pub(super) fn say(&self, cx: &mut Cx<'_>, said: &Said<'_>) {
        say(&*self.voice, cx, &self.asked, said);
    }

    /// Says what is wrong with the message.
    pub(super) fn refuse(&self, cx: &mut Cx<'_>, error: &Error) {
        cx.hub().metrics().error(error.code());
        self.say(cx, &Said::Error(error));
    }

    /// What the client may do.
    ///
    /// # Errors
    /// `unauthenticated` where it has not shown who it is.
    pub(super) fn session(&self, cx: &Cx<'_>) -> Result<Session> {
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
    pub(super) fn auto_subscribe(&self, cx: &mut Cx<'_>) {
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
