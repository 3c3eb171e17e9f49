//! The state of a connection between two reads.

use std::any::Any;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::auth::Identity;
use crate::error::Result;
use crate::hub::ConnCtx;
use tidings_websocket::frame::Assembly;

/// An idle connection in a namespace has none of it.
#[derive(Default)]
pub(super) struct State {
    /// A partial WebSocket message.
    pub(super) assembly: Option<Box<Assembly>>,
    /// The handshake's identity, until the client has connected to a namespace.
    pub(super) handshake: Option<HandshakeIdentity>,
    /// Notifies the POST that all of its packets are handled.
    pub(super) posted: Option<oneshot::Sender<()>>,
}

/// The identity of the handshake: `None` if a token must still be presented.
pub(super) type HandshakeIdentity = Arc<Result<Option<Arc<Identity>>>>;

impl State {
    /// Takes it from the connection.
    pub(super) fn take(cx: &mut ConnCtx<'_>) -> State {
        let state = cx.take_state().and_then(|state| state.downcast().ok());
        state.map_or_else(State::default, |state| *state)
    }

    /// Stores it in the connection.
    pub(super) fn keep(self, cx: &mut ConnCtx<'_>) {
        let empty = self.assembly.is_none() && self.handshake.is_none() && self.posted.is_none();
        cx.keep_state((!empty).then(|| -> Box<dyn Any + Send> { Box::new(self) }));
    }

    /// Completes the POST: all of its packets are handled.
    pub(super) fn finish_post(&mut self, cx: &ConnCtx<'_>) {
        if let Some(posted) = self.posted.take()
            && posted.send(()).is_err()
        {
            tracing::trace!(connection_id = %cx.id(), "the client went away before its packets were handled");
        }
    }
}
