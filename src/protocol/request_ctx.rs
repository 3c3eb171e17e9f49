//! One message of a client, from decoding to the reply.

use std::sync::Arc;

use super::codec::{Decoder, MessageWriter};
use super::request::{Incoming, ReplyTo};
use super::server_message::ServerMessage;
use crate::error::{CloseCode, Error, Result};
use crate::event::Timestamp;
use crate::hub::ConnCtx;
use crate::session::{Services, Session};

/// Decodes a client's message and executes the command. A refused message is answered with `error`,
/// and the connection stays open. Each message counts against the client's rate limit.
pub fn handle(
    services: &Arc<Services>,
    decoder: &dyn Decoder,
    writer: &MessageWriter,
    cx: &mut ConnCtx<'_>,
    incoming: &Incoming<'_>,
) {
    let (reply_to, command) = match cx.take_message() {
        Ok(()) => decoder.decode(incoming),
        // A refusal because of the rate limit echoes the id, too.
        Err(error) => (decoder.reply_to(incoming), Err(error.into())),
    };
    let req = RequestCtx {
        services: Arc::clone(services),
        writer: writer.clone(),
        reply_to,
    };
    let outcome = match command {
        Ok(command) => command.run(&req, cx),
        Err(undecoded) if undecoded.guarded => {
            Err(req.session(cx).err().unwrap_or(undecoded.error))
        }
        Err(undecoded) => Err(undecoded.error),
    };
    if let Err(error) = outcome {
        req.reply_error(cx, &error);
    }
}

/// Sends the first message on a connection, and begins its automatic subscriptions.
pub fn send_welcome(services: &Arc<Services>, writer: &MessageWriter, cx: &mut ConnCtx<'_>) {
    let req = RequestCtx {
        services: Arc::clone(services),
        writer: writer.clone(),
        reply_to: ReplyTo::default(),
    };
    let (interval, timeout) = cx.heartbeat_ms();
    let identity = cx.identity().cloned();
    let welcome = ServerMessage::ConnectionEstablished {
        connection: cx.id(),
        identity: identity.as_deref(),
        heartbeat_interval_ms: interval,
        heartbeat_timeout_ms: timeout,
        now: Timestamp::now(),
    };
    req.reply(cx, &welcome);
    req.auto_subscribe(cx);
}

/// Sends an error on a connection that was just opened, and closes it.
pub fn reject(writer: &MessageWriter, cx: &mut ConnCtx<'_>, error: &Error) {
    cx.hub().metrics().error(error.code());
    writer.send(cx, &ReplyTo::default(), &ServerMessage::Error(error));
    cx.close(CloseCode::for_code(error.code()), error.description());
}

/// The context of one request.
#[derive(Clone)]
pub(super) struct RequestCtx {
    pub(super) services: Arc<Services>,
    writer: MessageWriter,
    reply_to: ReplyTo,
}

impl RequestCtx {
    /// Sends a reply.
    pub(super) fn reply(&self, cx: &mut ConnCtx<'_>, message: &ServerMessage<'_>) {
        self.writer.send(cx, &self.reply_to, message);
    }

    /// Replies with an error, and counts it.
    pub(super) fn reply_error(&self, cx: &mut ConnCtx<'_>, error: &Error) {
        cx.hub().metrics().error(error.code());
        self.reply(cx, &ServerMessage::Error(error));
    }

    /// The client's session.
    ///
    /// # Errors
    ///
    /// `unauthenticated` if the client has not authenticated yet.
    pub(super) fn session(&self, cx: &ConnCtx<'_>) -> Result<Session> {
        let identity = cx
            .identity()
            .ok_or_else(|| Error::unauthenticated("send authenticate with a token first"))?;
        Ok(Session::of_connection(&self.services, identity, cx))
    }

    /// Begins the automatic subscriptions.
    pub(super) fn auto_subscribe(&self, cx: &mut ConnCtx<'_>) {
        let Ok(session) = self.session(cx) else {
            return;
        };
        let mut request = session.auto_subscribe();
        // A channel to which the client is already subscribed keeps its filter.
        request
            .joins
            .retain(|join| cx.filter_of(&join.pattern).is_none());
        let services = Arc::clone(&self.services);
        cx.join(request, move |cx, joined, refused| {
            services.note_subscribed(cx.identity(), cx.id(), &joined, &refused);
        });
    }
}
