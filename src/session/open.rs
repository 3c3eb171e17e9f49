//! From an admitted request to a connection on a shard: one way for every transport.
//!
//! The shard registers the connection, revalidates its identity and only then calls `on_open`.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::admission::Admitted;
use super::{Services, Session, Subscribe, Subscribing};
use crate::error::{CloseCode, Error, Result};
use crate::event::{ConnectionId, TraceContext};
use crate::hub::{
    ConnCtx, Hub, Joined, Link, Opening, PermitError, Pipe, PipeReader, Protocol, Refused,
    Shareable,
};

/// A new connection, as supplied by its transport.
pub struct NewConnection {
    /// How the shard reaches the client.
    pub link: Link,
    /// The hub's protocol for it.
    pub protocol: Arc<dyn Protocol>,
    /// The answer to the upgrade request, if it was not sent yet: it is sent with the first
    /// message.
    pub answer: Bytes,
    /// Bytes received after the request.
    pub early: Vec<u8>,
    /// Runs on the shard once the connection is registered.
    pub on_open: Box<dyn FnOnce(&mut ConnCtx<'_>) + Send>,
}

impl NewConnection {
    /// A connection without an answer of its own and without early bytes.
    pub fn new(
        link: Link,
        protocol: Arc<dyn Protocol>,
        on_open: impl FnOnce(&mut ConnCtx<'_>) + Send + 'static,
    ) -> Self {
        NewConnection {
            link,
            protocol,
            answer: Bytes::new(),
            early: Vec::new(),
            on_open: Box::new(on_open),
        }
    }
}

/// Hands an admitted connection to a shard.
pub fn open(hub: &Hub, admitted: Admitted, connection: NewConnection) {
    hub.open(Opening {
        link: connection.link,
        protocol: connection.protocol,
        identity: admitted.identity.unwrap_or_default(),
        address: admitted.address,
        request: admitted.request,
        forwarded: admitted.forwarded,
        permit: admitted.permit,
        answer: connection.answer,
        early: connection.early,
        nonce: ConnectionId::new_nonce(hub.node()),
        on_open: connection.on_open,
    });
}

/// Gives the reading end of a stream to the request that opened it. The reader is made on the shard
/// and travels with the reply: if the caller has gone, it is dropped, which ends the connection.
pub struct StreamReply<T> {
    pipe: Shareable,
    reply: oneshot::Sender<Result<(PipeReader, T)>>,
}

impl<T> StreamReply<T> {
    /// The stream has begun.
    pub fn accept(self, cx: &ConnCtx<'_>, with: T) {
        let reader = self.pipe.reader(Arc::clone(cx.hub()), cx.id());
        if self.reply.send(Ok((reader, with))).is_err() {
            tracing::debug!(connection_id = %cx.id(), "the client went away before its stream began");
        }
    }

    /// The request fails, and the connection ends.
    pub fn reject(self, cx: &mut ConnCtx<'_>, error: Error) {
        cx.close(CloseCode::for_code(error.code()), error.description());
        drop(self.reply.send(Err(error)));
    }
}

/// Opens a connection whose bytes the caller reads.
///
/// # Errors
/// That of [`StreamReply::reject`], or why the shard did not take the connection.
pub async fn open_stream<T: Send + 'static>(
    services: &Services,
    admitted: Admitted,
    protocol: Arc<dyn Protocol>,
    on_open: impl FnOnce(&mut ConnCtx<'_>, StreamReply<T>) + Send + 'static,
) -> Result<(PipeReader, T)> {
    let (link, pipe) = Pipe::new();
    let (reply, begun) = oneshot::channel();
    let identity = admitted.identity.clone().ok().flatten();
    let reply = StreamReply { pipe, reply };
    let connection = NewConnection::new(Link::Pipe(link), protocol, move |cx| on_open(cx, reply));
    open(&services.hub, admitted, connection);
    if let Ok(begun) = begun.await {
        return begun;
    }
    // Between admission and registration the token was revoked, the user has connected elsewhere, or
    // the shard has stopped.
    if let Some(identity) = identity {
        let refused = |failure| services.verifier.refused(failure);
        services.verifier.recheck(&identity).map_err(refused)?;
        if let Some(user) = identity.user() {
            services
                .hub
                .permits()
                .check_user(user)
                .map_err(PermitError::error)?;
        }
    }
    Err(Error::unavailable(
        "the shard did not accept the connection",
    ))
}

/// Opens a stream that begins with subscriptions. `first` decides whether the stream is kept, and
/// returns its first message and the data that the reader needs.
///
/// # Errors
///
/// The error of the subscriptions, that of `first`, or as [`open_stream`].
pub async fn open_subscribed<T: Send + 'static>(
    services: &Arc<Services>,
    admitted: Admitted,
    protocol: Arc<dyn Protocol>,
    wanted: Subscribe,
    trace: Option<TraceContext>,
    first: impl FnOnce(&ConnCtx<'_>, &[Joined], &[Refused]) -> Result<(Bytes, T)> + Send + 'static,
) -> Result<(PipeReader, T)> {
    let shared = Arc::clone(services);
    let subscribe = move |cx: &mut ConnCtx<'_>, reply: StreamReply<T>| {
        let identity = cx.identity().cloned().unwrap_or_default();
        let count = wanted.channels.len();
        let span = shared.tracing.subscribe(cx.id(), count, trace.as_ref());
        let session = Session::of_connection(&shared, &identity, cx);
        cx.wait(session.subscribe(wanted), move |cx, request| {
            let Subscribing { request, durable } = match request {
                Ok(request) => request,
                Err(error) => return reply.reject(cx, error),
            };
            cx.join(request, move |cx, mut joined, refused| {
                drop(span);
                durable.begun(&shared, &mut joined);
                shared.note_subscribed(cx.identity(), cx.id(), &joined, &refused);
                match first(cx, &joined, &refused) {
                    Ok((message, with)) => {
                        for refused in &refused {
                            cx.hub().metrics().error(refused.error.code());
                        }
                        cx.send(message);
                        reply.accept(cx, with);
                    }
                    Err(error) => reply.reject(cx, error),
                }
            });
        });
    };
    open_stream(services, admitted, protocol, subscribe).await
}
