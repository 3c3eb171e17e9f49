//! Publishing one event, several, or a stream of them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use prost::Message;
use tokio_stream::Stream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Status, Streaming};

use super::rpc_context::{Call, RpcContext};
use super::{messages, status};
use crate::error::{Error, Result};
use crate::event::TraceContext;
use crate::maybe_ready::{Awaited, BoxFuture, MaybeReady};
use crate::proto::{
    PublishBatchRequest, PublishBatchResponse, PublishRequest, PublishResponse,
    PublishStreamRequest, PublishStreamResponse,
};
use crate::session::{MAX_ANSWER_BYTES, Published, Session};
use crate::telemetry::Span;

/// The most events of one batch.
const MAX_BATCH: usize = 1000;
/// The most events of one stream that wait for their offsets at once.
const IN_FLIGHT: usize = 64;

/// Publishes one event.
///
/// # Errors
///
/// Those of [`Session::publish`], and invalid fields.
pub(super) async fn one(call: Call<PublishRequest>) -> Result<PublishResponse> {
    let answer = {
        let Call {
            session,
            message,
            trace,
            ..
        } = call;
        count_bytes(&session, &message);
        session.publish(messages::publish(message, trace)?)
    };
    answer.await.map(messages::published)
}

/// Publishes several events in order, each with its own result: all are started before the first is
/// awaited, so that a store can write them together.
///
/// # Errors
///
/// `invalid_argument` for the field `requests` if there are more than 1,000, or if the response
/// could be larger than clients accept. Then none of them is published.
pub(super) async fn batch(call: Call<PublishBatchRequest>) -> Result<PublishBatchResponse> {
    let Call {
        session,
        message,
        trace,
        ..
    } = call;
    if message.requests.len() > MAX_BATCH {
        return Err(Error::field("requests", "expected at most 1000"));
    }
    let sizes: Vec<usize> = message.requests.iter().map(answer_bytes).collect();
    if sizes.iter().sum::<usize>() > MAX_ANSWER_BYTES {
        session.services().metrics.limit_reached("answer_bytes");
        let text = format!(
            "the response could be more than {MAX_ANSWER_BYTES} bytes: send fewer requests at once, \
             or name fewer channels"
        );
        return Err(Error::field("requests", text));
    }
    let mut answers = Vec::with_capacity(message.requests.len());
    for request in message.requests {
        session.ready().await;
        answers.push(begin(&session, request, trace.clone()));
    }
    let mut responses = Vec::with_capacity(answers.len());
    for (at, (answer, most)) in answers.into_iter().zip(sizes).enumerate() {
        let published = answer
            .await
            .map_err(|error| error.within(&format!("requests[{at}]")));
        let brief = published.as_ref().err().map(|error| error.clone().brief());
        let mut answer = response(&session, published);
        if let Some(brief) = brief.filter(|_| answer.encoded_len() > most) {
            answer.error = Some(status::message(&brief));
        }
        responses.push(answer);
    }
    Ok(PublishBatchResponse { responses })
}

/// The most bytes of the response to a request: its results with a position each, or a brief error.
fn answer_bytes(request: &PublishRequest) -> usize {
    /// An event's id and its framing.
    const ID: usize = 64;
    /// A result without its channel: epoch, offset, subscribers and their framing.
    const RESULT: usize = 64;
    let results = request.channels.iter().map(|name| name.len() + RESULT);
    (ID + results.sum::<usize>()).max(Error::BRIEF)
}

/// Starts a publish. A caller that starts several awaits [`Session::ready`] before each.
fn begin(
    session: &Session,
    request: PublishRequest,
    trace: Option<TraceContext>,
) -> MaybeReady<Published> {
    count_bytes(session, &request);
    match messages::publish(request, trace) {
        Ok(publish) => session.publish_now(publish),
        Err(error) => MaybeReady::Ready(Err(error)),
    }
}

fn count_bytes(session: &Session, request: &PublishRequest) {
    session
        .services()
        .metrics
        .received(u64::try_from(request.data.len()).unwrap_or(u64::MAX));
}

/// The result of one of several requests.
fn response(session: &Session, published: Result<Published>) -> PublishResponse {
    match published {
        Ok(published) => messages::published(published),
        Err(error) => {
            session.services().metrics.error(error.code());
            PublishResponse {
                error: Some(status::message(&error)),
                ..PublishResponse::default()
            }
        }
    }
}

/// The results of a stream of events, in the order of the requests. Events are started in that
/// order too, up to [`IN_FLIGHT`] of them ahead of the oldest that has no offset yet.
pub(super) struct Publishing {
    requests: Streaming<PublishStreamRequest>,
    session: Session,
    context: RpcContext,
    span: Span,
    begun: VecDeque<Awaited<Published>>,
    /// Waits until the hub has capacity for the next event.
    ready: Option<BoxFuture<()>>,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Set once no more requests are read: how the stream ends after the last result.
    end: Option<End>,
}

enum End {
    Done,
    Broken(Status),
    Refused(Error),
}

impl Publishing {
    pub(super) fn new(
        call: Call<Streaming<PublishStreamRequest>>,
        context: RpcContext,
        span: Span,
    ) -> Self {
        Publishing {
            requests: call.message,
            session: call.session,
            span,
            begun: VecDeque::with_capacity(IN_FLIGHT),
            ready: None,
            stopping: Box::pin(context.stopping().clone().cancelled_owned()),
            context,
            end: None,
        }
    }

    /// Starts as many publishes as allowed.
    fn take_in(&mut self, cx: &mut Context<'_>) {
        if self.end.is_none() && self.stopping.as_mut().poll(cx).is_ready() {
            self.end = Some(End::Refused(Error::unavailable("the server restarts")));
        }
        while self.end.is_none() && self.begun.len() < IN_FLIGHT {
            if self.wait_until_ready(cx).is_pending() {
                return;
            }
            match Pin::new(&mut self.requests).poll_next(cx) {
                Poll::Pending => return,
                Poll::Ready(None) => self.end = Some(End::Done),
                Poll::Ready(Some(Err(broken))) => self.end = Some(End::Broken(broken)),
                Poll::Ready(Some(Ok(request))) => self.begin(request),
            }
        }
    }

    fn wait_until_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ready.is_none() && self.session.services().hub.is_full() {
            let session = self.session.clone();
            self.ready = Some(Box::pin(async move { session.ready().await }));
        }
        if let Some(ready) = &mut self.ready {
            std::task::ready!(ready.as_mut().poll(cx));
            self.ready = None;
        }
        Poll::Ready(())
    }

    fn begin(&mut self, PublishStreamRequest { request }: PublishStreamRequest) {
        if let Err(error) = self.context.still_good(&self.session) {
            self.end = Some(End::Refused(error));
            return;
        }
        let answer = match request {
            Some(request) => begin(&self.session, request, self.span.context()),
            None => MaybeReady::Ready(Err(Error::field("request", "expected an event to publish"))),
        };
        self.begun.push_back(answer.then(in_stream).into_future());
    }

    /// Ends the span, and returns the stream's status.
    fn finish(&mut self, end: End) -> Option<Status> {
        let span = std::mem::take(&mut self.span);
        self.end = Some(End::Done);
        match end {
            End::Done => {
                self.context.finish(span, None);
                None
            }
            End::Broken(status) => Some(status),
            End::Refused(error) => Some(self.context.refuse(span, &error)),
        }
    }
}

/// Names an invalid field relative to the stream's message.
fn in_stream(published: Result<Published>) -> Result<Published> {
    published.map_err(|error| match error.field_name() {
        Some("request") => error,
        _ => error.within("request"),
    })
}

impl Stream for Publishing {
    type Item = Result<PublishStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        // Events that arrived together are published together.
        let hub = Arc::clone(&this.session.services().hub);
        hub.wake_after(|| this.take_in(cx));
        if let Some(oldest) = this.begun.front_mut() {
            let published = std::task::ready!(Pin::new(oldest).poll(cx));
            this.begun.pop_front();
            let response = Some(response(&this.session, published));
            return Poll::Ready(Some(Ok(PublishStreamResponse { response })));
        }
        match this.end.take() {
            Some(end) => Poll::Ready(this.finish(end).map(Err)),
            None => Poll::Pending,
        }
    }
}
