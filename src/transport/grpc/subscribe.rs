//! Following channels: a stream is a connection on the bus, whose frames are ready-made messages.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_stream::Stream;
use tonic::Status;

use super::messages;
use super::rpc_context::Call;
use super::shared::SharedResponse;
use super::status::{ended, status};
use crate::error::{CloseCode, Error, Result};
use crate::event::{Event, Timestamp, TraceContext};
use crate::hub::{
    ConnCtx, ConnectionPermit, DialectId, Hub, Joined, Link, Notice, Opening, Pipe, PipeReader,
    Piped, Protocol, Refused,
};
use crate::proto::subscribe_response::Message as Step;
use crate::proto::{Gap, SubscribeRequest, Subscribed, SubscribedChannel, SubscriptionError};
use crate::session::{Session, Subscribe, Wanted};
use crate::telemetry::Transport;

/// What a request that names no channel follows.
const GLOBAL: &str = "global";

/// The dialect of followers: each frame is one encoded `SubscribeResponse`.
pub(super) struct Follower;

impl Protocol for Follower {
    fn transport(&self) -> Transport {
        Transport::Grpc
    }

    fn dialect(&self) -> DialectId {
        DialectId::GRPC
    }

    fn frames_join(&self) -> bool {
        // Each piece that leaves becomes a gRPC message of its own.
        false
    }

    fn event(&self, event: &Event) -> Bytes {
        SharedResponse::encoded(Step::Event(messages::event(event)))
    }

    fn notice(&self, notice: &Notice<'_>) -> Option<Bytes> {
        match *notice {
            Notice::Gap {
                channel,
                from,
                to,
                reason,
            } => {
                let (channel, reason) = (channel.to_owned(), reason.to_owned());
                Some(SharedResponse::encoded(Step::Gap(Gap {
                    channel,
                    from,
                    to,
                    reason,
                })))
            }
            Notice::Renumbered { channel, position } => {
                let again = SubscribedChannel {
                    channel: channel.to_owned(),
                    position: Some(messages::position(position)),
                    ..SubscribedChannel::default()
                };
                Some(SharedResponse::encoded(Step::Subscribed(Subscribed {
                    channels: vec![again],
                    ..Subscribed::default()
                })))
            }
            Notice::Unsubscribed { channel, error } => {
                let ended = SubscriptionError {
                    channel: channel.to_owned(),
                    code: error.code().as_str().to_owned(),
                    message: error.message(),
                };
                Some(SharedResponse::encoded(Step::Subscribed(Subscribed {
                    errors: vec![ended],
                    ..Subscribed::default()
                })))
            }
            Notice::Presence { .. }
            | Notice::TokenExpiring { .. }
            | Notice::Reconnect { .. }
            | Notice::Failure(_) => None,
        }
    }

    /// HTTP/2 has its own.
    fn heartbeat(&self, _now: Timestamp) -> Bytes {
        Bytes::new()
    }

    /// The end travels as the stream's status.
    fn close(&self, _code: CloseCode, _reason: &str) -> Bytes {
        Bytes::new()
    }

    /// Nothing ever comes: the request was all.
    fn received(&self, _cx: &mut ConnCtx<'_>, input: &mut [u8]) -> usize {
        input.len()
    }
}

/// Opens a connection on the bus and subscribes it. The stream begins with `subscribed`.
///
/// # Errors
/// What is wrong with the whole request, or with its only subscription; `unavailable` and
/// `resource_exhausted` where there is no place for one connection more.
pub(super) async fn follow(
    call: Call<SubscribeRequest>,
    protocol: Arc<dyn Protocol>,
) -> Result<Following> {
    let Call {
        session,
        message,
        address,
        trace,
    } = call;
    let services = session.services();
    let hub = Arc::clone(&services.hub);
    let asked = wanted(message, hub.settings().subscriptions_per_connection)?;
    let user = session.identity().user().cloned();
    let full = || {
        let full = user.as_ref().is_some_and(|user| !hub.user_has_room(user));
        full.then(|| {
            Error::exhausted("too many connections of this user (limits.connections_per_user)")
        })
    };
    let permit = full().map_or_else(|| hub.permit(address.ip()), Err);
    let permit = permit.inspect_err(|error| {
        services.not_let_in(address, Some(Transport::Grpc), error);
    })?;
    let begun = open(&hub, &session, asked, (address, permit), protocol, trace);
    match begun.await {
        Ok(reader) => Ok(Following { reader: reader? }),
        // The bus did not take the connection in.
        Err(_) => {
            Err(full().unwrap_or_else(|| Error::unavailable("the connection was not taken in")))
        }
    }
}

/// Hands the connection to a shard, which subscribes it and then gives the reading end back. It
/// comes from there, so that a caller who has gone meanwhile leaves nothing behind.
fn open(
    hub: &Arc<Hub>,
    session: &Session,
    asked: Subscribe,
    (address, permit): (SocketAddr, ConnectionPermit),
    protocol: Arc<dyn Protocol>,
    trace: Option<TraceContext>,
) -> oneshot::Receiver<Result<PipeReader>> {
    let (pipe, shareable) = Pipe::new();
    let (answer, begun) = oneshot::channel();
    let (services, identity) = (
        Arc::clone(session.services()),
        Arc::clone(session.identity()),
    );
    let greeting = move |cx: &mut ConnCtx<'_>| {
        let id = cx.id();
        let reader = shareable.reader(Arc::clone(cx.hub()), id);
        let span = cx
            .hub()
            .tracing()
            .subscribe(id, asked.channels.len(), trace.as_ref());
        let session = Session::new(Arc::clone(&services), identity, Some(id));
        cx.wait(session.subscribe(asked), move |cx, request| match request {
            Ok(request) => cx.join(request, move |cx, joined, refused| {
                drop(span);
                services.note_refused(cx.identity(), id, &refused);
                let stands = stand(cx, joined, refused).map(|()| reader);
                hand_over(cx, answer, stands);
            }),
            Err(error) => hand_over(cx, answer, Err(error)),
        });
    };
    hub.open(Opening {
        link: Link::Pipe(pipe),
        protocol,
        identity: Some(Arc::clone(session.identity())),
        address,
        permit,
        answer: Bytes::new(),
        early: Vec::new(),
        greeting: Box::new(greeting),
        nonce: Hub::new_nonce(),
    });
    begun
}

fn hand_over(
    cx: &mut ConnCtx<'_>,
    answer: oneshot::Sender<Result<PipeReader>>,
    stands: Result<PipeReader>,
) {
    if stands.is_err() {
        cx.close(CloseCode::Normal, "");
    }
    if answer.send(stands).is_err() {
        tracing::debug!(connection_id = %cx.id(), "the caller had gone before its subscription stood");
    }
}

/// Says how each subscription began, or fails if the only one was refused.
fn stand(cx: &mut ConnCtx<'_>, joined: Vec<Joined>, mut refused: Vec<Refused>) -> Result<()> {
    if joined.is_empty()
        && refused.len() == 1
        && let Some(only) = refused.pop()
    {
        return Err(only.error.within("subscriptions[0]"));
    }
    let subscribed = Subscribed {
        channels: joined.into_iter().map(channel).collect(),
        errors: refused.iter().map(subscription_error).collect(),
        connection_id: cx.id().to_string(),
    };
    for refused in &refused {
        cx.hub().metrics().error(refused.error.code());
    }
    cx.send(SharedResponse::encoded(Step::Subscribed(subscribed)));
    Ok(())
}

fn channel(joined: Joined) -> SubscribedChannel {
    SubscribedChannel {
        channel: joined.channel,
        position: joined.position.map(messages::position),
        recovered: joined.recovered,
        replayed: joined.replayed,
    }
}

fn subscription_error(refused: &Refused) -> SubscriptionError {
    SubscriptionError {
        channel: refused.channel.clone(),
        code: refused.error.code().as_str().to_owned(),
        message: refused.error.message(),
    }
}

/// What a request asks for; nothing means `global`.
fn wanted(request: SubscribeRequest, limit: usize) -> Result<Subscribe> {
    if request.subscriptions.len() > limit {
        let text =
            format!("expected at most {limit} subscriptions (limits.subscriptions_per_connection)");
        return Err(Error::exhausted(text));
    }
    let mut channels = Vec::with_capacity(request.subscriptions.len().max(1));
    for (at, asked) in request.subscriptions.into_iter().enumerate() {
        let since = asked.since.as_ref().map(messages::since).transpose();
        channels.push(Wanted {
            channel: asked.channel,
            since: since.map_err(|error| error.within(&format!("subscriptions[{at}]")))?,
            rewind: (asked.rewind > 0).then_some(asked.rewind),
        });
    }
    if channels.is_empty() {
        channels.push(Wanted {
            channel: GLOBAL.to_owned(),
            ..Wanted::default()
        });
    }
    Ok(Subscribe {
        channels,
        event_types: request.event_types,
        filter: request.filter,
        presence: false,
    })
}

/// A followed stream. Dropping it closes its connection.
pub(super) struct Following {
    reader: PipeReader,
}

impl Stream for Following {
    type Item = Result<SharedResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.reader)
            .poll_next(cx)
            .map(|piped| match piped? {
                Piped::Frame(frame) => Some(Ok(SharedResponse::new(frame))),
                Piped::End(code, reason) => ended(code, reason).map(|error| Err(status(&error))),
            })
    }
}
