//! What is kept of a connection between two reads.

use std::any::Any;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::auth::Identity;
use crate::error::Result;
use crate::hub::ConnCtx;
use tidings_websocket::frame::Assembly;

/// Nothing of it is there on a connection that is idle in its namespace.
#[derive(Default)]
pub(super) struct State {
    /// A WebSocket message that has come in part.
    pub(super) assembly: Option<Box<Assembly>>,
    /// What the handshake said, until the client is in a namespace.
    pub(super) shown: Option<Shown>,
    /// Tells the request that brought packets that all of them are dealt with.
    pub(super) posted: Option<oneshot::Sender<()>>,
}

/// The identity of the handshake: `None` where a token must still be shown.
pub(super) type Shown = Arc<Result<Option<Arc<Identity>>>>;

impl State {
    /// Takes it from the connection.
    pub(super) fn take(cx: &mut ConnCtx<'_>) -> State {
        let state = cx.take_state().and_then(|state| state.downcast().ok());
        state.map_or_else(State::default, |state| *state)
    }

    /// Gives it back.
    pub(super) fn keep(self, cx: &mut ConnCtx<'_>) {
        let empty = self.assembly.is_none() && self.shown.is_none() && self.posted.is_none();
        cx.keep_state((!empty).then(|| -> Box<dyn Any + Send> { Box::new(self) }));
    }

    /// Every packet of a POST is dealt with.
    pub(super) fn all_done(&mut self, cx: &ConnCtx<'_>) {
        if let Some(posted) = self.posted.take()
            && posted.send(()).is_err()
        {
            tracing::trace!(connection_id = %cx.id(), "the client was gone before its packets were dealt with");
        }
    }
}
