//! `Subscribe`: a stream is a connection of the hub whose frames are encoded gRPC messages.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio_stream::Stream;
use tonic::Status;

use super::messages;
use super::rpc_context::Call;
use super::shared::SharedResponse;
use super::status::{ended, status};
use crate::error::{CloseCode, Error, Result};
use crate::event::{Event, Timestamp};
use crate::hub::{ConnCtx, DialectId, Joined, Notice, PipeReader, Piped, Protocol, Refused};
use crate::proto::server_message::Message;
use crate::proto::subscribe_response::Message as Step;
use crate::proto::{SubscribeRequest, Subscribed};
use crate::protocol::protobuf::schema;
use crate::protocol::{ServerMessage, protobuf};
use crate::session::{
    AdmissionRequest, Authentication, Credentials, Subscribe, Wanted, open_subscribed,
};
use crate::telemetry::Transport;

/// The channel of a request without channels.
const GLOBAL: &str = "global";

/// The hub's protocol for gRPC streams: each frame is one encoded `SubscribeResponse`.
pub(super) struct SubscribeProtocol;

impl Protocol for SubscribeProtocol {
    fn transport(&self) -> Transport {
        Transport::Grpc
    }

    fn dialect(&self) -> DialectId {
        DialectId::GRPC
    }

    fn frames_join(&self) -> bool {
        // Each frame becomes a gRPC message of its own.
        false
    }

    fn event(&self, event: &Event) -> Bytes {
        SharedResponse::encoded(Step::Event(messages::event(event)))
    }

    fn notice(&self, notice: &Notice<'_>) -> Option<Bytes> {
        step(protobuf::message(&ServerMessage::from(notice))).map(SharedResponse::encoded)
    }

    /// Proxies end a stream that is idle for a while, and do not count HTTP/2's own keep-alive.
    fn heartbeat(&self, now: Timestamp) -> Bytes {
        SharedResponse::encoded(Step::Heartbeat(schema::timestamp(now)))
    }

    /// The stream's status has the reason.
    fn close(&self, _code: CloseCode, _reason: &str) -> Bytes {
        Bytes::new()
    }

    /// The client sends nothing after its request.
    fn received(&self, _cx: &mut ConnCtx<'_>, input: &mut [u8]) -> usize {
        input.len()
    }
}

/// A message as a `SubscribeResponse`; `None` if that has no form for it.
fn step(message: Message) -> Option<Step> {
    if let Message::Gap(gap) = message {
        return Some(Step::Gap(gap));
    }
    if let Message::Unsubscribed(unsubscribed) = message {
        let errors = vec![unsubscribed.reason?];
        return Some(Step::Subscribed(Subscribed {
            errors,
            ..Subscribed::default()
        }));
    }
    if let Message::Subscribed(subscribed) = message {
        return Some(Step::Subscribed(subscribed));
    }
    None
}

/// Opens a connection of the hub and subscribes it. The stream begins with `subscribed`.
///
/// # Errors
///
/// The error of the whole request, or of its only subscription; `unavailable` and
/// `resource_exhausted` if the server accepts no more connections.
pub(super) async fn open(
    call: Call<SubscribeRequest>,
    protocol: Arc<dyn Protocol>,
) -> Result<SubscribeEvents> {
    let Call {
        session,
        message,
        address,
        headers,
        trace,
    } = call;
    let services = session.services();
    let wanted = wanted(
        message,
        services.hub.settings().subscriptions_per_connection,
    )?;
    let admission = AdmissionRequest {
        transport: Transport::Grpc,
        address,
        origin: None,
        credentials: Credentials::Verified(Arc::clone(session.identity())),
        authentication: Authentication::Now,
        headers: Some(&headers),
        trace: trace.as_ref(),
    };
    let admitted = services.admit(admission).await;
    let admitted = admitted.map_err(|rejection| rejection.error)?;
    let opened = open_subscribed(services, admitted, protocol, wanted, trace, first);
    let (reader, ()) = opened.await?;
    Ok(SubscribeEvents { reader })
}

/// The first message: the result of each subscription. Fails if the only one was refused.
fn first(cx: &ConnCtx<'_>, joined: &[Joined], refused: &[Refused]) -> Result<(Bytes, ())> {
    if let ([], [only]) = (joined, refused) {
        return Err(only.error.clone().within("subscriptions[0]"));
    }
    let subscribed = Subscribed {
        connection_id: cx.id().to_string(),
        ..protobuf::subscribed(joined, refused)
    };
    Ok((SharedResponse::encoded(Step::Subscribed(subscribed)), ()))
}

/// The subscriptions of a request; without any, `global`.
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

/// The stream of a subscription. Dropping it closes its connection.
pub(super) struct SubscribeEvents {
    reader: PipeReader,
}

impl Stream for SubscribeEvents {
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
