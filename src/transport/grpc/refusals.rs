//! `WatchRefusals`: recent refusals, then new ones as they happen.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};
use tokio_stream::Stream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::Status;

use super::reports;
use super::rpc_context::{Call, RpcContext};
use crate::admin::Viewer;
use crate::error::{Error, Result};
use crate::proto::{WatchRefusalsRequest, WatchRefusalsResponse};
use crate::session::Session;
use crate::telemetry::Span;

/// How often new refusals are sent: several at once, so that a flood of them makes few messages.
const PAUSE: Duration = Duration::from_millis(250);
/// The most refusals of one message.
const AT_ONCE: usize = 1000;

/// Refusals, again and again.
pub(super) struct WatchRefusals {
    viewer: Viewer,
    session: Session,
    /// The last one that was sent, or passed over.
    after: u64,
    /// Whether only recent ones are asked for.
    once: bool,
    every: Interval,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    context: RpcContext,
    span: Span,
    over: bool,
}

impl WatchRefusals {
    /// A stream whose span is not known yet.
    ///
    /// # Errors
    /// `permission_denied`, and `invalid_argument` for the field `recent`.
    pub(super) fn begin(call: Call<WatchRefusalsRequest>, context: RpcContext) -> Result<Self> {
        let viewer = Viewer::new(call.session.services(), call.session.identity())?;
        let recent = u64::from(call.message.recent);
        if recent > 1000 {
            return Err(Error::field("recent", "expected at most 1000"));
        }
        let newest = *viewer.refusals().watch().borrow();
        let mut every = tokio::time::interval(PAUSE);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(WatchRefusals {
            after: newest.saturating_sub(recent),
            once: call.message.once,
            viewer,
            session: call.session,
            every,
            stopping: Box::pin(context.stopping().clone().cancelled_owned()),
            context,
            span: Span::none(),
            over: false,
        })
    }

    /// The same within a span.
    pub(super) fn within(self, span: Span) -> Self {
        WatchRefusals { span, ..self }
    }
}

impl Stream for WatchRefusals {
    type Item = Result<WatchRefusalsResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.over {
                let span = std::mem::take(&mut this.span);
                this.context.finish(span, None);
                return Poll::Ready(None);
            }
            let failure = if this.stopping.as_mut().poll(cx).is_ready() {
                Err(Error::unavailable("the server restarts"))
            } else {
                std::task::ready!(this.every.poll_tick(cx));
                this.context.still_good(&this.session)
            };
            if let Err(error) = failure {
                this.over = true;
                let status = this.context.refuse(std::mem::take(&mut this.span), &error);
                return Poll::Ready(Some(Err(status)));
            }
            let recent = this.viewer.refusals().after(this.after, AT_ONCE);
            this.over = this.once;
            if let Some(last) = recent.refusals.last() {
                this.after = last.sequence;
                return Poll::Ready(Some(Ok(reports::refusals(&recent))));
            }
        }
    }
}
